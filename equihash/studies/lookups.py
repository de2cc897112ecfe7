"""How many lookups pay in a database of what size: a table and a picture of several evaluated networks."""

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from equihash.errors import Remedy, UserError
from equihash.evaluation.collect import results_of_tables
from equihash.evaluation.metrics import format_rate
from equihash.report.drawing import figure_file, plain
from equihash.studies.prediction import Prediction, fit, from_mean_rates, measured

BEYOND = (10**9, 10**11)  # sizes that are predicted
MARKS = "os^Dvp"
LEGEND = """Perfect retrieval rate by items in the database: measured, then predicted (see prediction.py).
* marks the best number of lookups of a network."""


@dataclass
class Row:
    """One network with one number of lookups.

    Attributes
    ----------
    name : str
    nb_lookups : int
    recall : float
    irrelevant : float
        Irrelevant items a query, at the largest size.
    rates : dict of int to float
        The perfect retrieval rate, by size, of all queries: see `measured`.
    prediction : Prediction
        From all sizes.
    checks : dict of int to float
        The rate at the largest size, predicted from at most so many items, of the two largest sizes below it.
    by_mean_rates : float
        The same from the mean rates in the largest size below it.
    """

    name: str
    nb_lookups: int
    recall: float
    irrelevant: float
    rates: dict
    prediction: Prediction
    checks: dict
    by_mean_rates: float


def study(task, database, models=(), variant=None, nb_lookups=None):
    """Return the `Row`s of all evaluated networks; parameters as in `collect`, nb_lookups None: all of each network.

    Raises
    ------
    UserError
        There are no results, or they are of too small a database, of other numbers of lookups, or of several labels.
    """
    rows, labels = [], set()
    for model, _, _, all_results in results_of_tables(task, database, models, variant):
        for results in all_results.values():
            of_network = results.get("lookups", {})
            name = f"{model} {results['name']}"
            sizes = list(results.get("database_sizes", {}).values())
            if len(sizes) < 3 or not all("with_relevant" in row for row in sizes[0]["lookups"].values()):
                raise UserError(f"{name} needs queries, 20,000 items and results of this version: evaluate it again")
            labels.add((results["database_size"], results.get("provenance", {}).get("fingerprints", {}).get("labels")))
            for number in nb_lookups or map(int, of_network):
                if str(number) not in of_network:
                    raise UserError(f"{name} lacks {number} lookups", Remedy("report", nb_lookups=nb_lookups))
                rows.append(_row(name, number, results))
    if len(labels) > 1:
        raise UserError(f"results of {len(labels)} different {database}: encode and evaluate all with the same labels")
    if not rows:
        raise UserError(f"no results of {database} yet", Remedy("report", nb_lookups=[1, 4, 16, 64]))
    return rows


def _row(name, number, results):
    scores, of_all = measured(results, number), results["lookups"][str(number)]
    *_, before, last, largest = sorted(scores)
    return Row(
        name,
        number,
        of_all["recall"],
        of_all["irrelevant_per_query"],
        {size: row["perfect_retrieval_rate"] for size, row in scores.items()},
        fit(scores),
        {size: float(fit(measured(results, number, size))(largest)) for size in (before, last)},
        float(from_mean_rates(measured(results, number, last), largest)),
    )


def prediction_errors(rows):
    """One line on each way of predicting the rate at the largest size: how far off it was."""
    ways = {f"from up to {_size(size)} items": [row.checks[size] for row in rows] for size in sorted(rows[0].checks)}
    ways["from the mean rates alone"] = [row.by_mean_rates for row in rows]
    largest = max(rows[0].rates)
    actual = np.array([row.rates[largest] for row in rows])
    lines = [f"PRR among {_size(largest)} items, predicted against measured:"]
    for way, predicted in ways.items():
        off = np.abs(np.array(predicted) - actual)
        lines.append(f"  {way}: off by {off.mean():.3f} in the mean, {off.max():.3f} at the most")
    return lines


def format_study(rows, form):
    """The table as text, `form` "terminal" or "markdown"; the best number of lookups of a network is marked."""
    sizes = sorted(rows[0].rates)[1:]
    largest, before = sizes[-1], max(rows[0].checks)
    head = ["network", "lookups", "recall", f"irrelevant, {_size(largest)}", *map(_size, sizes)]
    head += [f"{_size(largest)} from {_size(before)}", f"{_size(largest)} from means", *map(_size, BEYOND)]
    cells = {}
    for row in rows:
        rates = [row.rates[size] for size in sizes]
        rates += [row.checks[before], row.by_mean_rates, *(float(row.prediction(size)) for size in BEYOND)]
        cells[row.name, row.nb_lookups] = rates
    body = []
    for row in rows:
        of_network = [rates for (name, _), rates in cells.items() if name == row.name]
        best = np.max(of_network, axis=0)
        line = [row.name, str(row.nb_lookups), format_rate(row.recall), f"{row.irrelevant:.3g}"]
        for rate, highest in zip(cells[row.name, row.nb_lookups], best):
            mark = ("*", "**")[form == "markdown"] if len(of_network) > 1 and rate == highest else ""
            line.append(f"{mark}{format_rate(rate)}{mark}" if form == "markdown" else format_rate(rate) + mark)
        body.append(line)
    if form == "markdown":
        table = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in table)
    widths = [max(map(len, column)) for column in list(zip(head, *body))[1:]]
    text, name = [], None
    for network, *line in [["", *head[1:]], *body]:
        if network and network != name:
            text.append(network)
        name = network
        text.append("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths)))
    return "\n".join([*text, LEGEND])


def draw_study(path, rows, title):
    """Draw the rate against the size, a panel a network; and the recall against the irrelevant items of all."""
    names = list(dict.fromkeys(row.name for row in rows))
    numbers = sorted({row.nb_lookups for row in rows})
    columns = min(len(names) + 1, 3)
    lines = -(-(len(names) + 1) // columns)
    with figure_file(path, (4 * columns, 3.2 * lines)) as figure:
        axes = figure.subplots(lines, columns, squeeze=False)
        colours = dict(zip(numbers, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(numbers)))))
        for axis, name in zip(axes.flat, names):
            for row in rows:
                if row.name == name:
                    _draw_sizes(axis, row, colours[row.nb_lookups])
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _size(size)))
            axis.set_ylim(0, 1)
            axis.set_title(plain(name), fontsize=10)
            axis.grid(alpha=0.3)
        for line in axes:
            line[0].set_ylabel("perfect retrieval rate")
        axes.flat[0].legend(title="lookups", fontsize=7, title_fontsize=7, ncols=2)
        _draw_trade(axes.flat[len(names)], rows, names)
        for axis in axes.flat[len(names) + 1 :]:
            axis.axis("off")
        figure.supxlabel("items in the database (dashed: predicted)", fontsize=10)
        figure.suptitle(plain(title), fontsize=11)


def _draw_sizes(axis, row, colour):
    sizes = sorted(row.rates)
    axis.plot(sizes, [row.rates[size] for size in sizes], "o", color=colour, markersize=4)
    for first, last, style in ((sizes[0], sizes[-1], "-"), (sizes[-1], BEYOND[-1], "--")):
        between = np.geomspace(first, last, 100)
        label = str(row.nb_lookups) if style == "-" else None
        axis.plot(between, row.prediction(between), style, color=colour, linewidth=1.2, label=label)


def _draw_trade(axis, rows, names):
    for name, mark in zip(names, MARKS * len(names)):
        of_network = [row for row in rows if row.name == name]
        irrelevant, recall = [row.irrelevant for row in of_network], [row.recall for row in of_network]
        axis.plot(irrelevant, recall, f"{mark}-", markersize=4, linewidth=1, label=plain(name))
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, 1)
    most, largest = max(row.nb_lookups for row in rows), max(rows[0].rates)
    axis.set_title(f"1 to {most} lookups, {_size(largest)} items", fontsize=10)
    axis.set_xlabel("irrelevant items a query", fontsize=8)
    axis.set_ylabel("recall", fontsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=6)


def _size(number):
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"
