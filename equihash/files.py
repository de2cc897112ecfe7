"""Files are written whole or not at all, by one process at a time."""

import fcntl
import hashlib
import json
import math
import os
import socket
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from equihash.errors import Locked, UserError

HOST = socket.gethostname()


def exists(path):
    """Whether there is a file `path`; an `OSError` where the system does not say."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


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
        file = open(lock, "a+b", buffering=0)  # noqa: SIM115
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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def write_all(raw, content):
    """Write all of `content` to an unbuffered file."""
    left = memoryview(content)
    while left:
        left = left[raw.write(left) :]


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
