"""Files are written whole or not at all, by one process at a time."""

import errno
import glob
import hashlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from filelock import FileLock, Timeout

from equihash.errors import Locked, UserError

HOST = socket.gethostname()


def exists(path: str | Path) -> bool:
    """Whether `path` is a file; an `OSError` if the system cannot tell."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` on success.

    The file is fsynced before the rename and the folder after it, so that a crash leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Delete what killed processes left. Those of other machines that share the folder may be alive.
    ours = f".{path.name}.{HOST}-"
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = left.name.removeprefix(ours).removesuffix(".tmp")
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{ours}{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """As a context: an `OSError` that names no file is given the name `path`."""
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
def locked(path: str | Path) -> Iterator[None]:
    """Be the only process that writes `path`, a file or a folder.

    The lock is a file beside it. The system frees the lock of a process that has ended, however it ended.

    Raises
    ------
    Locked
        Another process has the lock.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    # the time is for a process that is just taking or freeing the lock
    system_lock = FileLock(lock, timeout=0.1, fallback_to_soft=False)
    try:
        system_lock.acquire()
    except Timeout:
        try:
            holder = lock.read_text(errors="replace")
        except FileNotFoundError:  # it was just freed
            holder = ""
        message = f"{path} is being written by {holder or 'another process'}: wait until it has ended, or stop it"
        raise Locked(message) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
            raise
    try:
        with naming(lock), open(lock, "w") as file:
            file.write(f"process {os.getpid()} of {HOST}")
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the release: a process that has opened it sees that it is gone
        system_lock.release()


def write_json(path: str | Path, content: object) -> None:
    """Write `content` to `path` as indented JSON, atomically; NaN and infinity become null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda name: None)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(finite, indent=1) + "\n")


def read_json(path: str | Path) -> object:
    """Return the content of the JSON file `path`.

    Raises
    ------
    UserError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def write_all(raw, content: bytes) -> None:
    """Write all of `content` to an unbuffered file."""
    left = memoryview(content)
    while left:
        left = left[raw.write(left) :]


def digest_of(*contents: object) -> str:
    """SHA-256 (first 16 hex digits) of bytes and of what `str` makes of anything else."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content if isinstance(content, bytes) else str(content).encode())
    return digest.hexdigest()[:16]


def sample_digest(*arrays, nb_blocks: int = 64, block_size: int = 1024) -> str:
    """SHA-256 (first 16 hex digits) of the shapes, dtypes and evenly spaced blocks of rows of arrays or datasets."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        last = max(len(array) - block_size, 0)
        for first in np.unique(np.linspace(0, last, nb_blocks, dtype=np.int64)):
            digest.update(array[first : first + block_size].tobytes())
    return digest.hexdigest()[:16]
