"""Charts of the numbers in results.json, as PNG files."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from equihash.evaluation.metrics import METRICS
from equihash.report.drawing import BLUE, GREY, ORANGE, figure_file
from equihash.report.tables import lookups_text, size_text

SIZE, DPI = (4.8, 3.4), 160  # inches: small, so that the letters can be read on a phone
# key of a metric -> its colour and the style of its curve
OF_LOOKUPS = {"perfect_retrieval_rate": (BLUE, "o-"), "recall": (GREY, "s--"), "false_positive_rate": (ORANGE, "^-.")}
OF_SIZES = {key: OF_LOOKUPS[key] for key in ("perfect_retrieval_rate", "recall")}


def draw_hamming_distances(path: Path, results: dict):
    """Draw the distributions of the Hamming distances of positive and negative pairs, on a log scale."""
    rate = METRICS["relevant_collision_rate"].format(results["relevant_collision_rate"])
    with _chart(path, f"{rate} of positive pairs at distance 0") as axis:
        for sign, colour in (("positive", BLUE), ("negative", ORANGE)):
            histogram = np.array(results["hamming_distances"][sign])
            share = histogram / max(histogram.sum(), 1)
            axis.bar(np.arange(len(share)), share, width=1.0, alpha=0.6, color=colour, label=f"{sign} pairs")
        if any(results["hamming_distances"]["positive"]):
            _log_shares(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="Hamming distance of the fingerprints", ylabel="share of pairs")
        axis.legend()


def draw_lookups(path: Path, results: dict):
    """Draw rates against the number of lookups."""
    with _rate_chart(path, "More lookups find more, and collide more") as axis:
        rows = results["lookups"]
        numbers = [int(number) for number in rows]
        for key, (colour, style) in OF_LOOKUPS.items():
            _band(axis, numbers, list(rows.values()), key, colour, style, METRICS[key].name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, map(str, numbers))
        axis.set_xlabel("lookups per query")


def draw_database_sizes(path: Path, results: dict):
    """Draw rates against the size of the database, for one lookup and the most lookups: see `prefix_sizes`."""
    with _rate_chart(path, "Prefixes of the database, encoded once") as axis:
        sizes = [int(size) for size in results["database_sizes"]]
        for number, filled in _fewest_and_most(results).items():
            rows = [row["lookups"][number] for row in results["database_sizes"].values()]
            for key, (colour, style) in OF_SIZES.items():
                label = f"{METRICS[key].name}, {lookups_text(number)}"
                _band(axis, sizes, rows, key, colour, style, label, fillstyle=filled)
        axis.set_xscale("log")
        _show_sizes(axis)
        axis.set_xlabel("items in the database")


def draw_set_sizes(path: Path, results: dict):
    """Draw how many items the queries retrieve, and how many they should, on log scales but for 0.

    For one lookup and the most lookups. A bin of several sizes is drawn as its mean share a size.
    """
    sizes = results["set_sizes"]
    edges = np.array(sizes["edges"])
    centres = np.sqrt(edges[:-1] * (edges[1:] - 1.0))  # of a bin of one size, that size
    with _chart(path, "What is retrieved, and what is relevant") as axis:
        curves = [("relevant to a positive query", sizes["relevant"], "s:", GREY, "none", 8)]
        for (number, filled), style in zip(_fewest_and_most(results).items(), ("-", "--")):
            for sign, colour, mark in (("positive", BLUE, "o"), ("negative", ORANGE, "^")):
                histogram = sizes["lookups"][number][sign]
                label = f"{sign} queries, {lookups_text(number)}"
                curves.append((label, histogram, mark + style, colour, filled, 5))
        curves = [curve for curve in curves if any(curve[1])]  # there may be no queries of a sign
        for label, histogram, style, colour, filled, size in curves:
            share = np.array(histogram) / np.diff(edges) / max(sum(histogram), 1)
            some = share > 0
            marks = {"markersize": size, "fillstyle": filled, "linewidth": 1}
            axis.plot(centres[some], share[some], style, color=colour, label=label, **marks)
        axis.set_xscale("symlog", linthresh=1, linscale=0.3)
        _log_shares(axis)
        axis.set_ylim(min(0.08, axis.get_ylim()[0]))
        largest = max(1, *(edges[np.flatnonzero(histogram)[-1]] for _, histogram, *_ in curves))
        steps = (1, 2, 5) if largest <= 200 else (1,)
        ticks = [0] + [step * 10**power for power in range(len(str(largest)) + 1) for step in steps]
        axis.set_xticks([tick for tick in ticks if tick <= 2 * largest], minor=False)
        axis.set_xticks([], minor=True)
        _show_sizes(axis)
        axis.set(xlim=(-0.4, 2 * largest), xlabel="items in the set", ylabel="share of queries per size")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)


@contextmanager
def _chart(path, title):
    with figure_file(path, SIZE, DPI) as figure:
        axis = figure.subplots()
        axis.set_title(title, fontsize=10)
        yield axis


@contextmanager
def _rate_chart(path, title):
    with _chart(path, title) as axis:
        yield axis
        axis.set(ylim=(-0.02, 1.02), ylabel="rate, 95% intervals")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


def _band(axis, x, rows, key, colour, style, label, **marks):
    """One rate with its intervals as a band; points without any query are left out."""
    points = [(at, row[key], *row["intervals"][key]) for at, row in zip(x, rows) if np.isfinite(row[key])]
    if points:
        at, values, low, high = zip(*points)
        axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(at, values, style, color=colour, label=label, markersize=5, **marks)


def _log_shares(axis):
    axis.set_yscale("log")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _show_sizes(axis):
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: size_text(size)))


def _fewest_and_most(results):
    """The numbers of lookups that charts of several curves show, as keys, and how their marks are filled."""
    numbers = list(results["lookups"])
    return {number: filled for number, filled in zip(dict.fromkeys((numbers[0], numbers[-1])), ("full", "none"))}
