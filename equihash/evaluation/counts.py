"""What is counted in an index, or in each shard of one, and kept in a file until the shards are summed."""

import zlib
from dataclasses import dataclass

import numpy as np

from equihash.errors import UserError
from equihash.files import atomic, check_size, create_hdf5, get_provenance, read_hdf5, set_provenance

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
    lookups : dict
        Of each number of lookups a query: items retrieved by the positive queries, relevant ones among these, items
        retrieved by the negative queries: int64 (P,), (P,), (Q,). Empty where there is no interest in queries.
    """

    internal_collisions: int
    largest_bucket: int
    lookups: dict

    def __add__(self, other):
        return Counts(
            self.internal_collisions + other.internal_collisions,
            max(self.largest_bucket, other.largest_bucket),
            {number: [a + b for a, b in zip(self.lookups[number], other.lookups[number])] for number in self.lookups},
        )

    def save(self, path, provenance):
        """Write an HDF5 file, atomically, with a dict that says what was counted."""
        with atomic(path) as temporary, create_hdf5(temporary) as file:
            checksums = {}
            for number, arrays in self.lookups.items():
                for name, array in zip(ARRAYS, arrays):
                    file.create_dataset(f"{number} {name}", data=array, compression=1)
                    checksums[f"{number} {name}"] = zlib.crc32(array)
            numbers = {"internal_collisions": self.internal_collisions, "largest_bucket": self.largest_bucket}
            set_provenance(file, {**provenance, **numbers, "checksums": checksums})

    @classmethod
    def load(cls, path, expected, nb_lookups, nb_queries, command):
        """Read the counts of some numbers of lookups.

        Parameters
        ----------
        path : Path
        expected : dict
            What its provenance must have.
        nb_lookups : list of int
        nb_queries : (int, int)
            Positive and negative ones.
        command : str
            What makes the file, for messages.

        Raises
        ------
        UserError
            The file is missing, damaged, of something else, or without one of these numbers of lookups.
        """
        with read_hdf5(path, f": run {command}") as file:
            found = get_provenance(file)
            if any(found.get(key) != value for key, value in expected.items()):
                raise UserError(f"{path} is of other fingerprints than those there now: run {command}")
            lookups = {}
            for number in nb_lookups:
                datasets = [file.get(f"{number} {name}") for name in ARRAYS]
                if any(dataset is None for dataset in datasets):
                    raise UserError(f"{path} has no counts of {number} lookups: run {command}")
                for dataset, size in zip(datasets, (nb_queries[0], *nb_queries)):
                    check_size(dataset)
                    if dataset.shape != (size,) or dataset.dtype != np.int64:
                        raise ValueError(f"{dataset.name} is {dataset.dtype} {dataset.shape}")
                lookups[number] = [dataset[:] for dataset in datasets]
                for name, array in zip(ARRAYS, lookups[number]):
                    if zlib.crc32(array) != found["checksums"][f"{number} {name}"]:
                        raise ValueError(f"{number} {name} is not what was written")
            return cls(int(found["internal_collisions"]), int(found["largest_bucket"]), lookups)
