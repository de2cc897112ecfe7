"""Pictures of training and of results, as PNG files."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt

from equihash.datasets.procedural import ENCODING_SEED, ProceduralDatabase
from equihash.evaluation.retrieval import count_retrieved
from equihash.files import atomic

BLUE, ORANGE, GREEN, RED, GREY = "#3366aa", "#dd7722", "#2a9d4a", "#cc3333", "#888888"


def draw_instances(path, loader, nb_classes=4, nb_instances=6, seed=0):
    """Draw some classes, a row each, with several noisy instances: what a network is trained on."""
    with loader.reseeded(seed):
        labels = loader.generate_labels(nb_classes, 1)[:, 0]
        instances = loader.batch_from_labels(labels, nb_instances=nb_instances)
    height, width = _image(instances[0, 0], loader).shape[:2]
    size = (nb_instances * 1.5, nb_classes * 1.5 * height / width + 0.4)
    figure, axes = plt.subplots(nb_classes, nb_instances, figsize=size, layout="constrained")
    for row, row_axes in enumerate(axes):
        for column, axis in enumerate(row_axes):
            _show(axis, instances[row, column], loader)
    figure.suptitle(f"{nb_classes} classes, {nb_instances} instances each", fontsize=10)
    _save(figure, path)


def draw_training_curve(path, training_log, results):
    """Draw the logged losses and the recall and worst entropies of the in-training evaluations by step."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    names = sorted({name for entry in training_log.values() for name in entry if name.endswith("loss")})
    for name in names:
        steps = [step for step, entry in training_log.items() if name in entry]
        axes[0].plot(steps, [training_log[step][name] for step in steps], ".-", label=name.replace("_", " "))
    axes[0].set_title("loss")
    for which, style in (("train", "--"), ("valid", "-")):
        steps = [step for step, found in results[which].items() if "recall" in found]
        for distance, colour in enumerate((BLUE, ORANGE, GREEN)):
            values = [results[which][step]["recall"][distance] for step in steps]
            axes[1].plot(steps, values, style, color=colour, marker=".", label=f"{which}, Hamming <= {distance}")
        for size, colour in zip(range(1, 5), (BLUE, ORANGE, GREEN, RED)):
            values = [results[which][step]["worst_entropies"][size] / size for step in steps]
            axes[2].plot(steps, values, style, color=colour, marker=".", label=f"{which}, {size} bit{'s' * (size > 1)}")
    axes[1].set_title("recall of positive pairs")
    axes[2].set_title("worst entropy per bit")
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=6)
    axes[1].set_ylim(0, 1)
    axes[2].set_ylim(0, 1.02)
    _save(figure, path)


def draw_hamming_distances(path, results):
    """Draw the distributions of the Hamming distances of positive and negative pairs, on a log scale."""
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for sign, colour in (("positive", BLUE), ("negative", ORANGE)):
        histogram = np.array(results["hamming_distances"][sign])
        share = histogram / max(histogram.sum(), 1)
        axis.bar(np.arange(len(share)), share, width=1.0, alpha=0.6, color=colour, label=f"{sign} pairs")
    if any(results["hamming_distances"]["positive"]):
        axis.set_yscale("log")
    axis.set_xlabel("Hamming distance of the fingerprints")
    axis.set_ylabel("share of pairs")
    axis.set_title(
        f"{results['model']} {results['name']}, {results['database']}: "
        f"{results['relevant_collision_rate']:.1%} of positive pairs at distance 0",
        fontsize=10,
    )
    axis.legend()
    _save(figure, path)


def draw_gallery(path, database, index, per_kind=3, nb_shown=3, nb_queries=2000):
    """Draw queries with what one lookup retrieved for each: green relevant, red irrelevant, grey dashed missed.

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
                axis.set_title(f"item {item}", fontsize=7)
    figure.suptitle(
        f"{files.experiment.model} {files.experiment.config['name']}, {files.database}: what one lookup retrieved\n"
        "green: relevant   red: irrelevant   grey, dashed: missed\n",
        fontsize=9,
    )
    _save(figure, path)


def _coloured(retrieved, relevant, nb_shown):
    """Up to `nb_shown` of the items retrieved or missed, with the colours of their frames."""
    groups = [
        (np.setdiff1d(retrieved, relevant)[: nb_shown - 1], RED),
        (np.intersect1d(retrieved, relevant), GREEN),
        (np.setdiff1d(relevant, retrieved), GREY),
    ]
    return [(item, colour) for items, colour in groups for item in items.tolist()][:nb_shown]


def _image(instance, loader):
    """An instance as an array that imshow takes: (h, w) or (h, w, 3)."""
    image = instance.cpu()
    if image.ndim == 3 and not getattr(loader, "HWC", True):
        image = image.permute(1, 2, 0)
    return torch.clamp(image, 0, 1).numpy() if image.is_floating_point() else image.numpy()


def _show(axis, instance, loader, frame=None):
    axis.imshow(_image(instance, loader), cmap="gray")
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(frame is not None)
        if frame is not None:
            spine.set(color=frame, linewidth=2.5, linestyle="--" if frame == GREY else "-")


def _save(figure, path):
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)
