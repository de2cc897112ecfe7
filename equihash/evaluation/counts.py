"""What is counted in an index, or in each shard of one, and kept in a file until the shards are summed."""

from dataclasses import dataclass

import numpy as np

from equihash._checksum import checksum
from equihash.errors import Damaged, UserError
from equihash.files import atomic
from equihash.hdf5 import Hdf5File, create_hdf5, set_provenance

ARRAYS = ("retrieved", "relevant_retrieved", "negative_retrieved")


@dataclass
class Counts:
    """All that the scores of an index are made of; those of its shards add up, as equal codes are in one shard.

    Attributes
    ----------
    internal_collisions : int
        Pairs of items with equal codes and different classes.
    largest_bucket : int
        Items that share the commonest code of a sample.
    queries : dict
        Of each (size of the database or of a prefix, number of lookups a query): items retrieved by the positive
        queries, relevant ones among these and, of the whole database, items retrieved by the negative queries: int64
        (P,), (P,), (Q,). Empty where there is no interest in queries.
    """

    internal_collisions: int
    largest_bucket: int
    queries: dict

    def __add__(self, other):
        return Counts(
            self.internal_collisions + other.internal_collisions,
            max(self.largest_bucket, other.largest_bucket),
            {key: [a + b for a, b in zip(self.queries[key], other.queries[key])] for key in self.queries},
        )

    def save(self, path, provenance):
        """Write an HDF5 file, atomically, with a dict that says what was counted."""
        with atomic(path) as temporary, create_hdf5(temporary) as file:
            checksums = {}
            for key, arrays in self.queries.items():
                for name, array in zip(_names(*key), arrays):
                    file.create_dataset(name, data=array, compression=1)
                    checksums[name] = checksum(array)
            numbers = {"internal_collisions": self.internal_collisions, "largest_bucket": self.largest_bucket}
            set_provenance(file, {**provenance, **numbers, "checksums": checksums})

    @classmethod
    def load(cls, path, expected, shapes, command):
        """Read the counts of some sizes and numbers of lookups.

        Parameters
        ----------
        path : Path
        expected : dict
            What its provenance must have.
        shapes : dict
            The lengths of the arrays of each (size, number of lookups) wanted.
        command : str
            What makes the file, for messages.

        Raises
        ------
        UserError
            The file is missing, damaged, of something else, or without one of these.
        """
        with Hdf5File(path, f": run {command}") as file:
            found = file.provenance
            if any(found.get(key) != value for key, value in expected.items()):
                raise UserError(f"{path} is of other fingerprints than those there now: run {command}")
            queries = {}
            for (size, number), lengths in shapes.items():
                queries[size, number] = []
                for name, length in zip(_names(size, number), lengths):
                    dataset = file.dataset(name)
                    if dataset is None:
                        raise UserError(f"{path} has no counts of {number} lookups among {size} items: run {command}")
                    counts = dataset.read() if (dataset.shape, dataset.dtype) == ((length,), np.int64) else None
                    if counts is None or checksum(counts) != found["checksums"][name]:
                        raise Damaged(f"{path} is damaged, or an older version wrote it ({name}): run {command}")
                    queries[size, number].append(counts)
        return cls(found["internal_collisions"], found["largest_bucket"], queries)


def _names(size, number):
    return [f"{size} {number} {name}" for name in ARRAYS]
