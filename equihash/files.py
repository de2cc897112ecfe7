"""Files are written whole or not at all, and opened with errors that say what to do."""

import hashlib
import json
import math
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import psutil

from equihash.errors import UserError


@contextmanager
def atomic(path):
    """Yield a temporary path in the folder of `path`, and rename it to `path` on success.

    The file is fsynced before the rename, so that a crash leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a process that was killed
        if not psutil.pid_exists(int(left.name.split(".")[-2])):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def open_hdf5(path, hint="", mode="r"):
    """Open the HDF5 file `path`.

    Raises
    ------
    UserError
        The file is missing (the message ends with `hint`) or is not HDF5.
    """
    if mode == "r" and not Path(path).is_file():
        raise UserError(f"{path} does not exist{hint}")
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise UserError(f"{path} cannot be opened as HDF5: {error}") from None


def map_dataset(dataset):
    """Return an HDF5 dataset as a read-only array that stays in the file (read whole only if it is chunked).

    Far quicker than h5py where rows are taken one by one, and its pages are shared and can be dropped.
    """
    offset = dataset.id.get_offset()
    if offset is None or not dataset.size:
        return dataset[...]
    dataset.file.flush()
    return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


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


def sample_digest(*arrays, nb_blocks=64, block_size=1024):
    """SHA-256 (first 16 hex digits) of the shapes, dtypes and evenly spaced blocks of rows of arrays or datasets."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        last = max(len(array) - block_size, 0)
        for first in np.unique(np.linspace(0, last, nb_blocks).astype(np.int64)):
            digest.update(np.ascontiguousarray(array[first : first + block_size]).tobytes())
    return digest.hexdigest()[:16]
