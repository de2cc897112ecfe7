"""The picture of single queries and what they found."""

from pathlib import Path

from equihash.querying import Query, Searcher
from equihash.report.drawing import BLUE, GREEN, GREY, RED, figure_file, grid, plain, show

COLOURS = {"relevant": GREEN, "irrelevant": RED, "missed": GREY, "unknown": BLUE}
MOST_QUERIES = 10  # rows of the picture


def draw_search(path: Path, searcher: Searcher, queries: list[Query], title: str, nb_shown: int = 6):
    """Draw the first ten queries, a row each, with the first `nb_shown` of the items that they found and missed."""
    rows = [(query, _shown(query, nb_shown)) for query in queries[:MOST_QUERIES]]
    columns = max(4, *(1 + len(shown) for _, shown in rows))  # as wide as the title, at least
    height, width = searcher.loader.picture_shape
    size = (1.35 * columns, (1.35 * height / width + 0.42) * len(rows) + 0.6)
    with figure_file(path, size) as figure:
        for (query, shown), row_axes in zip(rows, grid(figure, len(rows), columns)):
            show(row_axes[0], query.instance, searcher.loader)
            kind, _, name = query.name.partition(" ")
            row_axes[0].set_title(f"query: {kind}\n{plain(_shortened(name))}", fontsize=7)
            for axis, (item, kind) in zip(row_axes[1:], shown):
                if item is None:
                    axis.text(0.5, 0.5, kind, ha="center", va="center", fontsize=8)
                    continue
                show(axis, searcher.items[item], searcher.loader, frame=COLOURS[kind])
                axis.set_title(f"item {item}\n{kind}", fontsize=7)
        figure.suptitle(plain(title), fontsize=9)


def _shown(query, nb_shown):
    """Up to `nb_shown` (item, kind): found ones, then those that were missed, one at least if there are any."""
    found = [(item, query.relevance(row)) for row, item in enumerate(query.found[:nb_shown].tolist())]
    missed = [(item, "missed") for item in ([] if query.missed is None else query.missed[:nb_shown].tolist())]
    found = found[: nb_shown - bool(missed)] or [(None, "nothing found")]
    return found + missed[: nb_shown - len(found)]


def _shortened(name, length=20):
    return name if len(name) <= length else f"...{name[-length:]}"
