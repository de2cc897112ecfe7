"""The shares of several jobs in one fingerprint file."""

import numpy as np

from equihash.errors import Remedy, UserError
from equihash.experiment import DatabaseFiles
from equihash.files import atomic, exists, locked
from equihash.fingerprints.fingerprint_file import Fingerprints, expected_work, job_range
from equihash.hdf5 import Hdf5File, create_dataset, create_hdf5, set_provenance
from equihash.progress import progress_bar

BLOCK_SIZE = 10_000_000  # codes copied at once


def merge_shards(files: DatabaseFiles, nb_jobs: int, force: bool = False) -> None:
    """Join the fingerprints of `nb_jobs` jobs in one file, atomically; theirs stay.

    Parameters
    ----------
    files : DatabaseFiles
    nb_jobs : int
    force : bool
        Merge again what is merged.

    Raises
    ------
    UserError
        A share is missing, unfinished, or made by other weights, labels, images or precision than the first.
    """
    if nb_jobs < 1:
        raise UserError(f"nb_jobs must be at least 1, not {nb_jobs}")
    shape, made_by, checksums = _check_shards(files, nb_jobs)
    if not force and _is_merged(files.fingerprints, shape, made_by, checksums):
        print(f"{files.fingerprints} is merged already (force merges again)")
        return
    paths = [files.shard(job_id, nb_jobs) for job_id in range(nb_jobs)]
    with locked(files.fingerprints), atomic(files.fingerprints) as temporary, create_hdf5(temporary) as file:
        codes = create_dataset(file, "codes", shape, np.uint8)
        size = create_dataset(file, "size", (1,), np.uint64)
        create_dataset(file, "checksums", checksums.shape, np.uint64)[...] = checksums
        set_provenance(file, made_by)
        _copy_codes(paths, codes)
        size[0] = shape[0]
    print(f"{shape[0]:,} fingerprints of {nb_jobs} shards merged into {files.fingerprints}")


def _check_shards(files, nb_jobs):
    """Check the files of all jobs; return the shape, the provenance and the checksums of all codes together."""
    labels, expected = expected_work(files)
    width, found_checksums = None, []
    for job_id in range(nb_jobs):  # one is open at a time: there may be more than a process may open
        remedy = Remedy("encode_database", files, job_id=job_id, nb_jobs=nb_jobs)
        expected |= {"job_id": (job_id, "this is"), "nb_jobs": (nb_jobs, "this is")}
        first, last = job_range(len(labels.database), job_id, nb_jobs)
        shard = Fingerprints(files.shard(job_id, nb_jobs), remedy, expected, (last - first, width))
        found_checksums.append(shard.checksums)
        if not job_id:
            made_by, width = shard.provenance, shard.values.shape[1]
            for key in {"device", "precision", "network", "loader", "bank"} & set(made_by):
                expected[key] = made_by[key], f"{files.shard(0, nb_jobs)} is"
    made_by = {key: value for key, value in made_by.items() if key not in ("job_id", "nb_jobs")}
    return (len(labels.database), width), made_by, np.concatenate(found_checksums)


def _is_merged(path, shape, made_by, checksums):
    """Whether a fingerprint file is whole, and has these very codes."""
    if not exists(path):
        return False
    try:
        there = Fingerprints(path, None, {}, shape)
    except UserError:
        return False
    return there.provenance == made_by and np.array_equal(there.checksums, checksums)


def _copy_codes(paths, codes):
    """Copy the codes of some files, one after the other, to an HDF5 dataset."""
    first = 0
    for path in progress_bar(paths, desc="merging", unit="shard", leave=False):
        with Hdf5File(path) as shard:
            values = shard.dataset("codes").map()
        for start in range(0, len(values), BLOCK_SIZE):
            block = values[start : start + BLOCK_SIZE]
            codes[first : first + len(block)] = block
            first += len(block)
