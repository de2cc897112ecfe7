"""MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0) as one HDF5 file, in the order of the original files."""

import gzip
import hashlib
import tempfile
from pathlib import Path

import numpy as np

from equihash.errors import UserError
from equihash.files import atomic
from equihash.hdf5 import create_hdf5, set_provenance
from equihash.provenance import provenance

PATH = "data/datasets/Mnist/mnist.hdf5"
# name, shape, MD5 of the uncompressed content
IMAGES = (
    ("train-images-idx3-ubyte", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    ("t10k-images-idx3-ubyte", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
)
LABELS = (
    ("train-labels-idx1-ubyte", (60_000,), "a25bea736e30d166cdddb491f175f624"),
    ("t10k-labels-idx1-ubyte", (10_000,), "27ae3e4e09519cfbb04c329615203637"),
)


def prepare_mnist(source=None, output=PATH):
    """Write `x` uint8 (70000, 28, 28), the training digits then the test digits, and `y` uint8 (70000,).

    The same digits give the same file, byte for byte, with the same versions of the libraries.

    Parameters
    ----------
    source : str or None
        Folder of the four idx files, each plain or with .gz; None: download them with torchvision.
    output : str

    Raises
    ------
    UserError
        A file is missing or is not the original, or the download failed.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            images, labels = _read_all(_download(folder))
    else:
        images, labels = _read_all(Path(source))
    with atomic(output) as temporary, create_hdf5(temporary) as file:
        options = {"compression": "gzip", "compression_opts": 7, "track_times": False}
        file.create_dataset("x", data=images, chunks=(1000, 28, 28), **options)
        file.create_dataset("y", data=labels, chunks=(10_000,), **options)
        md5s = {name: md5 for name, _, md5 in (*IMAGES, *LABELS)}
        set_provenance(file, provenance(md5=md5s))


def _download(folder):
    from torchvision.datasets import MNIST

    try:
        return Path(MNIST(folder, download=True).raw_folder)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"MNIST cannot be downloaded ({reason}): get the four idx files and give their folder with --source"
        ) from None


def _read_all(folder):
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    return tuple(np.concatenate([_read_idx(folder, *file) for file in files]) for files in (IMAGES, LABELS))


def _read_idx(folder, name, shape, md5):
    """Return the uint8 array of the idx file `name` or `name`.gz: two zero bytes, type 8, rank, sizes, values."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds neither {name} nor {name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
    if not content.startswith(header):
        raise UserError(f"{path} is not the idx file of {' x '.join(map(str, shape))} bytes that MNIST has there")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path} is damaged or is not MNIST's: the MD5 of its content is not {md5}")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)
