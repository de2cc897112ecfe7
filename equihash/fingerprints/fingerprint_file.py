"""The file of the fingerprints of a database, of one job's share of it, of queries or of triplets.

It is HDF5 with `codes`, uint8 (N, k/8), bits packed most significant first, and `size`, how many of them are written.
`checksums` has those of every 500 codes. Its attribute `provenance` (JSON) says what made it; every stage checks that
what it reads was made by the same weights and labels. Files in the published format carry neither and are not checked.
Files of logits have `logits`, float32 (N, k), in place of `codes`. Triplets are (N, 3, k/8).
"""

import math
from pathlib import Path

import numpy as np

from equihash._checksum import checksums
from equihash.datasets.procedural import CHUNK_SIZE
from equihash.errors import Damaged, Remedy, UserError
from equihash.experiment import DatabaseFiles
from equihash.hdf5 import Hdf5File
from equihash.labels import Labels
from equihash.provenance import check_provenance
from equihash.state import weights_digest


class Fingerprints:
    """A complete fingerprint (or logits) file that is open for reading, checked against its checksums.

    Parameters
    ----------
    path : Path
    remedy : Remedy or None
        What makes the file, for errors.
    expected : dict
        See `check_provenance`.
    shape : tuple
        That of the values; None for any number.
    name : "codes" or "logits"

    Attributes
    ----------
    values : array, mapped
        Codes uint8, logits float32.
    provenance : dict
        Empty for files in the published format.
    checksums : uint64 array
        Of every 500 items.

    Raises
    ------
    UserError
        The file is missing, unfinished, damaged or made by something else.
    """

    def __init__(self, path: Path, remedy: Remedy | None, expected: dict, shape: tuple, name: str = "codes"):
        with Hdf5File(path, remedy) as file:
            dataset, size, written_checksums = (file.dataset(part) for part in (name, "size", "checksums"))
            if dataset is None or size is None or size.shape != (1,):
                raise UserError(f"{path} is not a fingerprint file (no {name} or size)", remedy)
            self.provenance = file.provenance
            check_provenance(path, self.provenance, expected, remedy)
            fits = len(dataset.shape) == len(shape) and all(b in (a, None) for a, b in zip(dataset.shape, shape))
            if not fits or dataset.dtype != (np.uint8 if name == "codes" else np.float32) or not dataset.shape[-1]:
                raise UserError(f"{path} has {name} {dataset.dtype} {dataset.shape}, not {shape}", remedy)
            written = int(size.read()[0])
            if written != len(dataset):
                raise UserError(f"{path} is unfinished ({written} of {len(dataset)} rows)", remedy)
            self.values = dataset.map()
            self.checksums = checksums(self.values.reshape(-1, dataset.shape[-1]), CHUNK_SIZE)
            if written_checksums is not None and not np.array_equal(self.checksums, written_checksums.map()):
                raise Damaged(f"{path} is damaged", remedy)


def expected_work(files: DatabaseFiles) -> tuple[Labels, dict]:
    """Return the labels of a database, and what fingerprints must say to be of them and of the present weights.

    Parameters
    ----------
    files : DatabaseFiles

    Returns
    -------
    Labels, dict
        The dict is for `check_provenance`.
    """
    state = files.experiment.load_state()
    labels = Labels(files.labels)
    return labels, {
        "weights": (weights_digest(state["net"]), f"{files.experiment.state_path} is"),
        "labels": (labels.digest, f"{files.labels} is"),
        "which": (files.which, "this is"),
    }


def job_range(size: int, job_id: int, nb_jobs: int) -> tuple[int, int]:
    """First and last+1 item of a job's share of `size` items: whole chunks of 500, as evenly as possible."""
    nb_chunks = math.ceil(size / CHUNK_SIZE)
    first, last = (nb_chunks * job // nb_jobs * CHUNK_SIZE for job in (job_id, job_id + 1))
    return min(first, size), min(last, size)
