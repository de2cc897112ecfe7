"""The picture of an ablation: a metric against the value that a variant table varies."""

from itertools import cycle
from pathlib import Path

import numpy as np

from equihash.evaluation.collect import Line, ablated
from equihash.evaluation.metrics import METRICS
from equihash.paths import DATA
from equihash.report.drawing import BLUE, GREEN, ORANGE, RED, figure_file, plain
from equihash.report.tables import lookups_text

METRIC = METRICS["perfect_retrieval_rate"]


def draw_ablations(task: str, database: str, lines: list[Line]) -> list[Path]:
    """Draw the perfect retrieval rate of every variant table among some lines that varies one number.

    Returns data/experiments/TASK/MODEL/VARIANT_DATABASE.png of each table with two values or more.
    """
    paths = []
    lines = [line for line in lines if line.variant and METRIC.key in line.mean]  # others were asked no queries
    for model, variant in dict.fromkeys((line.model, line.variant) for line in lines):
        key, values = ablated(task, model, variant)
        of_table = [line for line in lines if (line.model, line.variant) == (model, variant)]
        numbers = key is not None and all(isinstance(value, (int, float)) for value in values)
        if numbers and len({line.value for line in of_table}) > 1:
            path = DATA / "experiments" / task / model / f"{variant}_{database}.png"
            _draw(path, f"{task} {model}, {variant}, {database}", key, values, of_table)
            paths.append(path)
    return paths


def _draw(path, title, key, values, lines):
    with figure_file(path, (6, 3.8)) as figure:
        axis = figure.subplots()
        numbers = sorted({line.nb_lookups for line in lines})
        for number, colour, marker in zip(numbers, cycle((BLUE, ORANGE, GREEN, RED)), cycle("os^D")):
            part = sorted((line for line in lines if line.nb_lookups == number), key=lambda line: line.value)
            points = [(line.value, line.mean[METRIC.key], np.nan_to_num(line.spread[METRIC.key])) for line in part]
            style = {"color": colour, "marker": marker, "markersize": 5, "capsize": 3}
            axis.errorbar(*zip(*points), **style, label=lookups_text(number))
        if calls_for_log(values):
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.set_xticks(ticks := _far_apart({line.value for line in lines}), [f"{value:g}" for value in ticks])
        axis.set(xlabel=plain(key.split(":")[-1]), ylabel=METRIC.name, ylim=(0, 1))
        axis.grid(alpha=0.3)
        axis.legend()
        fewest, most = (extreme(line.nb_seeds for line in lines) for extreme in (min, max))
        seeds = f"{fewest}-{most}" if fewest < most else most
        bars = f"\nbars: standard deviation over {seeds} seeds" if most > 1 else ""
        axis.set_title(plain(title) + bars, fontsize=10)


def calls_for_log(values: list[float]) -> bool:
    """Whether positive values are more evenly spaced by their ratios than by their differences."""
    values = np.unique(np.asarray(values, dtype=float))
    if len(values) < 3 or values[0] <= 0:
        return False

    def unevenness(steps):
        return steps.std() / steps.mean()

    return unevenness(np.diff(np.log(values))) < unevenness(np.diff(values)) - 1e-9


def _far_apart(values, share=0.09):
    """Those of some values whose numbers do not overlap on a log axis."""
    kept, span = [], np.log(max(values) / min(values))
    for value in sorted(values):
        if not kept or np.log(value / kept[-1]) > share * span:
            kept.append(value)
    return kept
