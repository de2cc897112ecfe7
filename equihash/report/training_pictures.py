"""Pictures of training, as PNG files."""

from pathlib import Path

from equihash.datasets import Dataset
from equihash.report.drawing import BLUE, GREEN, ORANGE, RED, figure_file, show


def draw_instances(path: Path, loader: Dataset, nb_classes: int = 4, nb_instances: int = 6):
    """Draw some classes, a row each, with several noisy instances: what a network is trained on."""
    with loader.reseeded(0):
        labels = loader.generate_labels(nb_classes, 1)[:, 0]
        instances = loader.batch_from_labels(labels, nb_instances=nb_instances)
    height, width = loader.picture_shape
    size = (nb_instances * 1.5, nb_classes * 1.5 * height / width + 0.4)
    with figure_file(path, size) as figure:
        axes = figure.subplots(nb_classes, nb_instances)
        for row, row_axes in enumerate(axes):
            for column, axis in enumerate(row_axes):
                show(axis, instances[row, column], loader)
        figure.suptitle(f"{nb_classes} classes, {nb_instances} instances each", fontsize=10)


def draw_training_curve(path: Path, training_log: dict, results: dict):
    """Draw the logged losses and the recall and worst entropies of the in-training evaluations by step.

    What is logged under another name that ends with "loss" has its own axis: parts of a loss differ from it in size.
    """
    names = {name for entry in training_log.values() for name in entry if name.endswith("loss")}
    parts = sorted(names - {"loss"})
    with figure_file(path, (15 if parts else 12, 3.4)) as figure:
        *losses, recall, entropy = figure.subplots(1, 3 + bool(parts))
        for axis, title, shown in zip(losses, ("loss", "parts of the loss"), (["loss"], parts)):
            for name in shown:
                steps = [step for step, entry in training_log.items() if name in entry]
                values = [training_log[step][name] for step in steps]
                axis.plot(steps, values, ".-", color=BLUE if name == "loss" else None, label=name.replace("_", " "))
            axis.set_title(title)
        for which, style in (("train", "--"), ("valid", "-")):
            steps = [step for step, found in results[which].items() if "recall" in found]
            for distance, colour in enumerate((BLUE, ORANGE, GREEN)):
                values = [results[which][step]["recall"][distance] for step in steps]
                recall.plot(steps, values, style, color=colour, marker=".", label=f"{which}, Hamming <= {distance}")
            for size, colour in zip(range(1, 5), (BLUE, ORANGE, GREEN, RED)):
                values = [results[which][step]["worst_entropies"][size] / size for step in steps]
                label = f"{which}, {size} bit{'s' * (size > 1)}"
                entropy.plot(steps, values, style, color=colour, marker=".", label=label)
        recall.set_title("recall of positive pairs")
        entropy.set_title("worst entropy per bit")
        for axis in figure.axes:
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=6)
        recall.set_ylim(0, 1)
        entropy.set_ylim(0, 1.02)
