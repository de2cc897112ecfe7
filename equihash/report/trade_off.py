"""The picture of what more lookups buy: recall against the irrelevant items that come with it."""

import math
from itertools import cycle
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from equihash.evaluation.collect import Line
from equihash.evaluation.metrics import METRICS
from equihash.paths import DATA
from equihash.report.drawing import figure_file, plain

PRR, RECALL, IRRELEVANT = (METRICS[key] for key in ("perfect_retrieval_rate", "recall", "irrelevant_per_query"))


def draw_comparison(task: str, database: str, variant: str | None, lines: list[Line]) -> list[Path]:
    """Draw one curve per model: that of its configuration with the highest mean perfect retrieval rate.

    Returns data/experiments/TASK/comparison_VARIANT_DATABASE.png, or nothing where there are no two models with
    results of several numbers of lookups.
    """
    configurations = {}
    for line in lines:
        if IRRELEVANT.key in line.mean:
            configurations.setdefault((line.model, line.variant, line.name), []).append(line)
    best = {}
    for (model, *_), of_configuration in configurations.items():
        rate = sum(line.mean[PRR.key] for line in of_configuration) / len(of_configuration)
        if len(of_configuration) > 1 and rate > best.get(model, (-1,))[0]:
            best[model] = rate, of_configuration
    if len(best) < 2:
        return []
    path = DATA / "experiments" / task / f"comparison_{variant or 'all'}_{database}.png"
    with figure_file(path, (6.4, 4.2)) as figure:
        axis = figure.subplots()
        ranked = sorted(best.items(), key=lambda item: -item[1][0])
        draw_trade_off(axis, {
            model: [(line.mean[IRRELEVANT.key], line.mean[RECALL.key]) for line in of_model]
            for model, (_, of_model) in ranked
        })  # fmt: skip
        numbers = sorted({line.nb_lookups for _, of_model in best.values() for line in of_model})
        title = ", ".join(dict.fromkeys(filter(None, (task, variant, database))))
        axis.set_title(f"{plain(title)}: {', '.join(map(str, numbers))} lookups", fontsize=10)
        axis.set(ylim=(0, 1))
        axis.grid(alpha=0.3)
    return [path]


def draw_trade_off(axis: Axes, curves: dict[str, list[tuple[float, float]]]):
    """Draw curves of points (irrelevant items per query, recall), the items on a log scale that has a place for 0."""
    colours = colormaps["tab10" if len(curves) <= 10 else "tab20"].colors
    for (name, points), mark, colour in zip(curves.items(), cycle("os^Dvp<>*P"), cycle(colours)):
        axis.plot(*zip(*points), f"{mark}-", color=colour, markersize=4, linewidth=1, label=plain(name))
    least = min((x for points in curves.values() for x, _ in points if x > 0), default=1)
    threshold = 10 ** math.floor(math.log10(least))
    axis.set_xscale("symlog", linthresh=threshold, linscale=0.3)
    axis.set_xlim(left=-threshold / 4)  # so that the marks at 0 are whole
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("irrelevant items per query", fontsize=8)
    axis.set_ylabel(RECALL.name, fontsize=8)
    axis.legend(fontsize=6)
