"""A folder of pictures, and what is known of them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from equihash.copies.encoder import BATCH, Encoded, PictureEncoder
from equihash.copies.store import Stamp, Store
from equihash.errors import UserError
from equihash.files import digest_of, locked
from equihash.image_files import list_image_files
from equihash.progress import progress_bar

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Picture:
    """A picture of a collection: its path relative to the folder, its size in pixels, upright, and in bytes."""

    name: str
    width: int
    height: int
    nb_bytes: int


@dataclass
class Collection:
    """The pictures of a folder and its sub-folders.

    Attributes
    ----------
    folder : Path
    pictures : list of Picture
        Those that could be read.
    logits : float32 array (N, k)
        Of the pictures.
    unreadable : dict of str to str
        Why each of the other files could not be read.
    nb_read, nb_forgotten : int
        Files that were read this time, being new or changed; files that were known and are gone.
    """

    folder: Path
    pictures: list[Picture]
    logits: np.ndarray
    unreadable: dict[str, str] = field(default_factory=dict)
    nb_read: int = 0
    nb_forgotten: int = 0


def home_of(folder: Path, encoder_folder: Path) -> Path:
    """Return the folder for what is made of a collection; it lies beside the state of the network."""
    real = os.path.realpath(folder)
    name = "".join(letter if letter.isalnum() else "_" for letter in os.path.basename(real))[:50]
    return encoder_folder / f"copies_{name}_{digest_of(os.fsencode(real))[:8]}"


def update_collection(folder: Path, encoder: PictureEncoder, home: Path) -> Collection:
    """Encode the pictures of a folder that are new or have changed, and forget those that are gone.

    Whether a file has changed is told by its size and the time of its last change. An interrupted run resumes. Hidden
    files and those that are not named as pictures (`SUFFIXES`) are ignored; nothing in the folder is written.

    Parameters
    ----------
    folder : Path
    encoder : PictureEncoder
    home : Path
        See `home_of`; it keeps what is known in fingerprints.sqlite.

    Raises
    ------
    UserError
        The folder does not exist or has no pictures, another process is at the same work, or the store cannot be used.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    names = [name for name in list_image_files(folder) if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(f"{folder} has no pictures (files that end in {', '.join(SUFFIXES)})")
    path = home / "fingerprints.sqlite"
    home.mkdir(parents=True, exist_ok=True)
    with locked(path), Store(path, encoder.identity, encoder.nb_bits) as store:
        return _update(folder, names, encoder, store)


def _update(folder, names, encoder, store):
    stamps, unreadable = {}, {}
    for name in names:
        try:
            status = os.stat(folder / name)
        except OSError as error:
            unreadable[name] = error.strerror
        else:
            stamps[name] = Stamp(status.st_size, status.st_mtime_ns)
    known = store.stamps()
    gone = known.keys() - stamps.keys()
    store.forget(gone)
    changed = [name for name in stamps if known.get(name) != stamps[name]]
    results = encoder.encode(folder / name for name in changed)
    with progress_bar(results, total=len(changed), unit="picture") as bar:
        for number, (name, encoded) in enumerate(zip(changed, bar), 1):
            if encoded.final:
                store.put(name, stamps[name], encoded)
            else:
                unreadable[name] = encoded.reason
            if number % BATCH == 0:
                store.commit()
        store.commit()
    store.forget(unreadable)
    return _read(folder, store, encoder.nb_bits, unreadable, len(changed), len(gone))


def _read(folder, store, nb_bits, unreadable, nb_read, nb_forgotten):
    pictures, logits = [], []
    for name, stamp, encoded in store.files():
        if encoded.logits is None:
            unreadable[name] = encoded.reason
        else:
            pictures.append(Picture(name, *encoded.size, stamp.nb_bytes))
            logits.append(encoded.logits)
    rows = np.stack(logits) if logits else np.empty((0, nb_bits), np.float32)
    return Collection(folder, pictures, rows, dict(sorted(unreadable.items())), nb_read, nb_forgotten)


def encode_file(path: Path, encoder: PictureEncoder) -> Encoded:
    """Return the `Encoded` of a picture file; a `UserError` if it cannot be read."""
    (encoded,) = encoder.encode([path])
    if encoded.logits is None:
        raise UserError(f"{path} cannot be read: {encoded.reason}")
    return encoded
