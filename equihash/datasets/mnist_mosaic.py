"""Noisy mosaics of MNIST digits."""

import numpy as np
import torch

from equihash.datasets.dataset import Dataset
from equihash.errors import Remedy, UserError
from equihash.hdf5 import Hdf5File

SPLITS = {"train": (0, 50_000), "valid": (50_000, 60_000), "test": (60_000, 70_000)}


class MnistMosaic(Dataset):
    """Mosaics of height x width digits, float32 in [0, 1] plus normal noise of standard deviation `sigma`.

    Parameters
    ----------
    path
        HDF5 file with `x`, uint8 (70000, 28, 28): see `prepare_data.py mnist`.
    size, device, seed
        See `Dataset`.
    height, width
        Cells of a mosaic; an instance is (28 height, 28 width).
    which : "train", "valid" or "test"
        Digits 0-50000, 50000-60000 or 60000-70000 of the file.
    """

    layout, dtype = "HW", torch.float32
    BOUNDS = {"height": (1, 8), "width": (1, 8), "sigma": (0, None)}

    def __init__(
        self,
        path: str,
        size: int | None = None,
        height: int = 2,
        width: int = 2,
        sigma: float = 0.2,
        which: str = "train",
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ):
        first, last = SPLITS[which]
        with Hdf5File(path, Remedy("prepare_mnist")) as file:
            digits = file.dataset("x")
            if digits is None or (digits.shape, digits.dtype) != ((70_000, 28, 28), np.uint8):
                raise UserError(f"{path} does not hold MNIST", Remedy("prepare_mnist"))
            images = digits.read(slice(first, last))
        super().__init__(len(images), (height, width), size, which, device, seed)
        self.instance_shape = 28 * height, 28 * width
        self.sigma = sigma
        self.images = torch.from_numpy(images).to(self.device)
        self.banks = [self.images]

    def make_instances(self, labels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(len(labels), *self.instance_shape, generator=generator, device=self.device)
        digits = self.images[torch.from_numpy(labels).to(self.device)]  # (n, height, width, 28, 28)
        mosaics = digits.transpose(2, 3).reshape(noise.shape).float().div_(255)
        return mosaics.add_(noise, alpha=self.sigma)
