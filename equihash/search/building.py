"""Building an index: in memory, or of a file of codes within a memory limit."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from equihash._checksum import checksum
from equihash.hdf5 import Dataset
from equihash.progress import progress_bar
from equihash.search import _index
from equihash.search.index_file import Layout, write_header

MAX_ROWS = 2**22  # rows of a file read at once


def histogram(layout: Layout, codes: np.ndarray) -> np.ndarray:
    """Number of codes in each partition of the layout's shard, none in the others: int64 (partitions,)."""
    counts = _index.histogram(codes, layout.partition_bits)
    counts[: layout.first] = counts[layout.last :] = 0
    return counts


def sort(
    layout: Layout,
    chunks: Iterable[tuple[int, np.ndarray]],
    partitions: np.ndarray,
    counts: np.ndarray,
    memory: int = sys.maxsize,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sorted codes, ids and offsets of some partitions.

    Parameters
    ----------
    layout : Layout
    chunks : iterable of (int, uint8 (n, nbytes))
        All codes, in pieces: the id of the first of the piece, the piece.
    partitions : int (P,)
        The partitions wanted, ascending.
    counts : int (P,)
        Their sizes.
    memory : int
        Bytes for the spare room of threads; one thread takes what it needs.

    Returns
    -------
    codes : uint8 (n, nbytes)
    ids : (n,)
    offsets : (P * buckets of a partition + 1,)
    """
    bounds = np.concatenate([[0], np.cumsum(counts)])
    position = np.full(layout.partitions, -1)
    position[partitions] = bounds[:-1]
    codes = np.empty((bounds[-1], layout.nbytes), np.uint8)
    ids = np.empty(bounds[-1], layout.dtype)
    offsets = np.empty((len(partitions) << layout.sub_bits) + 1, layout.dtype)
    for first_id, chunk in chunks:
        _index.place(chunk, first_id, position, codes, ids)
    _index.sort_partitions(codes, ids, bounds, layout.bits, layout.sub_bits, offsets, memory)
    offsets[-1] = bounds[-1]
    return codes, ids, offsets


class FileBuilder:
    """Builds an index file, or one shard, from a `Dataset` of codes within a memory limit in bytes.

    One pass over the dataset counts the items of each partition. Then each pass sorts as many partitions as fit. A
    partition too large to fit has some code that very many items share, but no more different codes than any other:
    its codes are counted first, then the ids of each code are written where they belong, as they come.
    """

    def __init__(self, dataset: Dataset, layout: Layout, file: BinaryIO, memory_limit: int, progress: bool):
        self.dataset, self.layout, self.file = dataset, layout, file
        self.rows = min(max(memory_limit // 16 // layout.nbytes, 1), MAX_ROWS)
        self.budget = memory_limit * 7 // 10  # the rest: spare room, and rows being read
        self.spare = self.budget // 4
        options = {} if progress else {"disable": True}
        self.bar = progress_bar(total=layout.size, desc="index", unit="code", unit_scale=True, leave=False, **options)
        self.checksums = [0, 0, 0]

    def run(self, metadata: dict) -> None:
        layout, width = self.layout, self.layout.dtype.itemsize
        metadata = json.dumps(metadata).encode()
        with self.bar:
            self.counts = sum(
                (histogram(layout, codes) for _, codes in self.chunks()), np.zeros(layout.partitions, int)
            )
            layout.nb_items = int(self.counts.sum())
            self.sections, _ = layout.sections(len(metadata))
            self.starts = np.cumsum(self.counts) - self.counts
            cost = self.counts * (layout.nbytes + width) + (width << layout.sub_bits)
            heavy = (cost > self.spare) & (self.counts > 1)
            passes = self.plan(layout.first + np.flatnonzero(~heavy[layout.first : layout.last]), cost)
            self.bar.total = layout.size * (1 + len(passes) + 2 * heavy.any())
            for partitions in passes:
                self.write_partitions(partitions)
            if heavy.any():
                self.write_heavy(np.flatnonzero(heavy))
        self.write_offsets(layout.last, np.array([layout.nb_items], layout.dtype))
        write_header(self.file, layout, metadata, self.checksums)

    def plan(self, partitions: np.ndarray, cost: np.ndarray) -> list[list[int]]:
        """Split the partitions into passes within the budget."""
        passes, spent = [], self.budget
        for partition in partitions:
            if spent + cost[partition] > self.budget or not passes:
                passes.append([])
                spent = 0
            passes[-1].append(partition)
            spent += cost[partition]
        return passes

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        buffer = np.empty((self.rows, self.layout.nbytes), np.uint8)
        for start in range(0, self.layout.size, self.rows):
            chunk = buffer[: min(self.rows, self.layout.size - start)]
            self.dataset.read_into(chunk, start)
            yield start, chunk
            self.bar.update(len(chunk))

    def write(self, section: int, row: int, array: np.ndarray) -> None:
        """Write rows of a section (0 offsets, 1 codes, 2 ids), the first of them `row`."""
        self.checksums[section] = (self.checksums[section] + checksum(array, row)) % 2**64
        self.file.seek(self.sections[section] + row * self.layout.shapes[section][1])
        self.file.write(array.data if array.size else b"")

    def write_offsets(self, partition: int, array: np.ndarray) -> None:
        self.write(0, (partition - self.layout.first) << self.layout.sub_bits, array)

    def write_partitions(self, partitions: np.ndarray) -> None:
        codes, ids, offsets = sort(self.layout, self.chunks(), partitions, self.counts[partitions], self.spare)
        row = 0
        for run in np.split(partitions, np.flatnonzero(np.diff(partitions) > 1) + 1):
            begin = offsets[row << self.layout.sub_bits : row + len(run) << self.layout.sub_bits]
            first, count, start = int(begin[0]), self.counts[run].sum(), self.starts[run[0]]
            self.write(1, start, codes[first : first + count])
            self.write(2, start, ids[first : first + count])
            begin += begin.dtype.type(start - first)
            self.write_offsets(run[0], begin)
            row += len(run)

    def write_heavy(self, partitions: np.ndarray) -> None:
        layout, buckets = self.layout, 1 << self.layout.sub_bits

        def sort_chunk(first_id, chunk):
            return sort(layout, [(first_id, chunk)], partitions, histogram(layout, chunk)[partitions], self.spare)

        codes, counts = np.empty((0, layout.nbytes), np.uint8), np.empty(0, int)  # the different ones, in order
        for _, chunk in self.chunks():
            some, *_ = sort_chunk(0, chunk)
            starts, sizes = _runs(some)
            codes, order, _ = sort_chunk(0, np.concatenate([codes, some[starts]]))
            counts = np.concatenate([counts, sizes])[order]
            starts, _ = _runs(codes)
            codes, counts = codes[starts], np.add.reduceat(counts, starts) if len(starts) else counts

        offsets = sort_chunk(0, codes)[2].astype(int)
        ends = np.concatenate([[0], np.cumsum(counts)])
        shifts = self.starts[partitions] - ends[offsets[:-1:buckets]]
        position = ends[:-1] + np.repeat(shifts, np.diff(offsets[::buckets]))
        for i, partition in enumerate(partitions):
            begin = ends[offsets[i * buckets : (i + 1) * buckets]] + shifts[i]
            self.write_offsets(partition, begin.astype(layout.dtype))
        for code, first, count in zip(codes, position, counts):
            for start in range(0, count, self.rows):
                self.write(1, first + start, np.tile(code, (min(self.rows, count - start), 1)))

        own = Layout(*codes.shape)
        every = np.arange(own.partitions)
        rank = _index.Reader(*sort(own, [(0, codes)], every, histogram(own, codes)), own.bits, 0, own.size)
        for first_id, chunk in self.chunks():
            some, ids, _ = sort_chunk(first_id, chunk)
            starts, sizes = _runs(some)
            for code, start, size in zip(rank.find(some[starts])[1], starts, sizes):
                self.write(2, position[code], ids[start : start + size])
                position[code] += size


def _runs(codes):
    """Beginnings and sizes of the runs of equal rows."""
    bounds = np.flatnonzero(np.concatenate([[True], (codes[1:] != codes[:-1]).any(axis=1), [True]]))
    return (bounds[:-1], np.diff(bounds)) if len(codes) else (np.empty(0, int), np.empty(0, int))
