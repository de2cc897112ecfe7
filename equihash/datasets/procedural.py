"""A database of any size that is never stored: item i is made when it is asked for, always the same."""

import operator

import numpy as np
import torch

from equihash.datasets.dataset import WHICH

CHUNK_SIZE = 500
ENCODING_SEED = 0xACE  # of the database and both query sets (encode.py)


class ProceduralDatabase:
    """Sequence of instances, item i being one noisy instance of label i.

    Items come in chunks of 500: the noise of chunk c is drawn from a torch generator seeded with
    0xffff*c + 3*seed + {train 0, valid 1, test 2}[which], so that item i does not depend on who asks for it.
    The stream is that of the dataset's device: CPU and CUDA make different noise.

    Parameters
    ----------
    labels : array or HDF5 dataset (N, height, width)
    dataset : Dataset
        Makes the instances; `dataset.which` tells the split.
    seed : int
    """

    def __init__(self, labels, dataset, seed):
        self.labels = labels
        self.dataset = dataset
        self.seed = seed
        self._chunk_number, self._chunk = None, None

    def __len__(self):
        return len(self.labels)

    def chunk(self, number):
        """Return the instances 500*number to 500*number+499 (fewer at the end): tensor (n, ...)."""
        if number != self._chunk_number:
            first = number * CHUNK_SIZE
            labels = np.asarray(self.labels[first : first + CHUNK_SIZE])
            generator = torch.Generator(self.dataset.device)
            generator.manual_seed(0xFFFF * number + 3 * self.seed + WHICH.index(self.dataset.which))
            self._chunk = self.dataset.batch_from_labels(labels, torch_generator=generator)
            self._chunk_number = number
        return self._chunk

    def __getitem__(self, key):
        """Item `key` for an int; a batch of them for a list, an integer array or a slice."""
        if isinstance(key, slice):
            return self._items(np.arange(*key.indices(len(self))))
        if np.ndim(key):
            return self._items(np.asarray(key, dtype=np.int64))
        return self._items(np.array([operator.index(key)]))[0]

    def _items(self, indices):
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"index out of range for a database of {len(self)} items")
        if not len(indices):
            return self.chunk(0)[:0]
        numbers = indices // CHUNK_SIZE
        items = None
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            found = self.chunk(number)[torch.as_tensor(indices[rows] % CHUNK_SIZE, device=self.dataset.device)]
            if items is None:
                items = found.new_empty((len(indices), *found.shape[1:]))
            items[torch.as_tensor(rows, device=items.device)] = found
        return items
