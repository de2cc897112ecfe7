"""A database of any size that is never stored: item i is made when it is needed, always the same."""

import numpy as np
import torch

from equihash.datasets.dataset import WHICH, Dataset

CHUNK_SIZE = 500
ENCODING_SEED = 0xACE  # of the database and both query sets (encode.py)


class ProceduralDatabase:
    """Sequence of instances, item i being one noisy instance of label i.

    Items come in chunks of 500: the noise of chunk c is drawn from a torch generator seeded with
    0xffff*c + 3*seed + {train 0, valid 1, test 2}[which], so that item i does not depend on the process that makes it.
    The stream is that of the dataset's device: CPU and CUDA make different noise.

    Parameters
    ----------
    labels : integers (N, height, width)
    dataset
        Makes the instances; `dataset.which` is the split.
    seed
    """

    def __init__(self, labels: np.ndarray, dataset: Dataset, seed: int):
        self.labels, self.dataset, self.seed = labels, dataset, seed
        self._last = None, None  # number and instances, replaced together: several threads may ask for chunks

    def __len__(self):
        return len(self.labels)

    def chunk(self, number: int) -> torch.Tensor:
        """Return the instances 500*number to 500*number+499 (fewer at the end): tensor (n, ...)."""
        last_number, instances = self._last
        if number != last_number:
            first = number * CHUNK_SIZE
            labels = np.asarray(self.labels[first : first + CHUNK_SIZE])
            generator = torch.Generator(self.dataset.device)
            generator.manual_seed(0xFFFF * number + 3 * self.seed + WHICH.index(self.dataset.which))
            instances = self.dataset.batch_from_labels(labels, torch_generator=generator)
            self._last = number, instances
        return instances

    def __getitem__(self, key: int | slice | list[int] | np.ndarray) -> torch.Tensor:
        """Item `key` for an int; a batch of them for a list, an integer array or a slice."""
        everything, dataset = range(len(self)), self.dataset
        chosen = everything[key] if isinstance(key, slice) else [everything[index] for index in np.atleast_1d(key)]
        chosen = np.array(chosen, dtype=np.int64)
        items = torch.empty(len(chosen), *dataset.instance_shape, dtype=dataset.dtype, device=dataset.device)
        for number in np.unique(chosen // CHUNK_SIZE).tolist():
            rows = np.flatnonzero(chosen // CHUNK_SIZE == number)
            items[torch.from_numpy(rows)] = self.chunk(number)[torch.from_numpy(chosen[rows] % CHUNK_SIZE)]
        return items if isinstance(key, slice) or np.ndim(key) else items[0]
