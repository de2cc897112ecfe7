"""Experiments are JSON: configs/TASK/taskconfig.json, configs/TASK/MODEL/modelconfig.json deep-merged over it,
one row of configs/TASK/MODEL/VARIANT.json over that, and the command line's key:sub:value over all.

The result is completed with the defaults of the classes that take the values, so that a configuration
always says everything, and no key that nothing reads goes unnoticed.
"""

import copy
import inspect
import json
from pathlib import Path

from equihash import datasets, models, trainers
from equihash.errors import UserError, nearest
from equihash.files import read_json

CONFIGS = Path("configs")
TOP_KEYS = {"name": str, "seed": int, "nb_steps": int, "eval_freq": int, "eval_size": int}
FREE = ("optim_kwargs", "lr_scheduler_kwargs")  # handed to classes of torch, which know their keys
CLASSES = {"network": models, "loader": datasets, "trainer": trainers}


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
    check_task(task)
    task_folder = CONFIGS / task
    model_folder = task_folder / model
    if not (model_folder / "modelconfig.json").is_file():
        models_there = _names(task_folder, "*/modelconfig.json")
        raise UserError(f"unknown model {model!r} for task {task}{nearest(model, models_there)}")
    config = merge(read_json(task_folder / "taskconfig.json"), read_json(model_folder / "modelconfig.json"))
    config = complete(config)
    if variant is not None:
        header, rows = read_variants(task, model, variant)
        if variant_id is None:
            raise UserError(f"variant {variant!r} has {len(rows)} rows: choose one with -i 0 to {len(rows) - 1}")
        if not 0 <= variant_id < len(rows):
            raise UserError(f"variant {variant!r} has rows 0 to {len(rows) - 1}, there is no row {variant_id}")
        for key, value in zip(header, rows[variant_id], strict=True):
            set_value(config, key.split(":"), value, f"{variant}.json")
    elif variant_id is not None:
        raise UserError("-i/--variant_id chooses a row of a variant table: name the table with -v/--variant")
    for override in overrides:
        _override(config, override)
    return complete(config)


def check_task(task):
    """Raise a `UserError` unless there is configs/TASK/taskconfig.json."""
    if not (CONFIGS / task / "taskconfig.json").is_file():
        raise UserError(f"unknown task {task!r}{nearest(task, _names(CONFIGS, '*/taskconfig.json'))}")


def read_variants(task, model, variant):
    """Return the header and the rows of a variant table: (list of str, list of lists)."""
    folder = CONFIGS / task / model
    path = folder / f"{variant}.json"
    if not path.is_file():
        there = [file.stem for file in folder.glob("*.json") if file.stem != "modelconfig"]
        raise UserError(f"unknown variant {variant!r} for {task} {model}{nearest(variant, there)}")
    table = read_json(path)
    if not (isinstance(table, list) and len(table) > 1 and all(isinstance(row, list) for row in table)):
        raise UserError(f"{path} must be a list of rows: a header of key:sub:key strings, then one row a variant")
    header, *rows = table
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise UserError(f"{path}: row {number} has {len(row)} values for {len(header)} keys")
    if "name" in header:
        names = [row[header.index("name")] for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"{path}: two variants are called {twice[0]!r} and would overwrite each other")
    return header, rows


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
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            raise UserError(f"configuration key {key!r} must be {kind.__name__}, not {config[key]!r}")
        if kind is int and config[key] < (1 if key.startswith("eval") else 0):
            raise UserError(f"configuration key {key!r} must not be {config[key]}")
        complete_config[key] = config[key]
    for role in CLASSES:
        cls = find_class(config, role)
        takes = {name: default for name, default in parameters(cls).items() if name not in GIVEN[role]}
        given = config.get(f"{role}_kwargs", {})
        for name in given:
            if name not in takes:
                raise UserError(f"{cls.__name__} takes no {role}_kwargs:{name}{nearest(name, takes)}")
        kwargs = {}
        for name, default in takes.items():
            if name not in given and default is inspect.Parameter.empty:
                raise UserError(f"{cls.__name__} needs {role}_kwargs:{name}")
            kwargs[name] = copy.deepcopy(given.get(name, default))
            if isinstance(default, dict):
                kwargs[name] = _complete_dict(f"{role}_kwargs:{name}", kwargs[name], default)
        complete_config[f"{role}_class"] = cls.__name__
        complete_config[f"{role}_kwargs"] = kwargs
    return complete_config


def _complete_dict(path, given, default):
    """Fill in the defaults of a dict of keywords; where there are none, any keyword goes (those of torch)."""
    if not isinstance(given, dict):
        raise UserError(f"{path} must be a dict, not {json.dumps(given)}")
    for key in given:
        if default and key not in default:
            raise UserError(f"unknown key {path}:{key}{nearest(key, default)}")
    return {**copy.deepcopy(default), **given}


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


def _names(folder, pattern):
    return [path.parent.name for path in folder.glob(pattern)]
