"""The inverted index: from a fingerprint to the items that have it."""

import json
import mmap as memory_map
import os
import struct
import zlib

import numpy as np

from equihash._checksum import checksum
from equihash.errors import Damaged, Remedy, UserError
from equihash.files import atomic, naming
from equihash.hdf5 import Hdf5File
from equihash.progress import progress_bar
from equihash.search import _index

REBUILD = Remedy("build_index")

# The file: header, JSON metadata, then `offsets`, `codes` and `ids` (see _index.pyx), each from a multiple of PAGE on,
# zeros between, little-endian. The header is: magic, version, bytes a code, length of the metadata, items of the
# database, shard, number of shards, items of the shard, checksums of the three arrays. The CRC of the header and the
# metadata follows them. All other sizes follow from these: see _Layout.
MAGIC = b"EquiIndx"
VERSION = 3
HEADER = struct.Struct("<8sIIQQIIQ3Q")
CRC = struct.Struct("<I")
PAGE = 4096

WIDE_FROM = 2**32  # from so many items on, a number takes 8 bytes instead of 4
MOST_PARTITION_BITS = 13  # so many partitions can be written to at once from a core's cache
MOST_ROWS = 2**22  # rows of a file read at once
MOST_METADATA = 2**24  # bytes of JSON
LARGE_GROUP = 64  # a larger group of equal codes is not sorted by insertion


class InvertedIndex(_index.Reader):
    """Items by code: the answer to "which items have this code?" in constant time, for codes of any width.

    Takes 15 bytes an item or less for codes of 8 bytes, up to 2^32 items. Made by `build`, `build_from_file` or `load`.

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
    """

    def __init__(self, layout, codes, ids, offsets, metadata=None, path=None, checksums=None):
        super().__init__(codes, ids, offsets, layout.bits, layout.first << layout.sub_bits, layout.size)
        self._layout, self.nbytes_per_code, self.database_size = layout, layout.nbytes, layout.size
        self.shard, self.nb_shards = layout.shard, layout.nb_shards
        self.metadata = metadata or {}
        self._path, self._checksums = path, checksums

    # ---- Building

    @classmethod
    def build(cls, codes, shard=0, nb_shards=1):
        """Return the index, or one shard of it, of `codes`, uint8 (N, nbytes): item i has the code codes[i]."""
        codes = _as_codes(codes)
        layout = _Layout(*codes.shape, shard, nb_shards)
        counts = layout.histogram(codes)
        layout.nb_items = int(counts.sum())
        partitions = np.arange(layout.first, layout.last)
        return cls(layout, *layout.sort([(0, codes)], partitions, counts[partitions]))

    @classmethod
    def build_from_file(
        cls, source, out_path, memory_limit_bytes=12 * 2**30, progress=True, metadata=None, shard=0, nb_shards=1
    ):
        """Build the index, or one shard of it, of the codes of an HDF5 file, and write it to `out_path`.

        The file is the one that `build` and `save` write, whatever the memory limit: the less memory, the more often
        `source` is read.

        Parameters
        ----------
        source : path
            A file with the dataset `codes`, uint8 (N, nbytes).
        out_path : path
            Written whole or not at all.
        memory_limit_bytes : int
            Memory for the arrays, in bytes, beyond some MiB that Python and its libraries take.
        progress : bool
            Show a progress bar.
        metadata : dict
            Kept in the file, as JSON.
        shard, nb_shards : int

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
                layout = _Layout(*codes.shape, shard, nb_shards)
                _FileBuilder(codes, layout, out, memory_limit_bytes, progress).run(metadata or {})

    # ---- Look-ups

    def __len__(self):
        return len(self.codes)

    def lookup(self, queries):
        """Return the items of each query's code.

        Parameters
        ----------
        queries : uint8 (Q, nbytes)

        Returns
        -------
        offsets : int64 (Q + 1,)
        ids : int64
            Those of query i are ids[offsets[i]:offsets[i + 1]], in ascending order.
        """
        return self._checked(self._lookup, self._as_queries(queries))

    def count(self, queries):
        """Return the number of items of each query's code, int64 (Q,); millions of items take no longer."""
        return self._checked(self._count, self._as_queries(queries))

    def holds(self, codes):
        """Whether items of each code, uint8 (Q, nbytes), are of this shard, if there are any: bool (Q,)."""
        return self._holds(self._as_queries(codes))

    def __getitem__(self, code):
        """Return the ids, int64 ascending, of one code: uint8 (nbytes,) or bytes."""
        try:
            return self._one(code)
        except _index.Damaged:
            raise self._damaged() from None

    # ---- Collisions

    def shared_codes(self, chunk=2**20):
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
            offsets, ids, start = self._checked(self._shared, start, max(chunk, 2))
            if len(ids):
                yield offsets, ids

    def internal_collisions(self, class_numbers):
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
            if numbers.shape != ids.shape:
                raise ValueError(f"class_numbers gave the shape {numbers.shape} for {len(ids)} ids")
            for group in np.flatnonzero(np.diff(offsets) > LARGE_GROUP):
                numbers[offsets[group] : offsets[group + 1]].sort()
            pairs += _index.count_different_pairs(offsets, numbers)
        return pairs

    # ---- Files

    def save(self, path, metadata=None):
        """Write the index to `path`, whole or not at all, with a dict for JSON, by default `self.metadata`."""
        arrays = self.offsets, self.codes, self.ids
        with atomic(path) as temporary, open(temporary, "wb") as file:
            sections = self._layout.write_header(
                file, self.metadata if metadata is None else metadata, [checksum(array) for array in arrays]
            )
            for start, array in zip(sections, arrays):
                file.seek(start)
                file.write(array.data if array.size else b"")

    @classmethod
    def load(cls, path, mmap=True):
        """Open the index at `path`.

        Parameters
        ----------
        path : path
        mmap : bool
            Map the file, which takes no time at any size: pages are read as they are needed, only the header is
            checked (see `verify`), and no damage to the rest can do worse than wrong answers or a `UserError`.
            Otherwise read and check the whole file.

        Raises
        ------
        UserError
            The file is missing, is not an index, is of another version, or is damaged.
        """
        try:
            with naming(path), open(path, "rb") as file:
                layout, metadata, checksums, sections, end = _read_header(path, file)
                if mmap:
                    content = np.frombuffer(memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ), np.uint8)
                else:
                    file.seek(0)
                    content = np.fromfile(file, np.uint8, end)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist", REBUILD) from None
        offsets, codes, ids = (
            content[start : start + rows * width] for start, (rows, width) in zip(sections, layout.shapes)
        )
        index = cls(
            layout,
            codes.reshape(-1, layout.nbytes),
            ids.view(layout.dtype),
            offsets.view(layout.dtype),
            metadata,
            path,
            checksums,
        )
        if not mmap:
            index.verify()
        return index

    def verify(self):
        """Compare an index that was loaded to the checksums in its file, all of which is read.

        Raises
        ------
        UserError
            It is damaged.
        """
        arrays = self.offsets, self.codes, self.ids
        if self._checksums and any(checksum(a) != c for a, c in zip(arrays, self._checksums)):
            raise self._damaged()

    def _checked(self, function, *args):
        try:
            return function(*args)
        except _index.Damaged:
            raise self._damaged() from None

    def _damaged(self):
        return Damaged(f"{self._path or 'the index'} is damaged", REBUILD)

    def _as_queries(self, queries):
        queries = _as_codes(queries)
        if queries.shape[1] != self.nbytes_per_code:
            raise ValueError(f"queries have {queries.shape[1]} bytes, the codes of this index {self.nbytes_per_code}")
        return queries


def _as_codes(codes):
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] == 0:
        raise ValueError(f"codes are {codes.dtype} {codes.shape}, and must be uint8 (N, nbytes)")
    return np.ascontiguousarray(codes)


class _Layout:
    """The sizes of everything in an index, or in a shard of `nb_items` items, of `size` codes of `nbytes` bytes.

    A shard is a slice of the index of all items: its partitions are those from `first` to before `last`.
    """

    def __init__(self, size, nbytes, shard=0, nb_shards=1, nb_items=None):
        self.size, self.nbytes, self.shard, self.nb_shards = size, nbytes, shard, nb_shards
        self.nb_items = size if nb_items is None else nb_items
        self.dtype = np.dtype("<u4" if size < WIDE_FROM else "<u8")
        self.bits = max(size // 2, 1).bit_length() - 1  # 2 to 4 items a bucket on average
        self.partition_bits = min(self.bits // 2, MOST_PARTITION_BITS)
        self.partitions = 1 << self.partition_bits
        self.sub_bits = self.bits - self.partition_bits
        self.first, self.last = (self.partitions * s // nb_shards for s in (shard, shard + 1))

    @property
    def shapes(self):
        """Rows, and bytes of a row, of `offsets`, `codes` and `ids`."""
        width = self.dtype.itemsize
        rows = ((self.last - self.first) << self.sub_bits) + 1
        return (rows, width), (self.nb_items, self.nbytes), (self.nb_items, width)

    def sections(self, metadata_size):
        """Where `offsets`, `codes` and `ids` begin, and where the file ends."""
        starts, end = [], HEADER.size + metadata_size + CRC.size
        for rows, width in self.shapes:
            starts.append(-(-end // PAGE) * PAGE)
            end = starts[-1] + rows * width
        return starts, end

    def write_header(self, file, metadata, checksums):
        """Write the header and give the file its size; return where the three arrays begin."""
        metadata = json.dumps(metadata).encode()
        header = (
            HEADER.pack(
                MAGIC,
                VERSION,
                self.nbytes,
                len(metadata),
                self.size,
                self.shard,
                self.nb_shards,
                self.nb_items,
                *checksums,
            )
            + metadata
        )
        sections, end = self.sections(len(metadata))
        file.truncate(end)
        file.seek(0)
        file.write(header + CRC.pack(zlib.crc32(header)))
        return sections

    def histogram(self, codes):
        """Number of codes in each partition of this shard, none in the others."""
        counts = _index.histogram(codes, self.partition_bits)
        counts[: self.first] = counts[self.last :] = 0
        return counts

    def sort(self, chunks, partitions, counts):
        """Return the sorted codes, ids and offsets of some partitions.

        Parameters
        ----------
        chunks : iterable of (int, uint8 (n, nbytes))
            All codes, in pieces: the id of the first of the piece, the piece.
        partitions : int (P,)
            The partitions wanted, ascending.
        counts : int (P,)
            Their sizes.

        Returns
        -------
        codes : uint8 (n, nbytes)
        ids : (n,)
        offsets : (P * buckets of a partition + 1,)
        """
        bounds = np.concatenate([[0], np.cumsum(counts)])
        position = np.full(self.partitions, -1)
        position[partitions] = bounds[:-1]
        codes = np.empty((bounds[-1], self.nbytes), np.uint8)
        ids = np.empty(bounds[-1], self.dtype)
        offsets = np.empty((len(partitions) << self.sub_bits) + 1, self.dtype)
        for first_id, chunk in chunks:
            _index.place(chunk, first_id, position, codes, ids)
        _index.sort_partitions(codes, ids, bounds, self.bits, self.sub_bits, offsets)
        offsets[-1] = bounds[-1]
        return codes, ids, offsets


class _FileBuilder:
    """Builds an index file, or one shard, from a `Dataset` of a file within a memory limit.

    One pass over the dataset counts the items of each partition. Then each pass sorts as many partitions as fit. A
    partition too large to fit has some code that very many items share, but no more different codes than any other:
    its codes are counted first, then the ids of each code are written where they belong, as they come.
    """

    def __init__(self, dataset, layout, file, memory_limit, progress):
        self.dataset, self.layout, self.file = dataset, layout, file
        self.rows = min(max(memory_limit // 16 // self.layout.nbytes, 1), MOST_ROWS)
        self.budget = memory_limit * 7 // 10  # the rest: spare room of a quarter of this, rows being read
        self.bar = progress_bar(
            total=self.layout.size,
            desc="index",
            unit="code",
            unit_scale=True,
            leave=False,
            **({} if progress else {"disable": True}),
        )
        self.checksums = [0, 0, 0]

    def run(self, metadata):
        layout, width = self.layout, self.layout.dtype.itemsize
        with self.bar:
            self.counts = sum((layout.histogram(codes) for _, codes in self.chunks()), np.zeros(layout.partitions, int))
            layout.nb_items = int(self.counts.sum())
            self.sections, _ = layout.sections(len(json.dumps(metadata).encode()))
            self.starts = np.cumsum(self.counts) - self.counts
            cost = self.counts * (layout.nbytes + width) + (width << layout.sub_bits)
            heavy = (cost > self.budget // (4 * _index.threads())) & (self.counts > 1)
            passes = self.plan(layout.first + np.flatnonzero(~heavy[layout.first : layout.last]), cost)
            self.bar.total = layout.size * (1 + len(passes) + 2 * heavy.any())
            for partitions in passes:
                self.write_partitions(partitions)
            if heavy.any():
                self.write_heavy(np.flatnonzero(heavy))
        self.write_offsets(layout.last, np.array([layout.nb_items], layout.dtype))
        layout.write_header(self.file, metadata, self.checksums)

    def plan(self, partitions, cost):
        """Split the partitions into passes within the budget."""
        passes, spent = [], self.budget
        for partition in partitions:
            if spent + cost[partition] > self.budget or not passes:
                passes.append([])
                spent = 0
            passes[-1].append(partition)
            spent += cost[partition]
        return passes

    def chunks(self):
        buffer = np.empty((self.rows, self.layout.nbytes), np.uint8)
        for start in range(0, self.layout.size, self.rows):
            chunk = buffer[: min(self.rows, self.layout.size - start)]
            self.dataset.read_into(chunk, start)
            yield start, chunk
            self.bar.update(len(chunk))

    def write(self, section, row, array):
        """Write rows of a section (0 offsets, 1 codes, 2 ids) from `row` on."""
        self.checksums[section] = (self.checksums[section] + checksum(array, row)) % 2**64
        self.file.seek(self.sections[section] + row * self.layout.shapes[section][1])
        self.file.write(np.ascontiguousarray(array).data if array.size else b"")

    def write_offsets(self, partition, array):
        self.write(0, (partition - self.layout.first) << self.layout.sub_bits, array)

    def write_partitions(self, partitions):
        codes, ids, offsets = self.layout.sort(self.chunks(), partitions, self.counts[partitions])
        row = 0
        for run in np.split(partitions, np.flatnonzero(np.diff(partitions) > 1) + 1):
            begin = offsets[row << self.layout.sub_bits : row + len(run) << self.layout.sub_bits]
            first, count, start = int(begin[0]), self.counts[run].sum(), self.starts[run[0]]
            self.write(1, start, codes[first : first + count])
            self.write(2, start, ids[first : first + count])
            begin += begin.dtype.type(start - first)
            self.write_offsets(run[0], begin)
            row += len(run)

    def write_heavy(self, partitions):
        layout, buckets = self.layout, 1 << self.layout.sub_bits

        def sort(first_id, chunk):
            return layout.sort([(first_id, chunk)], partitions, layout.histogram(chunk)[partitions])

        codes, counts = np.empty((0, layout.nbytes), np.uint8), np.empty(0, int)  # the different ones, in order
        for _, chunk in self.chunks():
            some, *_ = sort(0, chunk)
            starts, sizes = _runs(some)
            codes, order, _ = sort(0, np.concatenate([codes, some[starts]]))
            counts = np.concatenate([counts, sizes])[order]
            starts, _ = _runs(codes)
            codes, counts = codes[starts], np.add.reduceat(counts, starts) if len(starts) else counts

        offsets = sort(0, codes)[2].astype(int)
        ends = np.concatenate([[0], np.cumsum(counts)])
        shifts = self.starts[partitions] - ends[offsets[:-1:buckets]]
        position = ends[:-1] + np.repeat(shifts, np.diff(offsets[::buckets]))
        for i, partition in enumerate(partitions):
            begin = ends[offsets[i * buckets : (i + 1) * buckets]] + shifts[i]
            self.write_offsets(partition, begin.astype(layout.dtype))
        for code, first, count in zip(codes, position, counts):
            for start in range(0, count, self.rows):
                self.write(1, first + start, np.tile(code, (min(self.rows, count - start), 1)))

        rank = InvertedIndex.build(codes)
        for first_id, chunk in self.chunks():
            some, ids, _ = sort(first_id, chunk)
            starts, sizes = _runs(some)
            for code, start, size in zip(rank.lookup(some[starts])[1], starts, sizes):
                self.write(2, position[code], ids[start : start + size])
                position[code] += size


def _runs(codes):
    """Beginnings and sizes of the runs of equal rows."""
    bounds = np.flatnonzero(np.concatenate([[True], (codes[1:] != codes[:-1]).any(axis=1), [True]]))
    return (bounds[:-1], np.diff(bounds)) if len(codes) else (np.empty(0, int), np.empty(0, int))


def _read_header(path, file):
    """Return the layout, the metadata, the checksums, where the arrays begin and where the file ends."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise Damaged(f"{path} is not an index, or is cut short", REBUILD)
    _, version, nbytes, metadata_size, size, shard, nb_shards, nb_items, *checksums = HEADER.unpack(header)
    if version != VERSION:
        raise UserError(f"{path} is an index of version {version}, and this is version {VERSION}", REBUILD)
    file_size = os.fstat(file.fileno()).st_size
    metadata = file.read(min(metadata_size, MOST_METADATA))
    if file.read(CRC.size) != CRC.pack(zlib.crc32(header + metadata)) or not nbytes:
        raise Damaged(f"{path} is damaged", REBUILD)
    try:
        content = json.loads(metadata)
    except (ValueError, RecursionError):
        content = None
    whole = (shard, nb_shards, nb_items) == (0, 1, size)
    if not isinstance(content, dict) or not (whole or shard < nb_shards > 1 and nb_items <= size):
        raise Damaged(f"{path} is damaged", REBUILD)
    layout = _Layout(size, nbytes, shard, nb_shards, nb_items)
    sections, end = layout.sections(metadata_size)
    if file_size != end:
        raise Damaged(f"{path} has {file_size} bytes and should have {end}", REBUILD)
    return layout, content, checksums, sections, end
