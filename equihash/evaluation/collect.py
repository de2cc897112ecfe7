"""The results of many networks on one database: over models, variant tables and seeds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from os.path import commonprefix

import numpy as np

from equihash.config import read_variants
from equihash.errors import Remedy, UserError, nearest
from equihash.evaluation.metrics import METRICS, Answers
from equihash.evaluation.results import fingerprints_of
from equihash.experiment import DatabaseFiles, Experiment
from equihash.files import exists, read_json
from equihash.paths import CONFIGS, check_task, folders_with


@dataclass
class Line:
    """What the runs that differ only in their seed achieve with one number of lookups.

    Attributes
    ----------
    variant
        Empty for the model's own configuration.
    value
        Of the one key that varies in the table beside name and seed; None where that is no single key.
    nb_seeds
        Runs that have results.
    mean, spread
        Of each metric that a run has, over the runs; the spread is the sample standard deviation, NaN of one run.
    """

    model: str
    variant: str
    name: str
    value: object
    nb_lookups: int
    nb_seeds: int
    mean: dict[str, float]
    spread: dict[str, float]


@dataclass
class Collection:
    """All that was found.

    Attributes
    ----------
    lines : list of Line
    missing : list of (str, Remedy)
        Which rows have no results, and what makes them.
    warnings : list of str
        What makes lines hard to compare.
    """

    lines: list[Line] = field(default_factory=list)
    missing: list[tuple[str, Remedy]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Table:
    """The rows of one variant table, and the results of those that have any.

    The model's own configuration is row None of the variant None.
    """

    model: str
    variant: str | None
    experiments: dict[int | None, Experiment]
    results: dict[int | None, dict]


def collect(
    task: str, database: str, models: list[str] = (), variant: str | None = None, which: str = "test"
) -> Collection:
    """Collect results.json over the models of a task; see `read_tables`."""
    found, digests = Collection(), set()
    for table in read_tables(task, database, models, variant, which):
        found.lines += _lines(table)
        found.missing += _missing(table, database, which)
        for row, results in table.results.items():
            made_by, nb_steps = fingerprints_of(results), table.experiments[row].config["nb_steps"]
            digests |= {made_by["labels"]} if "labels" in made_by else set()
            if (step := made_by.get("step", nb_steps)) < nb_steps:
                network = f"{table.model} {results['name']}"
                found.warnings.append(f"{network} was evaluated at step {step:,} of {nb_steps:,}")
    if len(digests) > 1:
        found.warnings.append(f"not of the same labels, so that lines cannot be compared: {', '.join(sorted(digests))}")
    return found


def read_tables(
    task: str, database: str, models: list[str] = (), variant: str | None = None, which: str = "test"
) -> Iterator[Table]:
    """Read results.json of all rows of variant tables.

    Parameters
    ----------
    models
        Empty: all of the task.
    variant
        The variant table to look at; None: the model's own configuration, and every table that has results.

    Raises
    ------
    UserError
        A model or table does not exist, or a file is damaged.
    """
    check_task(task)
    there = sorted(folders_with(CONFIGS / task, "modelconfig.json"))
    if variant is not None and not models:
        models = [model for model in there if (CONFIGS / task / model / f"{variant}.json").is_file()]
        if not models:
            tables = {path.stem for path in (CONFIGS / task).glob("*/*.json")} - {"modelconfig"}
            raise UserError(f"unknown variant {variant!r} for {task}{nearest(variant, tables)}")
    for model in models or there:
        names = [variant]
        if variant is None:
            stems = (path.stem for path in sorted((CONFIGS / task / model).glob("*.json")))
            names += [stem for stem in stems if stem != "modelconfig"]
        for name in names:
            rows = [None] if name is None else range(len(read_variants(task, model, name)[1]))
            experiments = {row: Experiment(task, model, name, row) for row in rows}
            paths = {row: DatabaseFiles(each, database, which).results for row, each in experiments.items()}
            results = {row: read_json(path) for row, path in paths.items() if exists(path)}
            if results or name == variant:
                yield Table(model, name, experiments, results)


def ablated(task: str, model: str, variant: str) -> tuple[str | None, list]:
    """The single key that varies in a variant table beside name and seed, and its values in order of rows.

    None and an empty list where no key varies, or several do.
    """
    header, rows = read_variants(task, model, variant)
    varied = {key: values for key, *values in zip(header, *rows) if key not in ("name", "seed")}
    varying = [key for key, values in varied.items() if any(value != values[0] for value in values)]
    return (varying[0], varied[varying[0]]) if len(varying) == 1 else (None, [])


def _lines(table):
    groups = {}  # all values of a row but name and seed -> rows
    key, values = None, []
    if table.variant is None:
        groups = {None: list(table.results)} if table.results else {}
    else:
        task = next(iter(table.experiments.values())).task
        header, rows = read_variants(task, table.model, table.variant)
        key, values = ablated(task, table.model, table.variant)
        for row in table.results:
            same = tuple(str(value) for name, value in zip(header, rows[row]) if name not in ("name", "seed"))
            groups.setdefault(same, []).append(row)
    lines = []
    for rows in groups.values():
        name = _shared_name([table.results[row]["name"] for row in rows])
        value = values[rows[0]] if values else None
        if len(set(map(str, values))) < len(values):  # several seeds a value
            name = f"{key.split(':')[-1]} {value}"
        metrics = [_metrics(table.results[row]) for row in rows]
        for nb_lookups in sorted({number for each in metrics for number in each}):
            runs = [each[nb_lookups] for each in metrics if nb_lookups in each]
            keys = dict.fromkeys(key for run in runs for key in run)
            numbers = {key: [run.get(key, math.nan) for run in runs] for key in keys}
            mean = {metric: float(np.mean(each)) for metric, each in numbers.items()}
            spread = {m: float(np.std(each, ddof=1)) if len(runs) > 1 else math.nan for m, each in numbers.items()}
            lines.append(Line(table.model, table.variant or "", name, value, nb_lookups, len(runs), mean, spread))
    return lines


def _shared_name(names):
    """What the names of runs that differ in their seed have in common: of "best_s1" and "best_s2" it is "best"."""
    return names[0] if len(names) == 1 else commonprefix(names).rpartition("_")[0] or names[0]


def _metrics(results):
    """Metrics by number of lookups: {int: {str: float}}, NaN for what is null."""
    by_lookups = {int(number): row for number, row in results.get("lookups", {}).items()} | {1: results}
    metrics = {}
    for number, row in by_lookups.items():
        known = [key for key, metric in METRICS.items() if key in row and (number == 1 or metric.of is Answers)]
        metrics[number] = {key: math.nan if row[key] is None else float(row[key]) for key in known}
    return metrics


def _missing(table, database, which):
    """The rows of a table without results, if there are any: which, and the remedy."""
    missing = [row for row in table.experiments if row not in table.results]
    if not missing:
        return []
    experiment = table.experiments[missing[0]]
    evaluated = {"database_name": database} | ({} if which == "test" else {"which": which})
    if (precision := _precision(table)) != "float32":
        evaluated["precision"] = precision
    if table.variant is None:
        return [(table.model, Remedy("train", experiment, **evaluated))]
    title = f"{table.model} {table.variant}, {len(missing)} of {len(table.experiments)} rows ({_ranges(missing)})"
    rows = {} if len(missing) == 1 else {"variant_id": "all"}
    return [(title, Remedy("train", experiment, **rows, **evaluated))]


def _precision(table):
    """What the first of a table's trained networks that can be read was trained in; float32 if there is none."""
    for experiment in table.experiments.values():
        if exists(experiment.state_path):
            try:
                return experiment.load_state()["provenance"].get("precision", "float32")
            except UserError:  # train.py will say what is wrong with it; here it is only about a hint
                continue
    return "float32"


def _ranges(rows):
    """Row numbers as text: [0, 2, 3, 4] is "0, 2-4"."""
    runs = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
