"""Experiments are JSON: configs/TASK/taskconfig.json, configs/TASK/MODEL/modelconfig.json deep-merged over it,
one row of configs/TASK/MODEL/VARIANT.json over that, and the command line's key:sub:value over all.

A layer that names a class drops the keys of the layers below that only other classes have. The result is completed with
the defaults of its classes, so that a configuration is complete, and a key that nothing reads is an error.
"""

import copy
import json
import re
from collections.abc import Iterable

from equihash import datasets, models, optimizers, trainers
from equihash.errors import UserError, nearest
from equihash.files import read_json
from equihash.paths import CONFIGS, check_model
from equihash.signatures import FIXED, REQUIRED, bounds_of, parameters

TOP_KEYS = {"name": str, "seed": int, "nb_steps": int, "eval_freq": int, "eval_size": int}
BOUNDS = {"seed": (0, 2**32 - 1), "nb_steps": (0, None), "eval_freq": (1, None), "eval_size": (1, None)}
RECIPE = ("optim_class", "optim_kwargs", "lr_scheduler_class", "lr_scheduler_kwargs")
FREE = RECIPE[1::2]  # passed to optimizers and schedules, which know their keys
CLASSES = {"network": models, "loader": datasets, "trainer": trainers}
# arguments from the scripts, not from the configuration
GIVEN = {"network": (), "loader": ("which", "device", "seed"), "trainer": ("network", "loader", "modules", "precision")}


def load_config(
    task: str,
    model: str,
    variant: str | None = None,
    variant_id: int | None = None,
    overrides: Iterable[str] = (),
) -> dict:
    """Return the merged, completed and checked configuration of one experiment.

    Parameters
    ----------
    task, model
        Folders of configs/.
    variant
        Name of a variant table, configs/TASK/MODEL/VARIANT.json.
    variant_id
        Row of the table, from 0; needed with `variant`.
    overrides
        "key:sub:value" strings.
    """
    check_model(task, model)
    task_folder = CONFIGS / task
    model_folder = task_folder / model
    config = {}
    for path in (task_folder / "taskconfig.json", model_folder / "modelconfig.json"):
        layer = read_json(path)
        if not isinstance(layer, dict):
            raise UserError(f"{path} must be a dict of keys and values")
        config = merge(_without_foreign_keys(config, layer), layer)
    if variant is not None:
        header, rows = read_variants(task, model, variant)
        if variant_id is None:
            raise UserError(f"variant {variant!r} is a table: choose a row with -i/--variant_id, 0 to {len(rows) - 1}")
        if not 0 <= variant_id < len(rows):
            raise UserError(f"variant {variant!r} has rows 0 to {len(rows) - 1}, there is no row {variant_id}")
        row = dict(zip(header, rows[variant_id], strict=True))
        config, places = _with_classes(config, row)
        for key, value in row.items():
            _set_value(config, places, key.split(":"), value, f"{variant}.json")
        _check_name(task, model, variant, config["name"])
    elif variant_id is not None:
        raise UserError("-i/--variant_id chooses a row of a variant table: name the table with -v/--variant")
    config, places = _with_classes(config, dict(text.split(":", 1) for text in overrides if ":" in text))
    for text in overrides:
        _override(config, places, text)
    return complete(config)


def read_variants(task: str, model: str, variant: str) -> tuple[list[str], list[list]]:
    """Return the header and the rows of a variant table."""
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
    names = _names(header, rows)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two variants are called {twice!r} and would overwrite each other")
    return header, rows


def _names(header, rows):
    return [row[header.index("name")] for row in rows]


def _check_name(task, model, variant, name):
    """Refuse the name of a row if another table or modelconfig.json has it, too: the runs would share a folder."""
    folder = CONFIGS / task / model
    for path in sorted({*folder.glob("*.json")} - {folder / f"{variant}.json"}):
        alone = path.stem == "modelconfig"
        if name in ([read_json(path).get("name")] if alone else _names(*read_variants(task, model, path.stem))):
            raise UserError(f"{folder / variant}.json and {path} both have the name {name!r}: rename one")


def merge(base: dict, over: dict) -> dict:
    """Return `base` deep-merged with `over`, whose values win; neither is changed."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _without_foreign_keys(config, layer):
    """Return `config` without the kwargs that are none of the classes in `layer`, but of other classes."""
    config = dict(config)
    for role, module in CLASSES.items():
        given = config.get(f"{role}_kwargs")
        if f"{role}_class" in layer and isinstance(given, dict):
            every = [_takes(getattr(module, name), role) for name in module.__all__]
            config[f"{role}_kwargs"] = _taken(given, _takes(find_class(layer, role), role), every, f"{role}_kwargs")
    return config


def _taken(given, takes, every, path):
    """Return the part of `given` that is in `takes`; a key that is in none of `every` is a mistake."""
    taken = {}
    for name, value in given.items():
        if not any(name in each for each in every):
            raise UserError(f"unknown key {path}:{name}{nearest(name, set().union(*every))}")
        if isinstance(value, dict) and isinstance(takes.get(name), dict) and takes[name]:
            others = [each[name] for each in every if isinstance(each.get(name), dict)]
            value = _taken(value, takes[name], others, f"{path}:{name}")
        if takes.get(name, FIXED) is not FIXED:
            taken[name] = value
    return taken


def _with_classes(config, layer):
    """Return `config` with the classes in `layer`, and the tree of all its places for values."""
    classes = {key: layer[key] for key in (f"{role}_class" for role in CLASSES) if key in layer}
    config = merge(_without_foreign_keys(config, classes), classes)
    return config, _places(_defaults(config), config)


def _places(default, given):
    """Merge defaults, which win, with given values, which tell the type where the default is None or absent."""
    if isinstance(default, dict) and isinstance(given, dict):
        return {key: _places(default.get(key), given.get(key)) for key in {**default, **given}}
    return given if default is None or default is REQUIRED else default


def _takes(cls, role):
    return {name: default for name, default in parameters(cls).items() if name not in GIVEN[role]}


def _defaults(config):
    """Return the tree of all keys with their defaults, those of the classes that `config` names."""
    known = [*TOP_KEYS, *(f"{role}_{part}" for role in CLASSES for part in ("class", "kwargs"))]
    for key in config:
        if key not in known:
            raise UserError(f"unknown configuration key {key!r}{nearest(key, known)}")
    defaults = {key: kind() for key, kind in TOP_KEYS.items()}
    for role in CLASSES:
        cls = find_class(config, role)
        defaults.update({f"{role}_class": cls.__name__, f"{role}_kwargs": _takes(cls, role)})
    return defaults


def complete(config: dict) -> dict:
    """Return `config` with the defaults of its classes filled in.

    A `UserError` if a key is missing or unknown, a class does not exist, or a value is of the wrong type or out of
    bounds.
    """
    completed = _defaults(config)
    for key in TOP_KEYS:
        if key not in config:
            raise UserError(f"the configuration lacks {key!r}")
        completed[key] = _checked(key, config[key], completed[key], BOUNDS)
    if not re.fullmatch(r"[\w.,=+-]*[\w,=+-]", completed["name"]):
        raise UserError(f"configuration key 'name' becomes a folder, it must not be {completed['name']!r}")
    for role in CLASSES:
        cls, path = find_class(config, role), f"{role}_kwargs"
        takes, given = completed[path], _checked(path, config.get(path, {}), {}, {})
        for name in given:
            if name not in takes:
                raise UserError(f"{cls.__name__} takes no {path}:{name}{nearest(name, takes)}")
            if takes[name] is FIXED:
                raise UserError(f"{cls.__name__} sets {path}:{name} itself: leave it out")
        bounds = {f"{path}:{key}": pair for key, pair in bounds_of(cls).items()}
        completed[path] = {}
        for name, default in takes.items():
            if name not in given and default is REQUIRED:
                raise UserError(f"{cls.__name__} needs {path}:{name}")
            if default is not FIXED:
                value = copy.deepcopy(given.get(name, default))
                completed[path][name] = _checked(f"{path}:{name}", value, default, bounds)
    return completed


def try_recipe(config: dict) -> None:
    """Try the optimizer and the schedule of a complete configuration; a `UserError` if they refuse a value.

    Apart from `complete`, as PyTorch takes two seconds to make its first optimizer, and only training needs one.
    """
    recipe = {key: value for key, value in config["trainer_kwargs"].items() if key in RECIPE}
    if len(recipe) == len(RECIPE):  # else the trainer sets some of it itself
        optimizers.try_out(config["nb_steps"], **recipe)


def _checked(path, value, default, bounds):
    """Return `value`, of the type of `default` and within its bounds, a dict completed with the default's keys."""
    if isinstance(default, dict):
        if not isinstance(value, dict):
            raise UserError(f"{path} must be a dict, not {json.dumps(value)}")
        for sub in value:
            if default and sub not in default:
                raise UserError(f"unknown key {path}:{sub}{nearest(sub, default)}")
        # with no defaults, any keyword is right: they are torch's
        return {**value, **{sub: _checked(f"{path}:{sub}", value.get(sub, d), d, bounds) for sub, d in default.items()}}
    least, most = bounds.get(path, (None, None))
    if default is None or default is REQUIRED:  # does not tell the type
        kind = str if path.endswith("path") else object if least is None else type(least)
    else:
        kind = (list, tuple) if isinstance(default, (list, tuple)) else type(default)
    if kind is float and type(value) is int:
        value = float(value)
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind in (int, float))
    if not fits and (value is not None or default is not None):
        kind = getattr(kind, "__name__", "list")
        raise UserError(f"configuration key {path!r} must be {kind}, not {json.dumps(value)}")
    for bound, word in ((least, "at least"), (most, "at most")):
        if None not in (value, bound) and not (value >= bound if word == "at least" else value <= bound):
            raise UserError(f"configuration key {path!r} must not be {value}, but {word} {bound}")
    return value


def find_class(config: dict, role: str) -> type:
    """Return the class that the configuration names for "network", "loader" or "trainer"."""
    module = CLASSES[role]
    name = config.get(f"{role}_class")
    if name not in module.__all__:
        raise UserError(f"unknown {role}_class {name!r}{nearest(name, module.__all__)}")
    return getattr(module, name)


def differences(config: dict, other: dict) -> list[str]:
    """List "key:sub: a, not b" for every value in which two complete configurations differ."""
    found = []
    for key in {**config, **other}:
        if isinstance(config.get(key), dict) and isinstance(other.get(key), dict):
            found += [f"{key}:{line}" for line in differences(config[key], other[key])]
        elif config.get(key) != other.get(key):
            found.append(f"{key} {json.dumps(config.get(key))}, not {json.dumps(other.get(key))}")
    return found


def _set_value(config, places, path, value, source):
    """Set `config[path[0]][path[1]]...` if there is such a place; error messages start with `source`."""
    for depth, key in enumerate(path):
        free = depth and path[depth - 1] in FREE
        if not isinstance(places, dict) or (key not in places and not free):
            there = places if isinstance(places, dict) else ()
            raise UserError(f"{source}: unknown key {':'.join(path[: depth + 1])!r}{nearest(key, there)}")
        places = places.get(key)
    if free and isinstance(places, float) and type(value) is int:
        value = float(value)
    if free and places is not None and type(value) is not type(places):
        raise UserError(f"{source}: {':'.join(path)} must be {type(places).__name__}, not {json.dumps(value)}")
    for key in path[:-1]:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    config[path[-1]] = value


def _override(config, places, text):
    """Apply one "key:sub:value" of the command line."""
    path, colon, rest, place = [], ":", text, places
    while colon and isinstance(place, dict) and not (path and path[-1] in FREE and rest.startswith("{")):
        key, colon, rest = rest.partition(":")
        path.append(key)
        place = place.get(key)
    if not colon:
        raise UserError(f"{text}: unknown key, or no value: write key:sub:value")
    _set_value(config, places, path, _parse(rest, place), text)


def _parse(text, old):
    """Return `text` read as JSON, or itself where `old` is a str or it is not JSON."""
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return int(value) if isinstance(old, int) and isinstance(value, float) and value.is_integer() else value
