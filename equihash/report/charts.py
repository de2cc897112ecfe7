"""Charts of the numbers in results.json, as PNG files."""

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from equihash.evaluation.metrics import METRICS
from equihash.report.drawing import BLUE, GREY, ORANGE, figure_file
from equihash.report.tables import lookups_text

SIZE, DPI = (4.8, 3.4), 160  # inches: small, so that the letters can be read on a phone


def draw_hamming_distances(path, results):
    """Draw the distributions of the Hamming distances of positive and negative pairs, on a log scale."""
    with figure_file(path, SIZE, DPI) as figure:
        axis = figure.subplots()
        for sign, colour in (("positive", BLUE), ("negative", ORANGE)):
            histogram = np.array(results["hamming_distances"][sign])
            share = histogram / max(histogram.sum(), 1)
            axis.bar(np.arange(len(share)), share, width=1.0, alpha=0.6, color=colour, label=f"{sign} pairs")
        if any(results["hamming_distances"]["positive"]):
            axis.set_yscale("log")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("Hamming distance of the fingerprints")
        axis.set_ylabel("share of pairs")
        axis.set_title(f"{results['relevant_collision_rate']:.1%} of positive pairs at distance 0", fontsize=10)
        axis.legend()


def draw_lookups(path, results):
    """Draw the perfect retrieval rate, the recall and the false positive rate against the number of lookups."""
    with figure_file(path, SIZE, DPI) as figure:
        axis = figure.subplots()
        rows = results["lookups"]
        numbers = [int(number) for number in rows]
        for key, colour, style in (
            ("perfect_retrieval_rate", BLUE, "o-"), ("recall", GREY, "s--"), ("false_positive_rate", ORANGE, "^-.")
        ):  # fmt: skip
            _band(axis, numbers, list(rows.values()), key, colour, style, METRICS[key].name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, map(str, numbers))
        axis.set_xlabel("lookups a query")
        _finish_rates(axis, "More lookups find more, and collide more")


def draw_database_sizes(path, results):
    """Draw the perfect retrieval rate and the recall against the size of the database: see prefixes.py.

    For one lookup and the largest number of lookups.
    """
    with figure_file(path, SIZE, DPI) as figure:
        axis = figure.subplots()
        sizes = [int(size) for size in results["database_sizes"]]
        for number, filled in zip(_first_and_last(results), ("full", "none")):
            rows = [row["lookups"][number] for row in results["database_sizes"].values()]
            for key, colour, style in (("perfect_retrieval_rate", BLUE, "o-"), ("recall", GREY, "s--")):
                label = f"{METRICS[key].name}, {lookups_text(number)}"
                _band(axis, sizes, rows, key, colour, style, label, fillstyle=filled)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_xlabel("items in the database")
        _finish_rates(axis, "Prefixes of the database, encoded once")


def draw_set_sizes(path, results):
    """Draw how many items the queries retrieve, and how many they should, on log scales but for 0.

    For one lookup and the largest number of lookups. A bin of several sizes is drawn as its mean share a size.
    """
    sizes = results["set_sizes"]
    edges = np.array(sizes["edges"])
    widths = np.diff(edges)
    numbers = _first_and_last(results)
    with figure_file(path, SIZE, DPI) as figure:
        axis = figure.subplots()
        curves = [("relevant to a positive query", sizes["relevant"], "s:", GREY, "none", 8)]
        for number, style, filled in zip(numbers, ("-", "--"), ("full", "none")):
            for sign, colour, mark in (("positive", BLUE, "o"), ("negative", ORANGE, "^")):
                histogram = sizes["lookups"][number][sign]
                label = f"{sign} queries, {lookups_text(number)}"
                curves.append((label, histogram, mark + style, colour, filled, 5))
        curves = [curve for curve in curves if any(curve[1])]  # there may be no queries of a sign
        for label, histogram, style, colour, filled, size in curves:
            share = np.array(histogram) / widths / max(sum(histogram), 1)
            some = share > 0
            marks = {"markersize": size, "fillstyle": filled, "linewidth": 1}
            axis.plot(_centres(edges)[some], share[some], style, color=colour, label=label, **marks)
        axis.set_xscale("symlog", linthresh=1, linscale=0.3)
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(min(0.08, axis.get_ylim()[0]))
        largest = max(1, *(edges[np.flatnonzero(histogram)[-1]] for _, histogram, *_ in curves))
        steps = (1, 2, 5) if largest <= 200 else (1,)
        ticks = [0] + [step * 10**power for power in range(len(str(largest)) + 1) for step in steps]
        axis.set_xticks([tick for tick in ticks if tick <= 2 * largest], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_xlim(-0.4, 2 * largest)
        axis.set_xlabel("items in the set")
        axis.set_ylabel("share of queries per size")
        axis.set_title("What is retrieved, and what is relevant", fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)


def _band(axis, x, rows, key, colour, style, label, **marks):
    """One rate with its intervals as a band; points without any query are left out."""
    points = [(at, row[key], *row["intervals"][key]) for at, row in zip(x, rows) if np.isfinite(row[key])]
    if points:
        at, values, low, high = zip(*points)
        axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(at, values, style, color=colour, label=label, markersize=5, **marks)


def _finish_rates(axis, title):
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("rate, 95% intervals")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _centres(edges):
    """The middle of the sizes in each bin; a bin of one size is that size."""
    return np.sqrt(edges[:-1] * (edges[1:] - 1.0))


def _first_and_last(results):
    """The numbers of lookups that charts of several curves show, as keys."""
    numbers = list(results["lookups"])
    return list(dict.fromkeys([numbers[0], numbers[-1]]))
