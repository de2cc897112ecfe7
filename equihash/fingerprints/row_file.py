"""A file of fingerprints or logits that is being written; see `fingerprint_file` for the format."""

import math
import os
from pathlib import Path

import numpy as np

from equihash._checksum import checksums
from equihash.datasets.procedural import CHUNK_SIZE
from equihash.errors import Damaged, UserError
from equihash.files import atomic, exists, naming, write_all
from equihash.hdf5 import Hdf5File, create_dataset, create_hdf5, set_provenance

IDENTITY = ("weights", "labels", "bank", "which", "network", "loader")  # what makes two encodings the same work


class RowFile:
    """A file that is being written: a new one, or one that the same work began and that is resumed.

    It has rows of one item or several, and the number of rows that are written. It gets its full structure at once and
    then only raw bytes in their places, so that a crash at any moment leaves a file that says how far it came, with
    checksums of what is there.

    Parameters
    ----------
    path : Path
    name : "codes" or "logits"
    shape : tuple
        (rows, values of an item) or (rows, items of a row, values of an item).
    dtype : numpy dtype
    provenance : dict
        What makes the file; it has the keys of IDENTITY, precision and device.

    Raises
    ------
    UserError
        The file that is there is of another precision or device, or does not say what made it.
    """

    def __init__(self, path: Path, name: str, shape: tuple, dtype: type, provenance: dict):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.items_per_row = math.prod(shape[1:-1])
        nb_chunks = math.ceil(math.prod(shape[:-1]) / CHUNK_SIZE)
        parts = {name: (shape, dtype), "size": ((1,), np.uint64), "checksums": ((nb_chunks,), np.uint64)}
        if not self._reopen(parts, provenance):
            with atomic(path) as temporary, create_hdf5(temporary) as file:
                for part, (part_shape, part_dtype) in parts.items():
                    create_dataset(file, part, part_shape, part_dtype)
                file["size"][0] = 0
                set_provenance(file, provenance)
            self._reopen(parts, provenance)

    def nb_items_written(self) -> int:
        return self.nb_rows_written * self.items_per_row

    def write(self, first: int, values: np.ndarray) -> None:
        """Write the items `first` (a multiple of 500), `first` + 1, ...: array (items, values)."""
        assert values.shape[1] == self.shape[-1] and first + len(values) <= math.prod(self.shape[:-1])
        values = np.ascontiguousarray(values, self.dtype)
        size = np.uint64((first + len(values)) // self.items_per_row)
        with naming(self.path), open(self.path, "r+b", buffering=0) as file:
            for offset, part in (
                (self.offset + first * self.shape[-1] * self.dtype.itemsize, values),
                (self.checksums_offset + first // CHUNK_SIZE * 8, checksums(values, CHUNK_SIZE)),
            ):
                file.seek(offset)
                write_all(file, part.tobytes())
            os.fsync(file.fileno())
            file.seek(self.size_offset)
            write_all(file, size.tobytes())
            os.fsync(file.fileno())

    def _reopen(self, parts, provenance):
        """Resume the file that is there, if the same work began it.

        One that is damaged, or of older weights or labels, is of no more use and gives way. One that differs in
        precision or device may be somebody's week of work, and does not; nor does one that does not say what it is of.
        """
        if not exists(self.path):
            return False
        try:
            with Hdf5File(self.path) as file:
                found = file.provenance
                if not found:
                    raise UserError(f"{self.path} does not say what made it: move it away, or delete it")
                other = [key for key in IDENTITY if found.get(key) != provenance[key]]
                datasets = [file.dataset(part) for part in parts]
                fits = all(
                    dataset is not None and (dataset.shape, dataset.dtype) == wanted
                    for dataset, wanted in zip(datasets, parts.values())
                )
                if fits and not other:
                    self._resume(*datasets)
        except Damaged as error:
            print(f"{error}: encoding again")
            return False
        if other or not fits:
            print(f"{self.path} is of other {' and '.join(other) or 'sizes'}: encoding again")
            return False
        for key in ("precision", "device"):
            if found.get(key) != provenance[key]:
                raise UserError(
                    f"{self.path} was encoded with {key} {found.get(key)}, not {provenance[key]}: "
                    f"use {key} {found.get(key)}, or delete it"
                )
        return True

    def _resume(self, dataset, size, written_checksums):
        """Find where everything lies, and how many rows are there and are what was written."""
        self.offset, self.size_offset, self.checksums_offset = (
            part.offset or 0 for part in (dataset, size, written_checksums)
        )
        self.nb_rows_written = min(int(size.map()[0]), len(dataset))
        items = dataset.map().reshape(-1, self.shape[-1])[: self.nb_items_written()]
        if self.nb_rows_written < len(dataset):  # the checksums are of whole chunks
            items = items[: len(items) // CHUNK_SIZE * CHUNK_SIZE]
        nb_chunks = math.ceil(len(items) / CHUNK_SIZE)
        damaged = np.flatnonzero(checksums(items, CHUNK_SIZE) != written_checksums.map()[:nb_chunks])
        if len(damaged):
            self.nb_rows_written = int(damaged[0]) * CHUNK_SIZE // self.items_per_row
            print(f"{self.path} is damaged from row {self.nb_rows_written} on: encoding again from there")
