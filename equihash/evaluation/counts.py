"""What is counted in an index, or in each shard of one, and kept in a file until the shards are summed."""

import json
from dataclasses import dataclass

import h5py

from equihash.errors import UserError
from equihash.files import atomic, open_hdf5

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

    def save(self, path, metadata):
        """Write an HDF5 file, atomically, with a dict that says what was counted."""
        with atomic(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["metadata"] = json.dumps(metadata)
            file.attrs["internal_collisions"] = self.internal_collisions
            file.attrs["largest_bucket"] = self.largest_bucket
            for number, arrays in self.lookups.items():
                for name, array in zip(ARRAYS, arrays):
                    file.create_dataset(f"{number}/{name}", data=array, compression="gzip", compression_opts=1)

    @classmethod
    def load(cls, path, metadata, nb_lookups, command):
        """Read the counts of some numbers of lookups.

        Parameters
        ----------
        path : Path
        metadata : dict
            What must have been counted.
        nb_lookups : list of int
        command : str
            What makes the file, for messages.

        Raises
        ------
        UserError
            The file is missing, damaged, of something else, or without one of these numbers of lookups.
        """
        with open_hdf5(path, f": run {command}") as file:
            try:
                if json.loads(file.attrs["metadata"]) != metadata:
                    raise UserError(f"{path} is of other fingerprints than those there now: run {command}")
                for number in nb_lookups:
                    if str(number) not in file:
                        raise UserError(f"{path} has no counts of {number} lookups: run {command}")
                lookups = {number: [file[f"{number}/{name}"][:] for name in ARRAYS] for number in nb_lookups}
                return cls(int(file.attrs["internal_collisions"]), int(file.attrs["largest_bucket"]), lookups)
            except (OSError, KeyError, ValueError, TypeError):
                raise UserError(f"{path} is damaged: run {command}") from None
