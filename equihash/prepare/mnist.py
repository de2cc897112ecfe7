"""MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0) as one HDF5 file, in the order of the original files."""

import gzip
import hashlib
import math
import urllib.request
from functools import partial
from http.client import HTTPException
from pathlib import Path

import numpy as np

from equihash.errors import Remedy, UserError
from equihash.files import atomic
from equihash.hdf5 import create_hdf5, set_provenance
from equihash.provenance import provenance

PATH = "data/datasets/Mnist/mnist.hdf5"
TIMEOUT = 30  # seconds to wait for a server
# name, shape, MD5 of the uncompressed content
IMAGES = (
    ("train-images-idx3-ubyte", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    ("t10k-images-idx3-ubyte", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
)
LABELS = (
    ("train-labels-idx1-ubyte", (60_000,), "a25bea736e30d166cdddb491f175f624"),
    ("t10k-labels-idx1-ubyte", (10_000,), "27ae3e4e09519cfbb04c329615203637"),
)


def prepare_mnist(source: str | None = None, output: str = PATH) -> None:
    """Write `x`, uint8 (70000, 28, 28), the training digits and then the test digits, and `y`, uint8 (70000,).

    `source` is a folder of the four idx files, plain or gzipped; None to download them. A `UserError` if a file is
    missing or is not the original, or the download fails. With the same versions of the libraries, the file written is
    always the same, byte for byte.
    """
    if source is not None and not Path(source).is_dir():
        raise UserError(f"{source} is not a folder")
    read = _download if source is None else partial(_read, Path(source))
    images, labels = (np.concatenate([read(*file) for file in files]) for files in (IMAGES, LABELS))
    with atomic(output) as temporary, create_hdf5(temporary) as file:
        options = {"compression": "gzip", "compression_opts": 7, "track_times": False}
        file.create_dataset("x", data=images, chunks=(1000, 28, 28), **options)
        file.create_dataset("y", data=labels, chunks=(10_000,), **options)
        md5s = {name: md5 for name, _, md5 in (*IMAGES, *LABELS)}
        set_provenance(file, provenance(md5=md5s))


def _download(name, shape, md5):
    """Return the array of an idx file, from the first of torchvision's mirrors that has it."""
    from torchvision.datasets import MNIST

    reasons = []
    for mirror in MNIST.mirrors:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as reply:
                return _array(name, gzip.decompress(reply.read()), shape, md5)
        except (UserError, OSError, HTTPException, ValueError, EOFError, gzip.zlib.error) as error:
            reasons.append(f"{url}: {str(error) or type(error).__name__}")
    raise UserError(
        f"MNIST cannot be downloaded ({'; '.join(reasons)}): get the four idx files",
        Remedy("prepare_mnist", source="FOLDER"),
    )


def _read(folder, name, shape, md5):
    """Return the array of the idx file `name` or `name`.gz."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds neither {name} nor {name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return _array(path, content, shape, md5)


def _array(source, content, shape, md5):
    """Return the uint8 array of an idx file: a header, which the MD5 checks, and the values."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{source} is damaged or is not MNIST's: the MD5 of its content is not {md5}")
    return np.frombuffer(content, dtype=np.uint8)[-math.prod(shape) :].reshape(shape)
