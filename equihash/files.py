"""Files are written whole or not at all, and opened with errors that say what to do."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py

from equihash.errors import UserError


@contextmanager
def atomic(path):
    """Yield a temporary path in the folder of `path`, and rename it to `path` on success.

    The file is fsynced before the rename, so that a crash leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` to `path` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


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
