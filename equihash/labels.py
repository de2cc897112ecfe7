"""Label files: which classes a procedural database and its queries are made of; see `label_generation`.

HDF5 datasets of data/labels/TASK/NAME.hdf5, labels in the smallest unsigned dtype that holds bank_size - 1:

    database          (N, h, w)
    positive_queries  (P, h, w)     classes that are in the database
    negative_queries  (Q, h, w)     classes that are not
    negative_pairs    (T, 2, h, w)  two different classes
    ground_truth_offsets (P+1), ground_truth_ids   CSR: the database items of each positive query's class

Each has the attribute `checksum`, of its rows (see `equihash._checksum`); the attribute `provenance` of the file says
what made it.
"""

import functools
from pathlib import Path

import numpy as np

from equihash._checksum import checksum
from equihash.class_numbers import labels_to_class_numbers
from equihash.errors import Damaged, Remedy, UserError
from equihash.files import digest_of, sample_digest
from equihash.hdf5 import Hdf5File
from equihash.progress import progress_bar
from equihash.search import InvertedIndex

BLOCK_SIZE = 1_000_000  # class numbers read at once
NAMES = ("database", "positive_queries", "negative_queries", "negative_pairs")
TRUTH_NAMES = ("ground_truth_offsets", "ground_truth_ids")


class Labels:
    """A label file that is open for reading; large arrays stay in the file.

    Files in the published format, which have no ground truth and no attributes, are taken too.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    database, positive_queries, negative_queries, negative_pairs : arrays
    ground_truth : (offsets int64 (P+1), ids int64)
    bank_size : int
    digest : str
        Of all labels; of samples of them where the file has no checksums.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        self.remedy = Remedy("generate_labels", path)
        with Hdf5File(path, self.remedy) as file:
            datasets = {name: file.dataset(name) for name in NAMES}
            for name, dataset in datasets.items():
                if dataset is None or dataset.dtype.kind != "u" or len(dataset.shape) != 3 + (name == NAMES[3]):
                    raise UserError(f"{path} is not a label file: it needs {name}, unsigned integers (N, h, w)")
                if dataset.shape[-2:] != datasets["database"].shape[-2:] or not dataset.dtype.isnative:
                    raise UserError(f"{path}: {name} and database have mosaics of different shapes")
                setattr(self, name, dataset.map())
            self.mosaic_shape = self.database.shape[1:]
            if not self.database.size or self.negative_pairs.shape[1] != 2 or np.prod(self.mosaic_shape) > 64:
                raise UserError(f"{path} is not a label file: its shapes are not those of a database and of pairs")
            self.bank_size = file.attribute("bank_size")
            if not self.bank_size:  # a published file: the images that it names are all there is to know
                self.bank_size = 1 + max(int(getattr(self, name).max(initial=0)) for name in NAMES)
            if not 0 < self.nb_classes <= 2**63:
                raise UserError(f"{path} is not a label file: {self.nb_classes} classes")
            truth = {name: file.dataset(name) for name in TRUTH_NAMES}
            self._truth = None if None in truth.values() else tuple(dataset.map() for dataset in truth.values())
            datasets |= truth if self._truth else {}
            self._checksums = {name: dataset.attribute("checksum") for name, dataset in datasets.items()}
        arrays = [getattr(self, name) for name in NAMES]
        if None not in [self._checksums[name] for name in NAMES]:
            parts = [(array.shape, array.dtype, self._checksums[name]) for name, array in zip(NAMES, arrays)]
            self.digest = digest_of(self.bank_size, parts)
        else:
            self.digest = sample_digest(*arrays)

    @functools.cached_property
    def ground_truth(self) -> tuple[np.ndarray, np.ndarray]:
        if self._truth is None:
            numbers = labels_to_class_numbers(self.positive_queries, self.bank_size)
            return members(self.database, self.bank_size, numbers)
        offsets, ids = (np.asarray(part) for part in self._truth)
        good = offsets.dtype == ids.dtype == np.int64 and offsets.shape == (len(self.positive_queries) + 1,)
        good = good and ids.ndim == 1 and offsets[0] == 0 and offsets[-1] == len(ids)
        good = good and bool((np.diff(offsets) >= 0).all())
        if not good or (len(ids) and not 0 <= ids.min() <= ids.max() < len(self.database)):
            raise self._damaged("the ground truth")
        return offsets, ids

    def verify(self) -> None:
        """Read all labels and compare them to their checksums and to the size of the bank.

        Raises
        ------
        UserError
            They are damaged.
        """
        arrays = {name: getattr(self, name) for name in NAMES}
        if self._truth is not None:
            arrays |= dict(zip(TRUTH_NAMES, self._truth))
        for name, array in arrays.items():
            if name in NAMES and any(block.max() >= self.bank_size for block in _blocks(array)):
                raise self._damaged(name)
            if self._checksums[name] not in (None, checksum(np.ascontiguousarray(array))):
                raise self._damaged(name)

    def _damaged(self, what):
        return Damaged(f"{self.path}: {what} is damaged", self.remedy)

    def class_numbers(self, ids: np.ndarray) -> np.ndarray:
        """Class numbers of database items: uint64, one for each of `ids`."""
        return labels_to_class_numbers(self.database[ids], self.bank_size)

    @property
    def nb_classes(self) -> int:
        return self.bank_size ** int(np.prod(self.mosaic_shape))


def members(database: np.ndarray, bank_size: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the database items of each of some classes.

    Parameters
    ----------
    database : array (N, h, w)
    bank_size : int
    numbers : uint64 (Q,)
        Class numbers, repeats allowed.

    Returns
    -------
    offsets : int64 (Q+1), ids : int64
        Items of class `numbers[q]`, ascending: ids[offsets[q]:offsets[q+1]].
    """
    unique, inverse = np.unique(numbers, return_inverse=True)
    index = InvertedIndex.build(_as_codes(unique))
    owners, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in progress_bar(range(0, len(database), BLOCK_SIZE), desc="ground truth", unit="M", leave=False):
        block = labels_to_class_numbers(database[first : first + BLOCK_SIZE], bank_size)
        offsets, owner = index.lookup(_as_codes(block))
        owners.append(owner)
        items.append(first + np.flatnonzero(np.diff(offsets)))  # a class has one number: at most one owner
    owners, items = np.concatenate(owners), np.concatenate(items)
    order = np.argsort(owners, kind="stable")
    items = items[order]
    counts = np.bincount(owners, minlength=len(unique))
    return take_csr(np.concatenate([[0], counts.cumsum()]), items, inverse)


def take_csr(offsets: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take rows of a CSR structure: (offsets, ids) of rows[0], rows[1], ..."""
    counts = np.diff(offsets)[rows]
    taken = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    positions = np.arange(taken[-1]) + np.repeat(offsets[rows] - taken[:-1], counts)
    return taken, ids[positions]


def _blocks(array):
    return (array[first : first + BLOCK_SIZE] for first in range(0, len(array), BLOCK_SIZE))


def _as_codes(numbers):
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8)
