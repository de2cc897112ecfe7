"""Pictures of training, as PNG files."""

from equihash.evaluation.drawing import BLUE, GREEN, ORANGE, RED, figure_file, show, to_image


def draw_instances(path, loader, nb_classes=4, nb_instances=6, seed=0):
    """Draw some classes, a row each, with several noisy instances: what a network is trained on."""
    with loader.reseeded(seed):
        labels = loader.generate_labels(nb_classes, 1)[:, 0]
        instances = loader.batch_from_labels(labels, nb_instances=nb_instances)
    height, width = to_image(instances[0, 0], loader).shape[:2]
    size = (nb_instances * 1.5, nb_classes * 1.5 * height / width + 0.4)
    with figure_file(path, size) as figure:
        axes = figure.subplots(nb_classes, nb_instances)
        for row, row_axes in enumerate(axes):
            for column, axis in enumerate(row_axes):
                show(axis, instances[row, column], loader)
        figure.suptitle(f"{nb_classes} classes, {nb_instances} instances each", fontsize=10)


def draw_training_curve(path, training_log, results):
    """Draw the logged losses and the recall and worst entropies of the in-training evaluations by step."""
    with figure_file(path, (12, 3.4)) as figure:
        axes = figure.subplots(1, 3)
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
                label = f"{which}, {size} bit{'s' * (size > 1)}"
                axes[2].plot(steps, values, style, color=colour, marker=".", label=label)
        axes[1].set_title("recall of positive pairs")
        axes[2].set_title("worst entropy per bit")
        for axis in axes:
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=6)
        axes[1].set_ylim(0, 1)
        axes[2].set_ylim(0, 1.02)
