"""What is counted in an index, or in each shard of one, and kept in a file until the shards are summed."""

from dataclasses import dataclass

import numpy as np

from equihash._checksum import checksum
from equihash.errors import Damaged, UserError
from equihash.files import atomic
from equihash.hdf5 import Hdf5File, create_hdf5, set_provenance


@dataclass(frozen=True)
class Retrieved:
    """How many items each query retrieves with one number of lookups.

    Attributes
    ----------
    retrieved, relevant_retrieved : int64 (P,)
        By the positive queries: items, and relevant ones among them.
    negative_retrieved : int64 (Q,) or None
        By the negative queries, which are asked of the whole database only.
    """

    retrieved: np.ndarray
    relevant_retrieved: np.ndarray
    negative_retrieved: np.ndarray | None = None

    def __add__(self, other):
        return Retrieved(**{name: array + getattr(other, name) for name, array in self.arrays().items()})

    def arrays(self):
        return {name: array for name, array in vars(self).items() if array is not None}


@dataclass(frozen=True)
class Counts:
    """All that the scores of an index are made of; those of its shards add up, as equal codes are in one shard.

    Attributes
    ----------
    internal_collisions : int
        Pairs of items with equal codes and different classes.
    largest_bucket : int
        Items that share the commonest code of a sample.
    queries : dict of (int, int) to Retrieved
        By the size of the database or of a prefix, and the number of lookups a query. Empty where there is no interest
        in queries.
    """

    internal_collisions: int
    largest_bucket: int
    queries: dict

    def __add__(self, other):
        return Counts(
            self.internal_collisions + other.internal_collisions,
            max(self.largest_bucket, other.largest_bucket),
            {key: found + other.queries[key] for key, found in self.queries.items()},
        )

    def save(self, path, provenance):
        """Write an HDF5 file, atomically, with a dict that says what was counted."""
        with atomic(path) as temporary, create_hdf5(temporary) as file:
            checksums = {}
            for (size, number), found in self.queries.items():
                for name, array in found.arrays().items():
                    dataset_name = f"{size} {number} {name}"
                    file.create_dataset(dataset_name, data=array, compression=1)
                    checksums[dataset_name] = checksum(array)
            numbers = {"internal_collisions": self.internal_collisions, "largest_bucket": self.largest_bucket}
            set_provenance(file, {**provenance, **numbers, "checksums": checksums})

    @classmethod
    def load(cls, path, expected, lengths, remedy):
        """Read the counts of some sizes and numbers of lookups.

        Parameters
        ----------
        path : Path
        expected : dict
            What its provenance must have.
        lengths : dict of (int, int) to dict
            By size and number of lookups, as in `queries`: the lengths of the arrays of a `Retrieved`, by name.
        remedy : Remedy
            What makes the file, for errors.

        Raises
        ------
        UserError
            The file is missing, damaged, of something else, or without one of these.
        """
        with Hdf5File(path, remedy) as file:
            found = file.provenance
            if any(found.get(key) != value for key, value in expected.items()):
                raise UserError(f"{path} is of other fingerprints than those there now", remedy)
            queries = {}
            for (size, number), of_arrays in lengths.items():
                arrays = {}
                for name, length in of_arrays.items():
                    dataset_name = f"{size} {number} {name}"
                    dataset = file.dataset(dataset_name)
                    if dataset is None:
                        raise UserError(f"{path} has no counts of {number} lookups among {size} items", remedy)
                    counts = dataset.read() if (dataset.shape, dataset.dtype) == ((length,), np.int64) else None
                    if counts is None or checksum(counts) != found["checksums"][dataset_name]:
                        raise Damaged(f"{path} is damaged, or an older version wrote it ({name})", remedy)
                    arrays[name] = counts
                queries[size, number] = Retrieved(**arrays)
        return cls(found["internal_collisions"], found["largest_bucket"], queries)
