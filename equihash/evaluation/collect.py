"""The results of one database over models, variant tables and seeds."""

import math
from dataclasses import dataclass

import numpy as np

from equihash.config import read_variants
from equihash.errors import UserError, nearest
from equihash.evaluation.metrics import Answers, columns
from equihash.experiment import DatabaseFiles, Experiment
from equihash.files import read_json
from equihash.fingerprints import expected_work
from equihash.paths import CONFIGS, check_task, folders_with


@dataclass
class Line:
    """What the runs that differ only in their seed achieve with one number of lookups.

    Attributes
    ----------
    model, variant, name : str
        `variant` is empty for the model's own configuration.
    value : int, float, str or None
        Of the one key that varies in the table beside name and seed; None where that is no single key.
    nb_lookups : int
    nb_seeds : int
        Runs that have results.
    mean, spread : dict of metric to float
        Over the runs; the spread is the sample standard deviation, NaN of one run. The same metrics in all lines of
        one number of lookups.
    """

    model: str
    variant: str
    name: str
    value: object
    nb_lookups: int
    nb_seeds: int
    mean: dict
    spread: dict


@dataclass
class Collection:
    """All that was found: the lines, the commands that make what is missing, and what makes lines hard to compare."""

    lines: list
    missing: list
    warnings: list


def collect(task, database, models=(), variant=None):
    """Collect results.json over the models of a task.

    Parameters
    ----------
    task, database : str
    models : sequence of str
        Empty: all of the task.
    variant : str or None
        The variant table to look at; None: the model's own configuration, and every table that has results.

    Returns
    -------
    Collection

    Raises
    ------
    UserError
        A model or table does not exist, or a file is damaged.
    """
    found = Collection([], [], [])
    digests = set()
    for model, table, experiments, results in results_of_tables(task, database, models, variant):
        found.lines += _lines(model, table, results)
        found.missing += _missing(experiments, results, database)
        found.warnings += _unfinished(experiments, results)
        digests |= {_fingerprints(each).get("labels") for each in results.values()} - {None}
    if len(digests) > 1:
        found.warnings.append(f"not of the same labels, so that lines cannot be compared: {', '.join(sorted(digests))}")
    return found


def results_of_tables(task, database, models=(), variant=None):
    """Read results.json of all rows of variant tables; see `collect` for the parameters and errors.

    Yields
    ------
    model : str
    variant : str or None
    experiments : dict of row to Experiment
        The model's own configuration is row None.
    results : dict of row to dict
        Of the rows that have results.
    """
    check_task(task)
    there = sorted(folders_with(CONFIGS / task, "modelconfig.json"))
    if variant is not None and not models:
        models = [model for model in there if (CONFIGS / task / model / f"{variant}.json").is_file()]
        if not models:
            tables = {path.stem for path in (CONFIGS / task).glob("*/*.json")} - {"modelconfig"}
            raise UserError(f"unknown variant {variant!r} for {task}{nearest(variant, tables)}")
    for model in models or there:
        tables = [variant]
        if variant is None:
            names = (path.stem for path in sorted((CONFIGS / task / model).glob("*.json")))
            tables += [name for name in names if name != "modelconfig"]
        for table in tables:
            experiments = _experiments(task, model, table)
            results = {row: _results(each, database) for row, each in experiments.items()}
            results = {row: each for row, each in results.items() if each is not None}
            if results or table == variant:
                yield model, table, experiments, results


def is_evaluated(files):
    """Whether results.json is there, and is of the present weights and labels."""
    if not files.results.is_file():
        return False
    made_by = _fingerprints(read_json(files.results))
    return all(made_by.get(key) == value for key, (value, _) in expected_work(files)[1].items())


def ablated(task, model, variant):
    """The single key that varies in a variant table beside name and seed, and its values in order of rows.

    Returns
    -------
    str or None, list
        None and an empty list where no key varies, or several do.
    """
    header, rows = read_variants(task, model, variant)
    varying = [
        column for column, key in enumerate(header)
        if key not in ("name", "seed") and any(row[column] != rows[0][column] for row in rows)
    ]  # fmt: skip
    if len(varying) != 1:
        return None, []
    return header[varying[0]], [row[varying[0]] for row in rows]


def _experiments(task, model, variant):
    """Experiments by row; the model's own configuration is row None."""
    rows = [None] if variant is None else range(len(read_variants(task, model, variant)[1]))
    return {row: Experiment(task, model, variant, row) for row in rows}


def _results(experiment, database):
    path = DatabaseFiles(experiment, database).results
    return read_json(path) if path.is_file() else None


def _fingerprints(results):
    """The provenance of the fingerprints that results are of, empty in the published format."""
    return results.get("provenance", {}).get("fingerprints", {})


def _lines(model, variant, results):
    """The lines of one table, given its results by row."""
    groups = {}  # all values of a row but name and seed -> rows
    key, values = None, []
    for row in results:
        if variant is None:
            groups[()] = [row]
            continue
        header, rows = read_variants(results[row]["task"], model, variant)
        key, values = ablated(results[row]["task"], model, variant)
        same = tuple(str(value) for name, value in zip(header, rows[row]) if name not in ("name", "seed"))
        groups.setdefault(same, []).append(row)
    lines = []
    for rows in groups.values():
        name = results[rows[0]]["name"]
        value = values[rows[0]] if values else None
        if key is not None and len(set(map(str, values))) < len(values):  # several seeds a value
            name = f"{key.split(':')[-1]} {value}"
        metrics = [_metrics(results[row]) for row in rows]
        for nb_lookups in sorted({number for each in metrics for number in each}):
            runs = [each[nb_lookups] for each in metrics if nb_lookups in each]
            numbers = {metric: [run[metric] for run in runs] for metric in runs[0]}
            mean = {metric: float(np.mean(each)) for metric, each in numbers.items()}
            spread = dict.fromkeys(numbers, math.nan)
            if len(runs) > 1:
                spread = {metric: float(np.std(each, ddof=1)) for metric, each in numbers.items()}
            lines.append(Line(model, variant or "", name, value, nb_lookups, len(runs), mean, spread))
    return lines


def _metrics(results):
    """Metrics by number of lookups: {int: {str: float}}, NaN for what is null or missing."""
    by_lookups = {int(number): row for number, row in results.get("lookups", {}).items()} | {1: results}
    metrics = {}
    for number, row in by_lookups.items():
        values = {metric.key: row.get(metric.key) for metric in columns() if number == 1 or metric.of is Answers}
        metrics[number] = {key: math.nan if value is None else float(value) for key, value in values.items()}
    return metrics


def _missing(experiments, results, database):
    """One line for the rows of a table without results: which, and the command that makes them."""
    missing = [row for row in experiments if row not in results]
    if not missing:
        return []
    experiment = experiments[missing[0]]
    command = f"python train.py {experiment.task} {experiment.model}"
    if experiment.variant is None:
        return [f"{experiment.model}: {command} --database_name {database}"]
    rows = missing[0] if len(missing) == 1 else "all"
    title = f"{experiment.model} {experiment.variant}, {len(missing)} of {len(experiments)} rows"
    return [f"{title} ({_ranges(missing)}): {command} -v {experiment.variant} -i {rows} --database_name {database}"]


def _ranges(rows):
    """Row numbers as text: [0, 2, 3, 4] is "0, 2-4"."""
    runs = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _unfinished(experiments, results):
    """A warning for each of the results whose network was not trained to the end."""
    warnings = []
    for row, each in results.items():
        step, nb_steps = _fingerprints(each).get("step"), experiments[row].config["nb_steps"]
        if step is not None and step < nb_steps:
            warnings.append(f"{experiments[row].model} {each['name']} was evaluated at step {step:,} of {nb_steps:,}")
    return warnings
