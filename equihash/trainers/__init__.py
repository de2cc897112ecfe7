"""Trainers: one class a loss. A new module in this folder is found by itself; configurations name its class."""

import importlib
import inspect
import pkgutil

from equihash.trainers.trainer import Trainer

__all__ = ["Trainer"]

for _module in pkgutil.iter_modules(__path__):
    for _name, _value in vars(importlib.import_module(f"{__name__}.{_module.name}")).items():
        if inspect.isclass(_value) and issubclass(_value, Trainer) and _name not in __all__:
            globals()[_name] = _value
            __all__.append(_name)
