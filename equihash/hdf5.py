"""HDF5 files: a crash does not damage one that is being written, and damage is no error of the system."""

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from equihash.errors import Damaged, Remedy, UserError
from equihash.files import exists, naming, write_all

# the file format of HDF5 1.10: the first whose metadata has checksums
LIBVER = ("v110", "v110")
DEFLATE = 1100  # more bytes than this cannot come from one compressed byte


class Hdf5File:
    """An HDF5 file that is open for reading; a context manager.

    HDF5's own locks, which some file systems lack, are not used. `remedy`, what makes the file, is that of errors.

    Raises
    ------
    UserError
        The file does not exist.
    Damaged
        The file is damaged. All methods raise this, too.
    OSError
        The system cannot read the file, which the error names. All methods raise this, too.
    """

    def __init__(self, path: Path, remedy: Remedy | None = None):
        self.path, self.remedy = path, remedy
        if not exists(path):
            raise UserError(f"{path} does not exist", remedy)
        self.raw = _Input(path)
        try:
            with self._reading():
                self._file = h5py.File(self.raw, "r")
        except BaseException:
            self.raw.close()
            raise

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self) -> int:
        return self.raw.fileno()

    def close(self) -> None:
        with self._reading():
            self._file.close()
        self.raw.close()

    def dataset(self, name: str) -> "Dataset | None":
        """Return the `Dataset` called `name`, or None if there is none.

        A `UserError` if another file holds its values; `Damaged` if they are not numbers.
        """
        with self._reading():
            link = self._file.get(name, getlink=True)
            elsewhere = isinstance(link, h5py.ExternalLink)
            found = None if elsewhere else self._file.get(name)
            if isinstance(found, h5py.Dataset):
                elsewhere = found.is_virtual or found.external is not None
        if elsewhere:
            raise UserError(f"{self.path}: {name} lies in another file, which may be missing: copy it into this one")
        return Dataset(self, found) if isinstance(found, h5py.Dataset) else None

    def attribute(self, name: str, default=None) -> int | str | None:
        """Return an attribute: an int, or a str of a fixed length."""
        with self._reading():
            return _attribute(self._file, name, default)

    @property
    def provenance(self) -> dict:
        """What made the file; empty if the file does not say."""
        with self._reading():
            found = json.loads(_attribute(self._file, "provenance", "{}"))
            if not isinstance(found, dict):
                raise ValueError("provenance is not a dict")
        return found

    @contextmanager
    def _reading(self):
        """For calls of h5py and nothing else: damaged bytes can make it raise anything."""
        try:
            yield
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            if self.raw.error is not None:
                raise self.raw.error from error
            if isinstance(error, OSError) and error.errno:  # of the system: too many open files to load a codec
                raise
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise Damaged(f"{self.path} is damaged, or no HDF5 file ({reason})", self.remedy) from error


class Dataset:
    """Numbers in an `Hdf5File`.

    Attributes
    ----------
    shape : tuple
    dtype : numpy.dtype
    offset : int or None
        Where its values begin in the file; None if they are not contiguous.
    """

    def __init__(self, file: Hdf5File, dataset: h5py.Dataset):
        self.file, self._dataset = file, dataset
        with file._reading():
            self.shape, self.dtype, self.offset = dataset.shape, dataset.dtype, dataset.id.get_offset()
            if self.shape is None or self.dtype.kind not in "uif":
                raise ValueError(f"{dataset.name} is {self.dtype}")
            claimed, held = math.prod(self.shape) * self.dtype.itemsize, os.fstat(file.fileno()).st_size
            if claimed > (held * DEFLATE if self.offset is None else held - self.offset):
                raise ValueError(f"{dataset.name} should have {claimed} bytes, the file has {held}")

    def __len__(self) -> int:
        return self.shape[0]

    def attribute(self, name: str, default=None) -> int | str | None:
        """See `Hdf5File.attribute`."""
        with self.file._reading():
            return _attribute(self._dataset, name, default)

    def read(self, rows=()) -> np.ndarray:
        """Return all rows, or those of a slice or of a list of increasing integers."""
        with self.file._reading():
            return self._dataset[rows]

    def read_into(self, array: np.ndarray, first: int) -> None:
        """Fill `array` with the rows `first`, `first` + 1, ..."""
        with self.file._reading():
            self._dataset.read_direct(array, np.s_[first : first + len(array)])

    def map(self) -> np.ndarray:
        """Return all rows as a read-only memory map; if they are not contiguous, as an array.

        A map is much faster than h5py for single rows, and processes share its pages, which can be dropped.
        """
        if self.offset is None or not math.prod(self.shape):
            return self.read()
        with naming(self.file.path):
            return np.memmap(self.file.raw, self.dtype, "r", self.offset, self.shape)


class _Input(io.RawIOBase):
    """A file that HDF5 reads through Python, so that errors of the system can be recognised."""

    def __init__(self, path):
        self._raw = open(path, "rb", buffering=0)  # noqa: SIM115
        self._path, self.error = str(path), None
        self.seek, self.tell = self._raw.seek, self._raw.tell
        self.fileno, self.close = self._raw.fileno, self._raw.close

    def readinto(self, buffer):
        left = memoryview(buffer).cast("B")
        try:
            while left and (count := self._raw.readinto(left)):
                left = left[count:]
        except OSError as error:
            error.filename = self._path
            self.error = error
            raise
        left[:] = bytes(len(left))  # HDF5 expects zeros after the end
        return len(buffer)


@contextmanager
def create_hdf5(path: Path) -> Iterator[h5py.File]:
    """Create the HDF5 file `path` and yield it; a full disk is an `OSError` when the context ends."""
    with open(path, "w+b", buffering=0) as raw:
        output = _Output(raw)
        try:
            with h5py.File(output, "w", libver=LIBVER) as file:
                yield file
        except Exception:
            if output.error is None:
                raise
        if output.error is not None:
            raise output.error


class _Output:
    """A file that HDF5 writes through Python.

    After a failed write HDF5 cannot close the file, and later crashes the process. So the error is hidden from HDF5 and
    kept, and nothing more is written.
    """

    def __init__(self, raw: BinaryIO):
        self.raw, self.error = raw, None
        self.seek, self.tell, self.read, self.readinto = raw.seek, raw.tell, raw.read, raw.readinto
        self.flush = raw.flush

    def write(self, content):
        self._try(write_all, self.raw, content)
        return len(content)

    def truncate(self, size):
        self._try(self.raw.truncate, size)

    def _try(self, function, *arguments):
        try:
            if self.error is None:
                function(*arguments)
        except OSError as error:
            self.error = error


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """Create a contiguous dataset, and allocate it at once.

    It can be mapped, and writing to it changes no metadata: an interrupted write does not damage the file.
    """
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(tuple(shape))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, properties)
    return file[name]


def set_provenance(file: h5py.File, work: dict) -> None:
    """Write `work` as JSON to the attribute `provenance`."""
    # Of a fixed length: variable-length text lies in a heap without a checksum, and HDF5 can hang if that is damaged.
    file.attrs["provenance"] = np.bytes_(json.dumps(work, sort_keys=True, default=int))


def _attribute(item, name, default):
    if name not in item.attrs:
        return default
    found = item.attrs.get_id(name)
    if found.shape != () or found.dtype.kind not in "iuS":
        raise ValueError(f"attribute {name} is {found.dtype} {found.shape}")
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else int(value)
