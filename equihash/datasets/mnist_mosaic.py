"""Noisy mosaics of MNIST digits."""

import numpy as np
import torch

from equihash.datasets.mosaic import MosaicDataset
from equihash.errors import UserError
from equihash.hdf5 import Hdf5File

SPLITS = {"train": (0, 50_000), "valid": (50_000, 60_000), "test": (60_000, 70_000)}


class MnistMosaic(MosaicDataset):
    """Mosaics of height x width digits, float32 in [0, 1] plus normal noise of standard deviation `sigma`.

    Parameters
    ----------
    path : str
        HDF5 file with `x`, uint8 (70000, 28, 28): see `prepare_data.py mnist`.
    size, device, seed
        See `MosaicDataset`.
    height, width : int
        Cells of a mosaic; an instance is (28 height, 28 width).
    sigma : float
        Standard deviation of the noise.
    which : "train", "valid" or "test"
        Digits 0-50000, 50000-60000 or 60000-70000 of the file.
    """

    BOUNDS = {"height": (1, 8), "width": (1, 8), "sigma": (0, None)}

    def __init__(self, path, size=None, height=2, width=2, sigma=0.2, which="train", device="cpu", seed=None):
        first, last = SPLITS[which]
        with Hdf5File(path, "; make it with: python prepare_data.py mnist") as file:
            digits = file.dataset("x")
            if digits is None or (digits.shape, digits.dtype) != ((70_000, 28, 28), np.uint8):
                raise UserError(f"{path} does not hold MNIST; make it again with: python prepare_data.py mnist")
            images = digits.read(slice(first, last))
        super().__init__(len(images), (height, width), size, which, device, seed)
        self.sigma = sigma
        self.images = torch.from_numpy(images).to(self.device)
        self.banks = [self.images]

    def batch_from_labels(self, labels, nb_instances=None, torch_generator=None):
        labels = torch.as_tensor(np.asarray(labels).astype(np.int64), device=self.device)
        if nb_instances is not None:
            labels = labels.unsqueeze(1).expand(labels.shape[0], nb_instances, *labels.shape[1:])
        height, width = (28 * side for side in self.mosaic_shape)
        generator = self.noise_stream if torch_generator is None else torch_generator
        noise = torch.randn((*labels.shape[:-2], height, width), generator=generator, device=self.device)
        digits = self.images[labels]  # (..., height, width, 28, 28)
        mosaics = digits.transpose(-3, -2).reshape(noise.shape).float().div_(255)
        return mosaics.add_(noise, alpha=self.sigma)
