"""Finding the classes that a configuration can name: a new module in a package's folder is enough."""

import importlib
import inspect
import pkgutil


def find_classes(package: str, base: type) -> dict[str, type]:
    """Import the modules of a package, and return the subclasses of `base` that they define, by name.

    `base` itself and classes whose names start with an underscore are left out. An `ImportError` if two modules define
    classes of the same name.
    """
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.name
            if not own or value is base or name.startswith("_"):
                continue
            if name in found:
                raise ImportError(f"{found[name].__module__} and {module.name} both define {name}: rename one")
            found[name] = value
    return found
