"""Pictures of training, and what all pictures share, as PNG files; those of results: charts.py and gallery.py."""

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

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


def _save(figure, path, dpi=120):
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
    plt.close(figure)
