"""What is known of the files of a collection, in one SQLite file."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equihash.copies.encoder import Encoded
from equihash.errors import Damaged, UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS encoder (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY,
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    width INTEGER,
    height INTEGER,
    logits BLOB,
    reason TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Stamp:
    """Tells whether a file has changed: its size in bytes, and the time of its last change in nanoseconds."""

    nb_bytes: int
    modified: int


class Store:
    """The files of a collection, by name; a context manager.

    A name is a path relative to the collection's folder. A crash loses at most what was written after the last
    `commit`.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    identity : str
        Of the encoder. What another one has encoded is forgotten.
    nb_bits : int

    Raises
    ------
    Damaged
        The file is damaged. All methods raise this, too.
    UserError
        The system cannot read or write the file. All methods raise this, too.
    """

    def __init__(self, path: Path, identity: str, nb_bits: int):
        self.path, self.nb_bits = path, nb_bits
        with self._errors():
            self._connection = sqlite3.connect(path)
            try:
                self._connection.executescript(SCHEMA)
                if self._connection.execute("SELECT identity FROM encoder").fetchall() != [(identity,)]:
                    self._connection.execute("DELETE FROM encoder")
                    self._connection.execute("DELETE FROM files")
                    self._connection.execute("INSERT INTO encoder VALUES (?)", (identity,))
                    self._connection.commit()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_):
        self._connection.close()

    def stamps(self) -> dict[str, Stamp]:
        """Return the stamp that each file had when it was read."""
        return {name: Stamp(*stamp) for name, *stamp in self._select("name, bytes, modified")}

    def put(self, name: str, stamp: Stamp, encoded: Encoded) -> None:
        """Write what is known of a file, or replace it."""
        logits = None if encoded.logits is None else encoded.logits.astype("<f4").tobytes()
        row = os.fsencode(name), stamp.nb_bytes, stamp.modified, *(encoded.size or (None, None)), logits, encoded.reason
        with self._errors():
            self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, names: Iterable[str]) -> None:
        """Delete files, and commit."""
        with self._errors():
            self._connection.executemany("DELETE FROM files WHERE name = ?", [(os.fsencode(name),) for name in names])
        self.commit()

    def commit(self) -> None:
        """Write to the disk what was put since the last time."""
        with self._errors():
            self._connection.commit()

    def files(self) -> Iterator[tuple[str, Stamp, Encoded]]:
        """Yield all files, in the order of the bytes of their names."""
        for name, nb_bytes, modified, width, height, logits, reason in self._select("*"):
            if logits is not None and len(logits) != 4 * self.nb_bits:
                raise self._damaged(f"{name} has {len(logits)} bytes of logits")
            values = None if logits is None else np.frombuffer(logits, "<f4")
            size = None if logits is None else (width, height)
            yield name, Stamp(nb_bytes, modified), Encoded(size, values, reason)

    def _select(self, columns):
        with self._errors():
            for name, *values in self._connection.execute(f"SELECT {columns} FROM files ORDER BY name"):
                yield os.fsdecode(name), *values

    def _damaged(self, reason):
        return Damaged(f"{self.path} is damaged ({reason}): delete it, and all pictures are read again")

    @contextmanager
    def _errors(self):
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:  # the disk is full, the file read-only, ...
            raise UserError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
