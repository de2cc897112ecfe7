"""Files are written whole or not at all, and opened with errors that say what to do."""

import fcntl
import hashlib
import json
import math
import os
import socket
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import psutil

from equihash.errors import Locked, UserError

HOST = socket.gethostname()
# the file format of HDF5 1.10: the first whose metadata has checksums
LIBVER = ("v110", "v110")
DEFLATE = 1100  # at most so many bytes are made of one that is compressed


@contextmanager
def atomic(path):
    """Yield a temporary path in the folder of `path`, and rename it to `path` on success.

    The file is fsynced before the rename and the folder after it, so that a crash leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process that was killed left its file; one of another machine may be alive, on a folder that is shared.
    for left in path.parent.glob(f".{path.name}.{HOST}-*.tmp"):
        if not psutil.pid_exists(int(left.name.split("-")[-1].split(".")[0])):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path):
    """Within it an `OSError` that names no file is about `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path):
    """Be the only process that writes `path`, or a folder.

    The lock is a file beside it. The system frees the lock of a process that has ended, however it ended.

    Raises
    ------
    Locked
        Another process has the lock.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        file = open(lock, "a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode(errors="replace") or "another process"
            raise Locked(f"{path} is being written by {holder}: wait until it has ended, or stop it") from None
        except OSError:
            pass  # a file system without locks
        try:
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                break
        except FileNotFoundError:
            pass
        file.close()  # the process that had the lock has just deleted it
    try:
        with naming(lock):
            file.truncate(0)
            file.write(f"process {os.getpid()} of {HOST}".encode())
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def write_json(path, content):
    """Write `content` to `path` as indented JSON, atomically; what is not a number becomes null."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path, hint=""):
    """Return the content of the JSON file `path`.

    Raises
    ------
    UserError
        The file is missing (the message ends with `hint`) or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist{hint}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def open_hdf5(path, hint=""):
    """Open the HDF5 file `path` for reading.

    Raises
    ------
    UserError
        The file is missing (the message ends with `hint`) or is not HDF5.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist{hint}")
    try:
        return h5py.File(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened as HDF5: {_first_line(error)}{hint}") from None


@contextmanager
def read_hdf5(path, hint=""):
    """`open_hdf5` for reading as a context in which damage to the file is a `UserError`, too."""
    try:
        with open_hdf5(path, hint) as file:
            yield file
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({_first_line(error)}){hint}") from None


@contextmanager
def create_hdf5(path):
    """Create the HDF5 file `path` as a context; a full disk is an `OSError` at its end."""
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
    """A file that HDF5 writes. Where it cannot be written HDF5 could not close it, and would crash the process in the
    end: so the error is kept, and what follows is not written."""

    def __init__(self, raw):
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


def write_all(raw, content):
    """Write all of `content` to an unbuffered file."""
    left = memoryview(content)
    while left:
        left = left[raw.write(left) :]


def _first_line(error):
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def check_size(dataset):
    """Raise a `ValueError` where an HDF5 dataset is not of numbers, or is larger than its file can hold."""
    if dataset.dtype.kind not in "uif":
        raise ValueError(f"{dataset.name} is {dataset.dtype}")
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    held = os.path.getsize(dataset.file.filename)
    offset = dataset.id.get_offset()
    if claimed > (held * DEFLATE if offset is None else held - offset):
        raise ValueError(f"{dataset.name} should have {claimed} bytes, the file has {held}")


def set_provenance(file, work):
    """Write an attribute `provenance`, JSON, to an HDF5 file."""
    # Of a fixed length: text of variable length lies in a heap without checksum, and HDF5 can hang on a damaged one.
    file.attrs["provenance"] = np.bytes_(json.dumps(work, sort_keys=True, default=int))


def get_provenance(file):
    """Return the provenance of an HDF5 file as a dict, empty where it has none."""
    found = json.loads(get_attribute(file, "provenance", "{}"))
    if not isinstance(found, dict):
        raise ValueError("provenance is not a dict")
    return found


def get_attribute(item, name, default=None):
    """Return an attribute of an HDF5 file or dataset: an int or a str, of a fixed length."""
    if name not in item.attrs:
        return default
    found = item.attrs.get_id(name)
    if found.shape != () or found.dtype.kind not in "iuS":
        raise ValueError(f"attribute {name} is {found.dtype} {found.shape}")
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else int(value)


def map_dataset(dataset, path=None):
    """Return an HDF5 dataset as a read-only array that stays in the file (read whole only if it is chunked).

    Far quicker than h5py where rows are taken one by one, and its pages are shared and can be dropped. A file that is
    being created must say its `path`.
    """
    if path is None:
        check_size(dataset)
    offset = dataset.id.get_offset()
    if offset is None or not dataset.size:
        return dataset[...]
    path = path or dataset.file.filename
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def create_dataset(file, name, shape, dtype):
    """Create a contiguous dataset whose place in the file is fixed at once, so that writing to it changes no
    metadata (an interrupted write cannot damage the file) and `map_dataset` works."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(tuple(shape))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, properties)
    return file[name]


def digest_of(*contents):
    """SHA-256 (first 16 hex digits) of bytes and of what `str` makes of anything else."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content if isinstance(content, bytes) else str(content).encode())
    return digest.hexdigest()[:16]


def sample_digest(*arrays, nb_blocks=64, block_size=1024):
    """SHA-256 (first 16 hex digits) of the shapes, dtypes and evenly spaced blocks of rows of arrays or datasets."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        last = max(len(array) - block_size, 0)
        for first in np.unique(np.linspace(0, last, nb_blocks).astype(np.int64)):
            digest.update(np.ascontiguousarray(array[first : first + block_size]).tobytes())
    return digest.hexdigest()[:16]
