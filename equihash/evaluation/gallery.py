"""The gallery: what single queries retrieved."""

import numpy as np
from matplotlib import pyplot as plt

from equihash.datasets.procedural import ENCODING_SEED, ProceduralDatabase
from equihash.evaluation.pictures import BLUE, GREY, ORANGE, _image, _save, _show
from equihash.evaluation.retrieval import count_retrieved

MARKS = {BLUE: "\u2713 ", ORANGE: "\u2717 ", GREY: "missed "}

def draw_gallery(path, database, index, per_kind=3, nb_shown=3, nb_queries=2000):
    """Draw queries with what one lookup retrieved for each: blue relevant, orange irrelevant, grey dashed missed.

    One row for each kind of answer: perfect, incomplete (relevant items are missing) and unsound (irrelevant
    items are there), of positive and of negative queries. The mosaics are made anew by the procedural database.

    Parameters
    ----------
    path : Path
    database : EncodedDatabase
    index : InvertedIndex
    per_kind : int
        Queries in a row.
    nb_shown : int
        Items shown of a query.
    nb_queries : int
        How many queries of each sign are looked at.
    """
    files, labels, loader = database.files, database.labels, database.loader
    answers = {}  # kind -> [(queries, query, [(item, colour)])]
    for sign in ("positive", "negative"):
        codes = np.ascontiguousarray(database.query_codes(sign)[:nb_queries])
        offsets, ids = database.ground_truth(sign)
        offsets = offsets[: len(codes) + 1]
        counts = count_retrieved(index, database.codes, (offsets, ids), codes, None, 1)
        queries = ProceduralDatabase(getattr(labels, f"{sign}_queries"), loader, ENCODING_SEED)
        for query, (retrieved, relevant, both) in enumerate(zip(*counts)):
            kind = "unsound" if retrieved > both else "incomplete" if relevant > both else "perfect"
            part = answers.setdefault(f"{sign} queries, {kind}", [])
            coloured = None
            if len(part) < per_kind:
                truth = ids[offsets[query] : offsets[query + 1]]
                coloured = _coloured(index[codes[query]], truth, nb_shown)
            part.append((queries, query, coloured))
    items = ProceduralDatabase(labels.database, loader, ENCODING_SEED)
    kinds = sorted(answers)
    shown = {kind: answers[kind][:per_kind] for kind in kinds}
    slot = 2 + max((len(answer[2]) for part in shown.values() for answer in part), default=0)  # one column apart
    shape = (max(len(kinds), 1), per_kind * slot - 1)
    height, width = _image(items[0], loader).shape[:2]
    size = (1.1 * shape[1], (1.1 * height / width + 0.45) * shape[0] + 0.6)
    figure, axes = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row_axes, kind in zip(axes, kinds):
        share = f"{len(answers[kind])} of {min(nb_queries, len(answers[kind][0][0]))}"
        title = row_axes[0].text(0, 1.25, f"{kind} ({share})", transform=row_axes[0].transAxes, fontsize=9)
        title.set(weight="bold", in_layout=False)  # it may reach over the next columns
        for number, (queries, query, coloured) in enumerate(shown[kind]):
            _show(row_axes[number * slot], queries[query], loader)
            row_axes[number * slot].set_title(f"query {query}", fontsize=7)
            for axis, (item, colour) in zip(row_axes[number * slot + 1 :], coloured):
                _show(axis, items[item], loader, frame=colour)
                axis.set_title(f"{MARKS[colour]}{item}", fontsize=7)
    figure.suptitle(
        f"{files.experiment.model} {files.experiment.config['name']}, {files.database}: what one lookup retrieved\n"
        "\u2713 blue: relevant   \u2717 orange: irrelevant   grey, dashed: missed\n",
        fontsize=9,
    )
    _save(figure, path)


def _coloured(retrieved, relevant, nb_shown):
    """Up to `nb_shown` of the items retrieved or missed, with the colours of their frames."""
    groups = [
        (np.setdiff1d(retrieved, relevant)[: nb_shown - 1], ORANGE),
        (np.intersect1d(retrieved, relevant), BLUE),
        (np.setdiff1d(relevant, retrieved), GREY),
    ]
    return [(item, colour) for items, colour in groups for item in items.tolist()][:nb_shown]
