"""The study of lookups as a table and a picture."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter

from equihash.evaluation.metrics import METRICS
from equihash.report.drawing import figure_file, plain
from equihash.report.tables import markdown, size_text
from equihash.report.trade_off import draw_trade_off
from equihash.studies.lookups import Row

PREDICTED = (10**6, 10**7, 10**9, 10**11)  # sizes, where the database is smaller
PRR, RECALL, IRRELEVANT = (METRICS[key] for key in ("perfect_retrieval_rate", "recall", "irrelevant_per_query"))
LEGEND = f"""{PRR.name.capitalize()} by items in the database: measured, then predicted (see prediction.py).
* marks the best number of lookups of a network."""


def format_study(rows: list[Row], form: str) -> str:
    """The table as text, `form` "terminal" or "markdown"; the best number of lookups of a network is marked."""
    sizes, before = sorted(rows[0].rates)[1:], max(rows[0].checks)
    largest, beyond = size_text(sizes[-1]), [size for size in PREDICTED if size > sizes[-1]]
    head = ["network", "lookups", RECALL.short, f"irrelevant, {largest}", *map(size_text, sizes)]
    head += [f"{largest} from {size_text(before)}", f"{largest} from means", *map(size_text, beyond)]
    mark = "**{}**" if form == "markdown" else "{}*"
    body = []
    for name in _names(rows):
        of_network = [row for row in rows if row.name == name]
        rates = np.array([
            [*(row.rates[size] for size in sizes), row.checks[before], row.by_mean_rates, *map(row.prediction, beyond)]
            for row in of_network
        ])  # fmt: skip
        is_best = (rates == rates.max(axis=0)) & (len(rates) > 1)
        for row, values, best in zip(of_network, rates, is_best):
            cells = [
                mark.format(PRR.format(value)) if marked else PRR.format(value) for value, marked in zip(values, best)
            ]
            body.append(
                [name, str(row.nb_lookups), RECALL.format(row.recall), IRRELEVANT.format(row.irrelevant), *cells]
            )
    if form == "markdown":
        return markdown(head, body, nb_names=1)
    widths = [max(map(len, column)) for column in list(zip(head, *body))[1:]]
    text, before = [], "network"
    for name, *line in [head, *body]:
        if name != before:
            text.append(name)
        before = name
        text.append("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths)))
    return "\n".join([*text, LEGEND])


def prediction_errors(rows: list[Row]) -> str:
    """One line on each way of predicting the rate at the largest size: how far off it was."""
    ways = {
        f"from up to {size_text(size)} items": [row.checks[size] for row in rows] for size in sorted(rows[0].checks)
    }
    ways["from the mean rates alone"] = [row.by_mean_rates for row in rows]
    largest = max(rows[0].rates)
    actual = np.array([row.rates[largest] for row in rows])
    lines = [f"{PRR.short} among {size_text(largest)} items, predicted against measured:"]
    for way, predicted in ways.items():
        off = np.abs(np.array(predicted) - actual)
        lines.append(f"  {way}: off by {PRR.format(off.mean())} on average, {PRR.format(off.max())} at most")
    return "\n".join(lines)


def draw_study(path: Path, rows: list[Row], title: str):
    """Draw the rate against the size, a panel per network; and the recall against the irrelevant items of all."""
    names, numbers = _names(rows), sorted({row.nb_lookups for row in rows})
    nb_columns = min(len(names) + 1, 3)
    nb_lines = -(-(len(names) + 1) // nb_columns)
    with figure_file(path, (4 * nb_columns, 3.2 * nb_lines)) as figure:
        axes = figure.subplots(nb_lines, nb_columns, squeeze=False)
        colours = dict(zip(numbers, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(numbers)))))
        for axis, name in zip(axes.flat, names):
            for row in rows:
                if row.name == name:
                    _draw_sizes(axis, row, colours[row.nb_lookups])
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: size_text(size)))
            axis.set_title(plain(name), fontsize=10)
        for line in axes:
            line[0].set_ylabel(PRR.name)
        axes.flat[0].legend(title="lookups", fontsize=7, title_fontsize=7, ncols=2)
        axis = axes.flat[len(names)]
        draw_trade_off(
            axis, {name: [(row.irrelevant, row.recall) for row in rows if row.name == name] for name in names}
        )
        axis.set_title(f"1 to {numbers[-1]} lookups, {size_text(max(rows[0].rates))} items", fontsize=10)
        for axis in axes.flat[: len(names) + 1]:
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
        for axis in axes.flat[len(names) + 1 :]:
            axis.axis("off")
        figure.supxlabel("items in the database (dashed: predicted)", fontsize=10)
        figure.suptitle(plain(title), fontsize=11)


def _draw_sizes(axis, row, colour):
    sizes = sorted(row.rates)
    axis.plot(sizes, [row.rates[size] for size in sizes], "o", color=colour, markersize=4)
    for first, last, style in ((sizes[0], sizes[-1], "-"), (sizes[-1], PREDICTED[-1], "--")):
        between = np.geomspace(first, last, 100)
        label = str(row.nb_lookups) if style == "-" else None
        axis.plot(between, row.prediction(between), style, color=colour, linewidth=1.2, label=label)


def _names(rows):
    return list(dict.fromkeys(row.name for row in rows))
