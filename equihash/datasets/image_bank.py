"""Where the rows of a large HDF5 dataset live: on the GPU, in host memory, or in the file."""

import mmap
from pathlib import Path

import numpy as np
import torch

from equihash.devices import available_memory
from equihash.errors import Remedy, UserError, nearest
from equihash.hdf5 import Hdf5File

LOCATIONS = ("auto", "device", "host", "mapped")
FREE_SHARE = 0.5  # of the free memory that a bank may fill if the location is "auto"
RELEASE_BYTES = 64 << 20  # read from a mapped file before its pages are given back to the system


def bank_file(path: str | Path, which: str) -> Path:
    """Return the file of a split's bank: `path` itself where it names an HDF5 file, else WHICH.hdf5 in that folder."""
    path = Path(path)
    return path if path.suffix in (".hdf5", ".h5") else path / f"{which}.hdf5"


class ImageBank:
    """The rows of one HDF5 dataset, gathered onto a device.

    Parameters
    ----------
    path, name
        HDF5 file and dataset in it.
    row_shape, dtype
        What a row must be.
    location : "auto", "device", "host" or "mapped"
        Where the bank is: on the device, in host memory, or in the file, of which only the rows needed are read. "auto"
        takes the first of these where the bank fills at most half of the free memory, else the file.
    device
        Where the gathered rows go.
    remedy
        What makes the file, for the error where it is missing or holds something else.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        location: str = "auto",
        device: torch.device | str = "cpu",
        remedy: Remedy | None = None,
    ):
        if location not in LOCATIONS:
            raise UserError(f"unknown bank location {location!r}{nearest(location, LOCATIONS)}")
        self.device = torch.device(device)
        self.row_shape = tuple(row_shape)
        file = Hdf5File(path, remedy)
        dataset = file.dataset(name)
        if dataset is None or (dataset.shape[1:], dataset.dtype) != (self.row_shape, dtype) or not len(dataset):
            raise UserError(f"{path} does not hold `{name}`, {np.dtype(dtype)} (N, {str(self.row_shape)[1:]}", remedy)
        self.shape = dataset.shape
        self.location = self._choose(np.prod(self.shape) * dataset.dtype.itemsize) if location == "auto" else location
        if self.location == "mapped":
            self.rows = _ReadRows(dataset) if dataset.offset is None else _MappedRows(dataset)
        else:
            self.rows = _load(dataset, self.device if self.location == "device" else torch.device("cpu"))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Gather rows: integers (n,) to (n, *row_shape) on the device.

        A bank that is not on the device needs the indices on the host: an array saves a synchronisation.
        """
        indices = torch.as_tensor(indices, dtype=torch.int64)
        if self.location == "device":
            return self.rows.index_select(0, indices.to(self.rows.device))
        indices = indices.cpu()
        pinned = self.device.type == "cuda"  # else the copy to the GPU would wait for it
        if self.location == "host":
            rows = torch.empty(len(indices), *self.row_shape, dtype=self.rows.dtype, pin_memory=pinned)
            torch.index_select(self.rows, 0, indices, out=rows)
        else:
            rows = torch.from_numpy(self.rows.take(indices.numpy()))
            rows = rows.pin_memory() if pinned else rows
        return rows.to(self.device, non_blocking=True)

    def _choose(self, nb_bytes):
        for location, device in (("device", self.device), ("host", torch.device("cpu"))):
            if nb_bytes <= FREE_SHARE * available_memory(device):
                return location
        return "mapped"


class _MappedRows:
    """Rows of a contiguous dataset, through a memory map that does not stay resident."""

    def __init__(self, dataset):
        self.map = mmap.mmap(dataset.file.fileno(), 0, access=mmap.ACCESS_READ)
        rows = np.frombuffer(self.map, dataset.dtype, np.prod(dataset.shape), dataset.offset)
        self.rows = rows.reshape(dataset.shape)
        self.nb_bytes = 0
        dataset.file.close()

    def take(self, indices):
        rows = self.rows[indices]
        self.nb_bytes += rows.nbytes
        if self.nb_bytes > RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            # Pages of the map count as this process's memory; the system's file cache keeps them.
            self.map.madvise(mmap.MADV_DONTNEED)
            self.nb_bytes = 0
        return rows


class _ReadRows:
    """Rows of a chunked or compressed dataset, which cannot be mapped."""

    def __init__(self, dataset):
        self.dataset = dataset

    def take(self, indices):
        found, inverse = np.unique(indices, return_inverse=True)
        return self.dataset.read(found)[inverse]


def _load(dataset, device, block=4096):
    """Return the whole dataset as a tensor on `device`, and close its file; the host never holds it twice."""
    rows = torch.empty(dataset.shape, dtype=getattr(torch, str(dataset.dtype)), device=device)
    for first in range(0, len(dataset), block):
        rows[first : first + block].copy_(torch.from_numpy(dataset.read(slice(first, first + block))))
    dataset.file.close()
    return rows
