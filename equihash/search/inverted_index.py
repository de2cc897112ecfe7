"""The inverted index: from a fingerprint to the items that have it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from equihash._checksum import checksum
from equihash.errors import UserError
from equihash.files import atomic, naming
from equihash.hdf5 import Hdf5File
from equihash.search import _index
from equihash.search.building import FileBuilder, histogram, sort
from equihash.search.index_file import REBUILD, Layout, read_header, write_header

LARGE_GROUP = 64  # a larger group of equal codes is not sorted by insertion


class InvertedIndex(_index.Reader):
    """Items by code: the answer to "which items have this code?" in constant time, for codes of any width.

    Takes 15 bytes an item or less for codes of 8 bytes, up to 2^32 items. Made by `build`, `build_from_file` or `load`;
    `index[code]` is the ids of one code, `len(index)` the number of items.

    A database too large for one machine has an index in shards: each is an index of the items in one range of the
    hashes of codes. Equal codes are thus in one shard, so that counts and collisions of the shards add up.

    Attributes
    ----------
    nbytes_per_code : int
    shard, nb_shards : int
        Which part of the database this is; 0 and 1: all of it.
    database_size : int
        Items of all shards; ids are less than this.
    metadata : dict
        What was given to `save` or `build_from_file`.

    Raises
    ------
    Damaged
        All methods, where the file of the index is damaged.

    Examples
    --------
    >>> codes = np.array([[7, 1], [2, 5], [7, 1]], dtype=np.uint8)  # of items 0, 1 and 2
    >>> index = InvertedIndex.build(codes)
    >>> index[codes[0]]
    array([0, 2])
    >>> offsets, ids = index.lookup(np.array([[2, 5], [9, 9], [7, 1]], dtype=np.uint8))
    >>> np.split(ids, offsets[1:-1])
    [array([1]), array([], dtype=int64), array([0, 2])]
    """

    def __init__(
        self,
        layout: Layout,
        codes: np.ndarray,
        ids: np.ndarray,
        offsets: np.ndarray,
        metadata: dict | None = None,
        name: Path | str = "the index",
        checksums: list[int] | None = None,
    ):
        super().__init__(codes, ids, offsets, layout.bits, layout.first << layout.sub_bits, layout.size, name)
        self._layout, self.nbytes_per_code, self.database_size = layout, layout.nbytes, layout.size
        self.shard, self.nb_shards = layout.shard, layout.nb_shards
        self.metadata = metadata or {}
        self._checksums = checksums

    # ---- Building

    @classmethod
    def build(cls, codes: np.ndarray, shard: int = 0, nb_shards: int = 1) -> "InvertedIndex":
        """Return the index, or one shard of it, of `codes`, uint8 (N, nbytes): item i has the code codes[i]."""
        codes = as_codes(codes)
        layout = Layout(*codes.shape, shard, nb_shards)
        counts = histogram(layout, codes)
        layout.nb_items = int(counts.sum())
        partitions = np.arange(layout.first, layout.last)
        return cls(layout, *sort(layout, [(0, codes)], partitions, counts[partitions]))

    @staticmethod
    def build_from_file(
        source: Path,
        out_path: Path,
        memory_limit_bytes: int = 12 * 2**30,
        progress: bool = True,
        metadata: dict | None = None,
        shard: int = 0,
        nb_shards: int = 1,
    ) -> None:
        """Build the index, or one shard of it, of the codes of an HDF5 file, and write it to `out_path`.

        The file is the one that `build` and `save` write, whatever the memory limit: the less memory, the more often
        `source` is read.

        Parameters
        ----------
        source
            A file with the dataset `codes`, uint8 (N, nbytes).
        out_path
            Written whole or not at all.
        memory_limit_bytes
            Memory for the arrays, beyond some MiB that Python and its libraries take.
        metadata
            Kept in the file, as JSON.

        Raises
        ------
        UserError
            `source` is missing, damaged or not completely written.
        """
        with Hdf5File(source) as file:
            codes, written = file.dataset("codes"), file.dataset("size")
            if codes is None or codes.dtype != np.uint8 or len(codes.shape) != 2 or not codes.shape[1]:
                raise UserError(f"{source} has no dataset `codes`, uint8 (N, nbytes): encode the database again")
            if written is not None and written.read().max() != len(codes):
                raise UserError(f"{source} has {written.read().max()} of {len(codes)} codes: finish encoding it")
            with atomic(out_path) as temporary, open(temporary, "w+b") as out:
                layout = Layout(*codes.shape, shard, nb_shards)
                FileBuilder(codes, layout, out, memory_limit_bytes, progress).run(metadata or {})

    # ---- Lookups

    def lookup(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of each query's code.

        Ask many queries at once: a large batch is first sorted by place in a large index, which is about twice as fast.

        Parameters
        ----------
        queries : uint8 (Q, nbytes)

        Returns
        -------
        offsets : int64 (Q + 1,)
        ids : int64
            Those of query i are ids[offsets[i]:offsets[i + 1]], in ascending order.
        """
        return self.find(self._as_queries(queries))

    def count(self, queries: np.ndarray) -> np.ndarray:
        """Return the number of items of each query's code, int64 (Q,); millions of items take no longer."""
        return self.sizes(self._as_queries(queries))

    def holds(self, codes: np.ndarray) -> np.ndarray:
        """Whether each code, uint8 (Q, nbytes), belongs to this shard, even if no item has it: bool (Q,)."""
        return self.in_shard(self._as_queries(codes))

    # ---- Collisions

    def shared_codes(self, chunk: int = 2**20) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the groups of items that share a code with another item, as CSR chunks.

        Yields
        ------
        offsets : int64 (G + 1,)
        ids : int64
            Those of group g are ids[offsets[g]:offsets[g + 1]], in ascending order. A chunk has at most `chunk` items,
            unless it is one larger group.
        """
        start = 0
        while start < len(self):
            offsets, ids, start = self.next_groups(start, max(chunk, 2))
            if len(ids):
                yield offsets, ids

    def internal_collisions(self, class_numbers: np.ndarray | Callable[[np.ndarray], np.ndarray]) -> int:
        """Return the number of unordered pairs of items with the same code and different class numbers.

        Parameters
        ----------
        class_numbers : uint64 (N,), or callable
            The class number of each item of the database; or a function from ids, int64 (n,), to class numbers,
            uint64 (n,), so that they may stay in a file.
        """
        if not callable(class_numbers):
            numbers, shape = np.asarray(class_numbers), (self.database_size,)
            if numbers.shape != shape:
                raise ValueError(f"class_numbers has shape {numbers.shape}, and must have the shape {shape}")
            class_numbers = numbers.__getitem__
        pairs = 0
        for offsets, ids in self.shared_codes():
            numbers = np.array(class_numbers(ids), dtype=np.uint64)
            for group in np.flatnonzero(np.diff(offsets) > LARGE_GROUP):
                numbers[offsets[group] : offsets[group + 1]].sort()
            pairs += _index.count_different_pairs(offsets, numbers)
        return pairs

    # ---- Files

    def save(self, path: Path, metadata: dict | None = None) -> None:
        """Write the index to `path`, whole or not at all, with a dict for JSON, by default `self.metadata`."""
        metadata = json.dumps(self.metadata if metadata is None else metadata).encode()
        with atomic(path) as temporary, open(temporary, "wb") as file:
            write_header(file, self._layout, metadata, [checksum(array) for array in self._arrays])
            for start, array in zip(self._layout.sections(len(metadata))[0], self._arrays):
                file.seek(start)
                file.write(array.data if array.size else b"")

    @classmethod
    def load(cls, path: Path, mmap: bool = True) -> "InvertedIndex":
        """Open the index at `path`; a `UserError` if it is missing, is not an index of this version, or is damaged.

        With `mmap` the file is mapped, which takes no time at any size: pages are read as they are needed, only the
        header is checked (see `verify`), and damage to the rest causes wrong answers or an error, nothing worse.
        Otherwise the whole file is read and checked, into memory that has huge pages where the system allows them:
        lookups in small batches are then about 1.4 times as fast.
        """
        try:
            with naming(path), open(path, "rb") as file:
                layout, metadata, checksums, sections = read_header(path, file)
                file.seek(0)
                content = np.asarray(np.memmap(file, np.uint8, "r")) if mmap else np.fromfile(file, np.uint8)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist", REBUILD) from None
        offsets, codes, ids = (
            content[start : start + rows * width] for start, (rows, width) in zip(sections, layout.shapes)
        )
        arrays = codes.reshape(-1, layout.nbytes), ids.view(layout.dtype), offsets.view(layout.dtype)
        index = cls(layout, *arrays, metadata, path, checksums)
        if not mmap:
            index.verify()
        return index

    def verify(self) -> None:
        """Read all of an index that was loaded; `Damaged` if it differs from the checksums in its file."""
        if self._checksums:
            self.check([checksum(array) for array in self._arrays] != self._checksums)

    @property
    def _arrays(self):
        return self.offsets, self.codes, self.ids

    def _as_queries(self, queries):
        queries = as_codes(queries)
        if queries.shape[1] != self.nbytes_per_code:
            raise ValueError(f"queries have {queries.shape[1]} bytes, the codes of this index {self.nbytes_per_code}")
        return queries


def as_codes(codes: ArrayLike) -> np.ndarray:
    """Return `codes` as a contiguous array, uint8 (N, nbytes); a `ValueError` if they are anything else."""
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] == 0:
        raise ValueError(f"codes are {codes.dtype} {codes.shape}, and must be uint8 (N, nbytes)")
    return np.ascontiguousarray(codes)
