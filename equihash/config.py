"""Experiments are JSON: configs/TASK/taskconfig.json, configs/TASK/MODEL/modelconfig.json deep-merged over it,
one row of configs/TASK/MODEL/VARIANT.json over that, and the command line's key:sub:value over all.

The result is completed with the defaults of the classes that take the values, so that a configuration
always says everything, and no key that nothing reads goes unnoticed.
"""

import copy
import inspect
import json
import re

import torch

from equihash import datasets, models, optimizers, trainers
from equihash.errors import UserError, nearest
from equihash.files import read_json
from equihash.paths import CONFIGS, check_model

TOP_KEYS = {"name": str, "seed": int, "nb_steps": int, "eval_freq": int, "eval_size": int}
FREE = ("optim_kwargs", "lr_scheduler_kwargs")  # handed to optimizers and schedules, which know their keys
CLASSES = {"network": models, "loader": datasets, "trainer": trainers}
# the least that makes sense, by the last part of the key
LEAST = {
    **dict.fromkeys(("nb_steps", "seed", "sigma", "clip_value", "maximum_slope", "branching_point", "prior"), 0),
    **dict.fromkeys(("eval_freq", "eval_size", "size", "height", "width", "nb_batch_per_step", "nb_classes"), 1),
    **dict.fromkeys(("batch_size", "step_size", "shannon_tuple_cover_size"), 1),
    **{"shannon_tuple_size": 2, "k": 8},
}
WANT_MORE = ("LBFGS", "SparseAdam", "ReduceLROnPlateau")  # than the gradient, at each step
MOST = {"seed": 2**32 - 1, "k": 2**16, "size": 2**24, "height": 8, "width": 8}


def load_config(task, model, variant=None, variant_id=None, overrides=()):
    """Return the merged, completed and checked configuration of one experiment.

    Parameters
    ----------
    task, model : str
        Folders of configs/.
    variant : str or None
        Name of a variant table, configs/TASK/MODEL/VARIANT.json.
    variant_id : int or None
        Row of the table, from 0; needed with `variant`.
    overrides : iterable of "key:sub:value" strings

    Raises
    ------
    UserError
        Something does not exist, or a value does not fit.
    """
    check_model(task, model)
    task_folder = CONFIGS / task
    model_folder = task_folder / model
    config = complete(merge(*map(_read_dict, (task_folder / "taskconfig.json", model_folder / "modelconfig.json"))))
    if variant is not None:
        header, rows = read_variants(task, model, variant)
        if variant_id is None:
            raise UserError(f"variant {variant!r} has {len(rows)} rows: choose one with -i 0 to {len(rows) - 1}")
        if not 0 <= variant_id < len(rows):
            raise UserError(f"variant {variant!r} has rows 0 to {len(rows) - 1}, there is no row {variant_id}")
        for key, value in zip(header, rows[variant_id], strict=True):
            set_value(config, key.split(":"), value, f"{variant}.json")
        _check_only_one(model_folder, variant, config["name"])
    elif variant_id is not None:
        raise UserError("-i/--variant_id chooses a row of a variant table: name the table with -v/--variant")
    for override in overrides:
        _override(config, override)
    return complete(config)


def read_variants(task, model, variant):
    """Return the header and the rows of a variant table: (list of str, list of lists)."""
    check_model(task, model)
    folder = CONFIGS / task / model
    path = folder / f"{variant}.json"
    there = [file.stem for file in folder.glob("*.json") if file.stem != "modelconfig"]
    if variant not in there:
        raise UserError(f"unknown variant {variant!r} for {task} {model}{nearest(variant, there)}")
    table = read_json(path)
    if not (isinstance(table, list) and len(table) > 1 and all(isinstance(row, list) for row in table)):
        raise UserError(f"{path} must be a list of rows: a header of key:sub:key strings, then one row a variant")
    header, *rows = table
    if not all(isinstance(key, str) for key in header) or len(set(header)) < len(header) or "name" not in header:
        raise UserError(f"{path}: the header must be different key:sub:key strings, `name` among them")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise UserError(f"{path}: row {number} has {len(row)} values for {len(header)} keys")
    names = [row[header.index("name")] for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two variants are called {twice!r} and would overwrite each other")
    return header, rows


def _check_only_one(folder, variant, name):
    """Refuse a row whose name a row of another table has, or the model without a variant."""
    if name == read_json(folder / "modelconfig.json").get("name"):
        raise UserError(f"{folder / variant}.json: a variant is called {name!r} like the model without one")
    for path in sorted(folder.glob("*.json")):
        table = read_json(path) if path.stem not in ("modelconfig", variant) else None
        if not (isinstance(table, list) and table and isinstance(table[0], list) and "name" in table[0]):
            continue
        column = table[0].index("name")
        if any(isinstance(row, list) and row[column : column + 1] == [name] for row in table[1:]):
            raise UserError(f"{folder / variant}.json and {path} both have a variant {name!r}: rename one")


def _read_dict(path):
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a dict of keys and values")
    return content


def merge(base, over):
    """Return `base` deep-merged with `over`, whose values win; neither is changed."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def parameters(cls):
    """Return {name: default} of what `cls(...)` takes by keyword, those it hands on to its bases included."""
    found = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = inspect.signature(base.__init__).parameters
        for name, parameter in own.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name != "self":
                found.setdefault(name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return found


# what the scripts give to the classes, not the configuration
GIVEN = {"network": (), "loader": ("which", "device", "seed"), "trainer": ("network", "loader", "modules", "precision")}


def complete(config):
    """Return `config` with the defaults of its classes filled in, after checking every key.

    Raises
    ------
    UserError
        A key is missing or unknown, a class does not exist, or a top-level value has the wrong type.
    """
    known = [*TOP_KEYS, *(f"{role}_{part}" for role in CLASSES for part in ("class", "kwargs"))]
    for key in config:
        if key not in known:
            raise UserError(f"unknown configuration key {key!r}{nearest(key, known)}")
    complete_config = {}
    for key, kind in TOP_KEYS.items():
        if key not in config:
            raise UserError(f"the configuration lacks {key!r}")
        complete_config[key] = _checked(key, config[key], kind())
    if not re.fullmatch(r"[\w.,=+-]*[\w,=+-]", complete_config["name"]):
        raise UserError(f"configuration key 'name' becomes a folder, it must not be {complete_config['name']!r}")
    for role in CLASSES:
        cls = find_class(config, role)
        takes = {name: default for name, default in parameters(cls).items() if name not in GIVEN[role]}
        given = config.get(f"{role}_kwargs", {})
        if not isinstance(given, dict):
            raise UserError(f"{role}_kwargs must be a dict, not {json.dumps(given)}")
        for name in given:
            if name not in takes:
                raise UserError(f"{cls.__name__} takes no {role}_kwargs:{name}{nearest(name, takes)}")
        kwargs = {}
        for name, default in takes.items():
            if name not in given and default is inspect.Parameter.empty:
                raise UserError(f"{cls.__name__} needs {role}_kwargs:{name}")
            kwargs[name] = _checked(f"{role}_kwargs:{name}", copy.deepcopy(given.get(name, default)), default)
        complete_config[f"{role}_class"] = cls.__name__
        complete_config[f"{role}_kwargs"] = kwargs
    _check_torch_classes(complete_config["trainer_kwargs"])
    return complete_config


def _checked(path, value, default):
    """Return `value`, of the type of `default` and within its bounds, a dict completed with the default's keys."""
    key = path.split(":")[-1]
    if isinstance(default, dict):
        if not isinstance(value, dict):
            raise UserError(f"{path} must be a dict, not {json.dumps(value)}")
        for sub in value:
            if default and sub not in default:
                raise UserError(f"unknown key {path}:{sub}{nearest(sub, default)}")
        # where there are no defaults, any keyword goes: they are torch's
        return {**value, **{sub: _checked(f"{path}:{sub}", value.get(sub, d), d) for sub, d in default.items()}}
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default in (None, inspect.Parameter.empty):  # says nothing of the type
        kind = str if key.endswith("path") else int if key in LEAST else object
    else:
        kind = (list, tuple) if isinstance(default, (list, tuple)) else type(default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float)):
        if value is not None or default is not None:
            name = getattr(kind, "__name__", "list")
            raise UserError(f"configuration key {path!r} must be {name}, not {json.dumps(value)}")
    if value is not None and (key in LEAST and not value >= LEAST[key] or key in MOST and not value <= MOST[key]):
        raise UserError(f"configuration key {path!r} must not be {value}")
    return value


def _check_torch_classes(kwargs):
    """Check the names of the optimizer and the schedule, and the keys they are given."""
    schedulers = torch.optim.lr_scheduler
    for role, module, base in (
        ("optim", optimizers, torch.optim.Optimizer),
        ("lr_scheduler", schedulers, schedulers.LRScheduler),
    ):
        name = kwargs.get(f"{role}_class", "")
        if not name and (role == "lr_scheduler" or name == ""):
            continue
        classes = {key for key, cls in vars(module).items() if inspect.isclass(cls) and issubclass(cls, base)}
        classes -= {base.__name__, "_LRScheduler", *WANT_MORE}
        if name not in classes:
            raise UserError(f"unknown trainer_kwargs:{role}_class {name!r}{nearest(name, classes)}")
        takes = [*inspect.signature(getattr(module, name)).parameters][1:]
        for key in kwargs.get(f"{role}_kwargs") or {}:
            if key not in takes:
                raise UserError(f"{name} takes no trainer_kwargs:{role}_kwargs:{key}{nearest(key, takes)}")


def find_class(config, role):
    """Return the class that the configuration names for "network", "loader" or "trainer"."""
    module = CLASSES[role]
    name = config.get(f"{role}_class")
    if name not in module.__all__:
        raise UserError(f"unknown {role}_class {name!r}{nearest(name, module.__all__)}")
    return getattr(module, name)


def set_value(config, path, value, source):
    """Set `config[path[0]][path[1]]...` to `value`, keeping the type of what stands there.

    Raises
    ------
    UserError
        There is no such key, or `value` is of another type; `source` says where it came from.
    """
    *parents, last = path
    for key in parents:
        if not isinstance(config, dict) or key not in config:
            raise UserError(f"{source}: unknown key {':'.join(path)!r}{_nearest_key(config, key)}")
        config = config[key]
    free = path[-2:-1] and path[-2] in FREE
    if not isinstance(config, dict) or (last not in config and not free):
        raise UserError(f"{source}: unknown key {':'.join(path)!r}{_nearest_key(config, last)}")
    old = config.get(last)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if old is not None and type(value) is not type(old):
        raise UserError(f"{source}: {':'.join(path)} must be {type(old).__name__}, not {json.dumps(value)}")
    config[last] = value


def differences(config, other):
    """List "key:sub: a, not b" for every value in which two complete configurations differ."""
    found = []
    for key in {**config, **other}:
        if isinstance(config.get(key), dict) and isinstance(other.get(key), dict):
            found += [f"{key}:{line}" for line in differences(config[key], other[key])]
        elif config.get(key) != other.get(key):
            found.append(f"{key} {json.dumps(config.get(key))}, not {json.dumps(other.get(key))}")
    return found


def _override(config, text):
    """Apply one "key:sub:value" of the command line."""
    path, rest, place = [], text, config
    while isinstance(place, dict):
        key, colon, rest = rest.partition(":")
        path.append(key)
        if key not in place and not (path[:-1] and path[-2] in FREE):
            raise UserError(f"-a {text}: unknown key {':'.join(path)!r}{_nearest_key(place, key)}")
        if not colon:
            raise UserError(f"-a {text}: write key:sub:value")
        place = place.get(key)
        if path[-1] in FREE and rest.startswith("{"):
            break  # the whole dict at once
    set_value(config, path, _parse(rest, place), f"-a {text}")


def _parse(text, old):
    """Read `text` as JSON where that gives a value of the type of `old`, else as it stands."""
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return int(value) if isinstance(old, int) and isinstance(value, float) and value.is_integer() else value


def _nearest_key(place, key):
    return nearest(key, place) if isinstance(place, dict) else ""
