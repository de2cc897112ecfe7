"""Edited copies of single pictures."""

import numpy as np
import torch

from equihash.datasets.dataset import Dataset
from equihash.datasets.edits import EDITS, NB_DRAWS, edited
from equihash.datasets.image_bank import ImageBank, bank_file
from equihash.errors import Remedy, UserError
from equihash.hdf5 import Hdf5File

STRENGTHS = {name: edit.strength for name, edit in EDITS.items()}
SUB_BATCH = {"cpu": 64, "cuda": 1024}  # instances edited at once


class PictureCopies(Dataset):
    """A class is a picture of a bank, an instance an edited copy of it: uint8 (3, side, side).

    Where the classes of the bank are folders, an instance is one of the folder's pictures, edited.

    Each edit is made or not, by a fair coin, and its amount is uniform up to its strength times a factor, uniform
    in [0, 1], that all edits of the instance share: some copies are hardly changed, others much.

    Parameters
    ----------
    path
        Folder of {train,valid,test}.hdf5, or one such file: `images`, uint8 (N, s, s, 3), and, where the classes are
        folders, `starts`. See `prepare_data.py pictures`.
    side
        Of an instance, in pixels; a multiple of 8. The bank's images should have twice that, or more.
    edits
        Strengths, by the names in `equihash.datasets.edits.EDITS`, which says what they mean; 0 leaves an edit out.
    size, which, device, seed
        See `Dataset`.
    bank_location : "auto", "device", "host" or "mapped"
        See `ImageBank`.
    """

    layout, dtype = "CHW", torch.uint8
    BOUNDS = {"side": (16, 1024), **{f"edits:{name}": (0.0, edit.most) for name, edit in EDITS.items()}}

    def __init__(
        self,
        path: str,
        side: int = 64,
        edits: dict = STRENGTHS,
        size: int | None = None,
        which: str = "train",
        device: torch.device | str = "cpu",
        seed: int | None = None,
        bank_location: str = "auto",
    ):
        if side % 8:
            raise UserError(f"loader_kwargs:side must be a multiple of 8, for JPEG's blocks, not {side}")
        path = bank_file(path, which)
        remedy = Remedy("prepare_pictures", split=which, banks=path.parent)
        shape, starts = _read_shape(path, remedy)
        self.bank = ImageBank(path, "images", shape, np.uint8, bank_location, device, remedy)
        bank_size = len(self.bank) if starts is None else len(starts) - 1
        if bank_size < 2:
            raise UserError(f"{path} holds one class; a task needs two or more", remedy)
        super().__init__(bank_size, (1, 1), size, which, device, seed)
        self.instance_shape = (3, side, side)
        self.starts = None if starts is None else torch.from_numpy(starts).to(self.device)
        self.banks = [self.bank] if starts is None else [self.bank, self.starts]
        strengths = {**STRENGTHS, **edits}
        self.strengths = torch.tensor([strengths[name] for name in EDITS], dtype=torch.float32).to(self.device)

    def make_instances(self, labels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        n, side = len(labels), self.instance_shape[1]
        rows = self._choose_pictures(labels.reshape(n), generator)
        amounts = self._draw_amounts(n, generator)
        draws = torch.rand(n, NB_DRAWS, generator=generator, device=self.device)
        instances = torch.empty(n, *self.instance_shape, dtype=self.dtype, device=self.device)
        step = SUB_BATCH[self.device.type]
        for first in range(0, n, step):
            some = slice(first, first + step)
            images = self.bank[rows[some]]
            instances[some] = edited(images, side, amounts[some], draws[some], generator)
        return instances

    def _choose_pictures(self, classes, generator):
        """The row of the bank of an instance of each class: of a folder, any of its pictures."""
        if self.starts is None:
            return classes
        classes = torch.from_numpy(classes).to(self.device)
        first, last = self.starts[classes], self.starts[classes + 1] - 1
        place = torch.rand(len(classes), generator=generator, device=self.device, dtype=torch.float64)
        return torch.minimum(first + (place * (last + 1 - first)).long(), last)

    def _draw_amounts(self, n, generator):
        """Of each edit, how much of it, from -strength to strength: float (n, number of edits)."""
        shape = n, len(EDITS)
        amounts = 2 * torch.rand(shape, generator=generator, device=self.device) - 1
        made = torch.rand(shape, generator=generator, device=self.device) < 0.5
        factor = torch.rand(n, 1, generator=generator, device=self.device)
        return amounts * made * factor * self.strengths


def _read_shape(path, remedy):
    """Return the shape of an image, and the first image of each class, or None where each image is a class."""
    with Hdf5File(path, remedy) as file:
        images, starts = file.dataset("images"), file.dataset("starts")
        shape = () if images is None else images.shape[1:]
        if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3 or not shape[0]:
            raise UserError(f"{path} does not hold `images`, uint8 (N, s, s, 3)", remedy)
        if starts is None:
            return shape, None
        values = starts.read()
        right = values.dtype == np.int64 and values.ndim == 1 and len(values) > 1
        if not right or values[0] != 0 or values[-1] != len(images) or (np.diff(values) < 1).any():
            raise UserError(f"{path}: `starts` does not divide the images into classes", remedy)
        return shape, values
