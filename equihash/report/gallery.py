"""The gallery: what single queries retrieved."""

from pathlib import Path

import numpy as np

from equihash.datasets.procedural import ENCODING_SEED, ProceduralDatabase
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.retrieval import count_retrieved
from equihash.report.drawing import BLUE, GREY, ORANGE, figure_file, grid, plain, show
from equihash.search import InvertedIndex

NB_QUERIES = 2000  # of each sign that are looked at
NB_SHOWN = 2  # items of a query
MARKS = {BLUE: "\u2713 ", ORANGE: "\u2717 ", GREY: "missed "}


def draw_gallery(path: Path, database: EncodedDatabase, index: InvertedIndex, nb_columns: int = 11):
    """Draw queries with what one lookup retrieved for each: blue relevant, orange irrelevant, grey dashed missed.

    One row for each kind of answer: perfect, incomplete (relevant items are missing) and unsound (irrelevant
    items are there), of positive and of negative queries. The procedural database makes the mosaics again.
    """
    files, labels, loader = database.files, database.labels, database.loader
    kinds = {}  # kind -> [(queries, query, [(item, colour)])]
    for sign in ("positive", "negative"):
        codes = np.ascontiguousarray(database.query_codes(sign)[:NB_QUERIES])
        offsets, ids = database.ground_truth(sign)
        offsets = offsets[: len(codes) + 1]
        retrieved, relevant_retrieved = count_retrieved(index, database.codes, (offsets, ids), codes, None, 1)
        queries = ProceduralDatabase(getattr(labels, f"{sign}_queries"), loader, ENCODING_SEED)
        unsound, incomplete = retrieved > relevant_retrieved, np.diff(offsets) > relevant_retrieved
        answers = {"perfect": ~(unsound | incomplete), "incomplete": incomplete & ~unsound, "unsound": unsound}
        for kind, holds in answers.items():
            if found := np.flatnonzero(holds).tolist():
                some = found[:nb_columns]
                truths = [ids[offsets[query] : offsets[query + 1]] for query in some]
                coloured = [_coloured(index[codes[query]], truth) for query, truth in zip(some, truths)]
                title = f"{sign} queries, {kind} ({len(found)} of {len(codes)})"
                kinds[title] = [(queries, *answer) for answer in zip(some, coloured)]
    items = ProceduralDatabase(labels.database, loader, ENCODING_SEED)
    height, width = loader.picture_shape
    nb_rows = max(len(kinds), 1)
    size = (1.1 * nb_columns, (1.1 * height / width + 0.5) * nb_rows + 0.6)
    with figure_file(path, size) as figure:
        for row_axes, (kind, answers) in zip(grid(figure, nb_rows, nb_columns), kinds.items()):
            points = {"xytext": (0, 18), "textcoords": "offset points"}
            title = row_axes[0].annotate(kind, (0, 1), xycoords="axes fraction", fontsize=10, weight="bold", **points)
            title.set_in_layout(False)  # it may reach over the next columns
            column = 0
            for queries, query, coloured in answers:
                if column + 1 + len(coloured) > nb_columns:
                    break
                show(row_axes[column], queries[query], loader)
                row_axes[column].set_title(f"query {query}", fontsize=8)
                for axis, (item, colour) in zip(row_axes[column + 1 :], coloured):
                    show(axis, items[item], loader, frame=colour)
                    axis.set_title(f"{MARKS[colour]}{item}", fontsize=8)
                column += 2 + len(coloured)  # a column apart
        network = f"{files.experiment.model} {files.experiment.config['name']}"
        about = plain(f"{network}, {files.database}: what one lookup retrieved")
        legend = "\u2713 blue: relevant   \u2717 orange: irrelevant   grey, dashed: missed"
        figure.suptitle(f"{about}\n{legend}\n", fontsize=10, x=0.005, horizontalalignment="left")


def _coloured(retrieved, relevant):
    """Up to `NB_SHOWN` of the items retrieved or missed, with the colours of their frames."""
    groups = [
        (np.setdiff1d(retrieved, relevant)[: NB_SHOWN - 1], ORANGE),
        (np.intersect1d(retrieved, relevant), BLUE),
        (np.setdiff1d(relevant, retrieved), GREY),
    ]
    return [(item, colour) for items, colour in groups for item in items.tolist()][:NB_SHOWN]
