"""What all pictures share: colours, the files that they are drawn to, and how an instance is shown.

matplotlib.pyplot is not used: its figures, its backend and the settings are the caller's.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equihash.datasets import Dataset
from equihash.files import atomic

BLUE, ORANGE, GREEN, RED, GREY = "#3366aa", "#dd7722", "#2a9d4a", "#cc3333", "#888888"


@contextmanager
def figure_file(path: Path, figsize: tuple[float, float], dpi: int = 120) -> Iterator[Figure]:
    """Yield an empty `Figure` to draw in, and write it to `path` as PNG, atomically.

    `figsize` is width and height in inches, with `dpi` pixels each. Within it matplotlib has its default settings,
    whatever a matplotlibrc says. The caller's come back afterwards, and nothing is written if drawing fails.
    """
    with style.context("default"), warnings.catch_warnings():
        # the font does not have the letters of every name
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support .* natively")
        figure = Figure(figsize=figsize, dpi=dpi, layout="constrained")
        yield figure
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png")


def plain(text: str) -> str:
    """Return `text` escaped, for matplotlib to show as it is: no formula is made of $x$."""
    return text.replace("$", r"\$")


def grid(figure: Figure, nb_rows: int, nb_columns: int) -> np.ndarray:
    """Axes for instances, (nb_rows, nb_columns), that are invisible until something is shown on them."""
    axes = figure.subplots(nb_rows, nb_columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return axes


def show(axis: Axes, instance: torch.Tensor, loader: Dataset, frame: str | None = None):
    """Show an instance on an axis, in a frame of a colour (dashed if it is GREY)."""
    axis.imshow(loader.to_picture(instance), cmap="gray")
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(frame is not None)
        if frame is not None:
            spine.set(color=frame, linewidth=2.5, linestyle="--" if frame == GREY else "-")
