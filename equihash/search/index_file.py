"""The file of an index.

A header, JSON metadata, then `offsets`, `codes` and `ids` (see _index.pyx), each from a multiple of PAGE bytes, with
zeros between; little-endian. The header is: magic, version, bytes of a code, length of the metadata, items of the
database, shard, number of shards, items of the shard, checksums of the three arrays. The CRC of the header and the
metadata follows them. All other sizes follow from these: see `Layout`.
"""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from equihash.errors import Damaged, UserError
from equihash.search._index import REBUILD

MAGIC = b"EquiIndx"
VERSION = 3
HEADER = struct.Struct("<8sIIQQIIQ3Q")
CRC = struct.Struct("<I")
PAGE = 4096

WIDE_FROM = 2**32  # with so many items, a number takes 8 bytes instead of 4
MAX_PARTITION_BITS = 13  # so many partitions can be written to at once from a core's cache
MAX_METADATA = 2**24  # bytes of JSON


class Layout:
    """The sizes of everything in an index, or in a shard of `nb_items` items, of `size` codes of `nbytes` bytes.

    The top `bits` bits of a code's hash are its bucket, and the top `partition_bits` of them its partition. A shard has
    the partitions from `first` to before `last`.
    """

    def __init__(self, size: int, nbytes: int, shard: int = 0, nb_shards: int = 1, nb_items: int | None = None):
        self.size, self.nbytes, self.shard, self.nb_shards = size, nbytes, shard, nb_shards
        self.nb_items = size if nb_items is None else nb_items
        self.dtype = np.dtype("<u4" if size < WIDE_FROM else "<u8")
        self.bits = max(size // 2, 1).bit_length() - 1  # 2 to 4 items a bucket on average
        self.partition_bits = min(self.bits // 2, MAX_PARTITION_BITS)
        self.partitions = 1 << self.partition_bits
        self.sub_bits = self.bits - self.partition_bits
        self.first, self.last = (self.partitions * s // nb_shards for s in (shard, shard + 1))

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows, and bytes of a row, of `offsets`, `codes` and `ids`."""
        width = self.dtype.itemsize
        rows = ((self.last - self.first) << self.sub_bits) + 1
        return (rows, width), (self.nb_items, self.nbytes), (self.nb_items, width)

    def sections(self, metadata_size: int) -> tuple[list[int], int]:
        """Where `offsets`, `codes` and `ids` begin, and where the file ends."""
        starts, end = [], HEADER.size + metadata_size + CRC.size
        for rows, width in self.shapes:
            starts.append(-(-end // PAGE) * PAGE)
            end = starts[-1] + rows * width
        return starts, end


def write_header(file: BinaryIO, layout: Layout, metadata: bytes, checksums: list[int]) -> None:
    """Write the header, and give the file its size."""
    shard = layout.shard, layout.nb_shards, layout.nb_items
    header = HEADER.pack(MAGIC, VERSION, layout.nbytes, len(metadata), layout.size, *shard, *checksums) + metadata
    file.truncate(layout.sections(len(metadata))[1])
    file.seek(0)
    file.write(header + CRC.pack(zlib.crc32(header)))


def read_header(path: Path, file: BinaryIO) -> tuple[Layout, dict, list[int], list[int]]:
    """Return the layout, the metadata, the checksums, and where the three arrays begin; a `UserError` if it cannot."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise Damaged(f"{path} is not an index, or is cut short", REBUILD)
    _, version, nbytes, metadata_size, size, shard, nb_shards, nb_items, *checksums = HEADER.unpack(header)
    if version != VERSION:
        raise UserError(f"{path} is an index of version {version}, and this is version {VERSION}", REBUILD)
    metadata = file.read(min(metadata_size, MAX_METADATA))
    intact = file.read(CRC.size) == CRC.pack(zlib.crc32(header + metadata))
    try:
        metadata = json.loads(metadata)
    except (ValueError, RecursionError):
        intact = False
    whole = (shard, nb_shards, nb_items) == (0, 1, size)
    part = shard < nb_shards > 1 and nb_items <= size
    if not (intact and nbytes and isinstance(metadata, dict) and (whole or part)):
        raise Damaged(f"{path} is damaged", REBUILD)
    layout = Layout(size, nbytes, shard, nb_shards, nb_items)
    sections, end = layout.sections(metadata_size)
    file_size = os.fstat(file.fileno()).st_size
    if file_size != end:
        raise Damaged(f"{path} has {file_size} bytes and should have {end}", REBUILD)
    return layout, metadata, checksums, sections
