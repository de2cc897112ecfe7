"""Encoding: from labels to mosaics to logits to fingerprint files, merged from shards and indexed.

A fingerprint file is HDF5 with `codes`, uint8 (N, k/8), bits packed most significant first, and `size`, how many
of them are written. `checksums` has those of every 500 codes. Its attribute `provenance` (JSON) says what made it;
every stage checks that what it reads was made by the same weights and labels. Files in the published format carry
neither and are not checked.
"""

import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import torch

from equihash import distributed
from equihash._checksum import checksums
from equihash.datasets.procedural import CHUNK_SIZE, ENCODING_SEED, ProceduralDatabase
from equihash.errors import Damaged, Remedy, UserError
from equihash.files import atomic, digest_of, exists, locked, naming, write_all
from equihash.hdf5 import Hdf5File, create_dataset, create_hdf5, set_provenance
from equihash.inference import compute_logits
from equihash.labels import Labels
from equihash.progress import progress_bar
from equihash.provenance import check_provenance, provenance, work_of
from equihash.search import InvertedIndex
from equihash.state import build_loader, build_network, check_instances, load_state, load_weights, weights_digest

TRIPLETS_SEED = 0xFAB
AHEAD = 2  # chunks that may wait to be written
MERGE_BLOCK = 10_000_000  # codes copied at once
IDENTITY = ("weights", "labels", "bank", "which", "network", "loader")  # what makes two encodings the same work


def encode_database(files, device, precision=torch.float32, flush_freq=20, job_id=None, nb_jobs=1):
    """Encode a database, or one job's share of it; job 0 also encodes the queries and the triplets.

    Where torchrun started several processes, each encodes a share, and the first merges them. What is already encoded
    by the same weights is kept, so that an interrupted encoding goes on.

    Parameters
    ----------
    files : DatabaseFiles
    device : torch.device
    precision : torch.dtype
    flush_freq : int
        Chunks of 500 between two writes to the file.
    job_id : int or None
        Share of the database, from 0, written to a file of its own; None: all of it.
    nb_jobs : int
        The shares are runs of whole chunks.

    Raises
    ------
    UserError
        Something is missing or does not fit.
    """
    if nb_jobs < 1:
        raise UserError(f"nb_jobs must be at least 1, not {nb_jobs}")
    if job_id is None and nb_jobs > 1:
        raise UserError(f"nb_jobs {nb_jobs} needs job_id 0 to {nb_jobs - 1}: which share is this?")
    if not 0 <= (job_id or 0) < nb_jobs:
        raise UserError(f"job_id must be 0 to {nb_jobs - 1} (nb_jobs {nb_jobs}), not {job_id}")
    if flush_freq < 1:
        raise UserError(f"flush_freq must be at least 1, not {flush_freq}")
    nb_processes = distributed.nb_processes()
    if nb_processes > 1:
        if job_id is not None:
            raise UserError("torchrun gives each process its share: leave out job_id and nb_jobs")
        job_id, nb_jobs = distributed.rank(), nb_processes
    experiment = files.experiment
    state = load_state(experiment.state_path, Remedy("train", experiment))
    labels = Labels(files.labels)
    loader = build_loader(state["config"], files.which, device)
    if labels.mosaic_shape != loader.mosaic_shape:
        raise UserError(
            f"{files.labels} is for mosaics of {labels.mosaic_shape}, {experiment.task} makes {loader.mosaic_shape}: "
            "make labels with the right mosaic_shape"
        )
    if labels.bank_size > loader.bank_size:
        raise UserError(
            f"{files.labels} is for a bank of {labels.bank_size} images, the {files.which} split has "
            f"{loader.bank_size}: make labels with a smaller bank_size"
        )
    labels.verify()
    network = build_network(state["config"], device)
    load_weights(network, state["net"], experiment.state_path)
    check_instances(network, loader)
    network.eval()
    made_by = provenance(
        **work_of(experiment, state["config"], device, precision),
        step=state["trainer"]["step"],
        weights=weights_digest(state["net"]),
        labels=labels.digest,
        bank=loader.digest(),
        which=files.which,
        seeds={"database": ENCODING_SEED, "queries": ENCODING_SEED, "triplets": TRIPLETS_SEED},
        network=[state["config"]["network_class"], state["config"]["network_kwargs"]],
        loader=[state["config"]["loader_class"], state["config"]["loader_kwargs"]],
    )

    def encode(items, seed, path, shape, what, first=0, logits_path=None, **share):
        with ExitStack() as locks:
            for each in (path, *[logits_path] * (logits_path is not None)):
                locks.enter_context(locked(each))
            work = {**made_by, **share}
            outputs = [RowFile(path, "codes", (*shape, network.k // 8), np.uint8, work)]
            if logits_path is not None:
                outputs.append(RowFile(logits_path, "logits", (*shape, network.k), np.float32, work))
            database = ProceduralDatabase(items, loader, seed)
            encode_items(network, database, precision, outputs, first, math.prod(shape), flush_freq, what)

    if job_id is None:
        encode(labels.database, ENCODING_SEED, files.fingerprints, (len(labels.database),), "database")
    else:
        first, last = job_range(len(labels.database), job_id, nb_jobs)
        share = {"job_id": job_id, "nb_jobs": nb_jobs}
        path = files.shard(job_id, nb_jobs)
        encode(labels.database, ENCODING_SEED, path, (last - first,), "database", first, **share)
    if not job_id:
        for sign in ("positive", "negative"):
            items = getattr(labels, f"{sign}_queries")
            paths = [files.queries(sign, content) for content in ("fingerprints", "logits")]
            encode(items, ENCODING_SEED, paths[0], (len(items),), f"{sign} queries", logits_path=paths[1])
        items = Triplets(labels.negative_pairs)
        encode(items, TRIPLETS_SEED, files.triplets, (len(items) // 3, 3), "triplets")
    if nb_processes > 1:
        distributed.wait()
        if distributed.is_first():
            merge_shards(files, nb_jobs)


def job_range(size, job_id, nb_jobs):
    """First and last+1 item of a job's share: runs of whole chunks, as even as can be."""
    nb_chunks = math.ceil(size / CHUNK_SIZE)
    first, last = (nb_chunks * job // nb_jobs * CHUNK_SIZE for job in (job_id, job_id + 1))
    return min(first, size), min(last, size)


class Triplets:
    """Labels (3T, h, w) of anchor, positive and negative in turn, read from the negative pairs (T, 2, h, w)."""

    def __init__(self, negative_pairs):
        self.negative_pairs = negative_pairs

    def __len__(self):
        return 3 * len(self.negative_pairs)

    def __getitem__(self, rows):
        items = np.arange(*rows.indices(len(self)))
        return self.negative_pairs[items // 3, (items % 3) // 2]


def encode_items(network, database, precision, outputs, first, nb_items, flush_freq, what):
    """Encode the items `first` to `first` + `nb_items` of a procedural database, from where the files stop.

    While one chunk goes through the network, the next is made and the last is written.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    database : ProceduralDatabase
    precision : torch.dtype
    outputs : list of RowFile
        For the codes, and perhaps for the logits.
    first, nb_items : int
    flush_freq : int
        Chunks between two writes.
    what : str
        For the progress bar.
    """
    done = min(output.nb_items_written() for output in outputs)
    if done == nb_items:
        return
    done -= done % CHUNK_SIZE
    chunks = range((first + done) // CHUNK_SIZE, math.ceil((first + nb_items) / CHUNK_SIZE))
    waiting = []  # (packed codes, logits) of each chunk not yet written

    def store(logits, is_last):
        nonlocal done
        logits = logits.cpu().numpy()
        waiting.append((np.packbits(logits > 0, axis=-1), logits))
        bar.update(len(logits))
        if len(waiting) == flush_freq or is_last:
            for output, values in zip(outputs, zip(*waiting)):
                output.write(done, np.concatenate(values))
            done += sum(len(codes) for codes, _ in waiting)
            waiting.clear()

    with (
        ThreadPoolExecutor(1) as maker,
        ThreadPoolExecutor(1) as writer,
        distributed.progress_bar(total=nb_items, initial=done, desc=what, unit="mosaic", unit_scale=True) as bar,
    ):
        following = maker.submit(database.chunk, chunks[0])
        stored = deque()
        for number in chunks:
            instances = following.result()
            following = maker.submit(database.chunk, number + 1) if number + 1 in chunks else None
            logits = compute_logits(network, instances, precision)
            stored.append(writer.submit(store, logits, following is None))
            if len(stored) > AHEAD:
                stored.popleft().result()
        for each in stored:
            each.result()


class RowFile:
    """A fingerprint or logits file that is being written: rows of items, then the committed number of rows.

    The file gets its full structure at once and then only raw bytes in their places, so that a crash at any
    moment leaves a file that says how far it came, with checksums of what is there.
    """

    def __init__(self, path, name, shape, dtype, provenance):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.items_per_row = math.prod(shape[1:-1])
        nb_chunks = math.ceil(math.prod(shape[:-1]) / CHUNK_SIZE)
        parts = {name: (shape, dtype), "size": ((1,), np.uint64), "checksums": ((nb_chunks,), np.uint64)}
        if not self._reopen(parts, provenance):
            with atomic(path) as temporary, create_hdf5(temporary) as file:
                for part, (part_shape, part_dtype) in parts.items():
                    create_dataset(file, part, part_shape, part_dtype)
                file["size"][0] = 0
                set_provenance(file, provenance)
            self._reopen(parts, provenance)

    def nb_items_written(self):
        return self.nb_rows_written * self.items_per_row

    def write(self, first, values):
        """Write the items `first` (a multiple of 500), `first` + 1, ...: array (items, values)."""
        assert values.shape[1] == self.shape[-1] and first + len(values) <= math.prod(self.shape[:-1])
        values = np.ascontiguousarray(values, self.dtype)
        size = np.uint64((first + len(values)) // self.items_per_row)
        with naming(self.path), open(self.path, "r+b", buffering=0) as file:
            for offset, part in (
                (self.offset + first * self.shape[-1] * self.dtype.itemsize, values),
                (self.checksums_offset + first // CHUNK_SIZE * 8, checksums(values, CHUNK_SIZE)),
            ):
                file.seek(offset)
                write_all(file, part.tobytes())
            os.fsync(file.fileno())
            file.seek(self.size_offset)
            write_all(file, size.tobytes())
            os.fsync(file.fileno())

    def _reopen(self, parts, provenance):
        """Resume the file that is there, if the same work began it.

        One that is damaged, or of older weights or labels, is of no more use and gives way. One that differs in
        precision or device may be somebody's week of work, and does not; nor does one that does not say what it is of.
        """
        if not exists(self.path):
            return False
        try:
            with Hdf5File(self.path) as file:
                found = file.provenance
                if not found:
                    raise UserError(f"{self.path} does not say what made it: move it away, or delete it")
                other = [key for key in IDENTITY if found.get(key) != provenance[key]]
                datasets = [file.dataset(part) for part in parts]
                fits = all(
                    dataset is not None and (dataset.shape, dataset.dtype) == wanted
                    for dataset, wanted in zip(datasets, parts.values())
                )
                if fits and not other:
                    self._resume(*datasets)
        except Damaged as error:
            print(f"{error}: encoding again")
            return False
        if other or not fits:
            print(f"{self.path} is of other {' and '.join(other) or 'sizes'}: encoding again")
            return False
        for key in ("precision", "device"):
            if found.get(key) != provenance[key]:
                raise UserError(
                    f"{self.path} was encoded with {key} {found.get(key)}, not {provenance[key]}: "
                    f"use {key} {found.get(key)}, or delete it"
                )
        return True

    def _resume(self, dataset, size, written_checksums):
        """Find where everything lies, and how many rows are there and are what was written."""
        self.offset, self.size_offset, self.checksums_offset = (
            part.offset or 0 for part in (dataset, size, written_checksums)
        )
        self.nb_rows_written = min(int(size.map()[0]), len(dataset))
        items = dataset.map().reshape(-1, self.shape[-1])[: self.nb_items_written()]
        if self.nb_rows_written < len(dataset):  # the checksums are of whole chunks
            items = items[: len(items) // CHUNK_SIZE * CHUNK_SIZE]
        nb_chunks = math.ceil(len(items) / CHUNK_SIZE)
        damaged = np.flatnonzero(checksums(items, CHUNK_SIZE) != written_checksums.map()[:nb_chunks])
        if len(damaged):
            self.nb_rows_written = int(damaged[0]) * CHUNK_SIZE // self.items_per_row
            print(f"{self.path} is damaged from row {self.nb_rows_written} on: encoding again from there")


class Fingerprints:
    """A complete fingerprint (or logits) file that is open for reading, checked against its checksums.

    Parameters
    ----------
    path : Path
    remedy : Remedy
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

    def __init__(self, path, remedy, expected, shape, name="codes"):
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


def expected_work(files):
    """Return the `Labels` of a database, and what fingerprints must say to be of them and of the present weights."""
    experiment = files.experiment
    state = load_state(experiment.state_path, Remedy("train", experiment))
    labels = Labels(files.labels)
    return labels, {
        "weights": (weights_digest(state["net"]), f"{experiment.state_path} is"),
        "labels": (labels.digest, f"{files.labels} is"),
        "which": (files.which, "this is"),
    }


def merge_shards(files, nb_jobs, force=False):
    """Join the shards of `nb_jobs` jobs into one fingerprint file, atomically; the shards stay.

    Raises
    ------
    UserError
        A shard is missing, unfinished, or made by other weights, labels, images or precision than the first.
    """
    if nb_jobs < 1:
        raise UserError(f"nb_jobs must be at least 1, not {nb_jobs}")
    labels, expected = expected_work(files)
    nb_items, width, made_by, found_checksums = len(labels.database), None, None, []
    for job_id in range(nb_jobs):  # one is open at a time: there may be more than a process may open
        remedy = Remedy("encode_database", files, job_id=job_id, nb_jobs=nb_jobs)
        expected |= {"job_id": (job_id, "this is"), "nb_jobs": (nb_jobs, "this is")}
        first, last = job_range(nb_items, job_id, nb_jobs)
        shard = Fingerprints(files.shard(job_id, nb_jobs), remedy, expected, (last - first, width))
        found_checksums.append(shard.checksums)
        if not job_id:
            made_by, width = shard.provenance, shard.values.shape[1]
            for key in {"device", "precision", "network", "loader", "bank"} & set(made_by):
                expected[key] = made_by[key], f"{files.shard(0, nb_jobs)} is"
    made_by = {key: value for key, value in made_by.items() if key not in ("job_id", "nb_jobs")}
    all_checksums = np.concatenate(found_checksums)
    if exists(files.fingerprints) and not force:
        try:
            there = Fingerprints(files.fingerprints, None, {}, (nb_items, None))
            if there.provenance == made_by and np.array_equal(there.checksums, all_checksums):
                print(f"{files.fingerprints} is merged already (force merges again)")
                return
        except UserError:
            pass  # damaged, or not complete
    with atomic(files.fingerprints) as temporary, create_hdf5(temporary) as file:
        codes = create_dataset(file, "codes", (nb_items, width), np.uint8)
        size = create_dataset(file, "size", (1,), np.uint64)
        create_dataset(file, "checksums", all_checksums.shape, np.uint64)[...] = all_checksums
        set_provenance(file, made_by)
        first = 0
        for job_id in progress_bar(range(nb_jobs), desc="merging", unit="shard", leave=False):
            with Hdf5File(files.shard(job_id, nb_jobs)) as shard:
                values = shard.dataset("codes").map()
            for start in range(0, len(values), MERGE_BLOCK):
                block = values[start : start + MERGE_BLOCK]
                codes[first : first + len(block)] = block
                first += len(block)
        size[0] = nb_items
    print(f"{nb_items:,} fingerprints of {nb_jobs} shards merged into {files.fingerprints}")


def build_index(files, force=False, memory_limit=8 * 2**30, shard=0, nb_shards=1):
    """Build the inverted index of a database's fingerprints, unless there is one of these very fingerprints.

    Parameters
    ----------
    files : DatabaseFiles
    force : bool
        Build in any case.
    memory_limit : int
        Bytes to build in.
    shard, nb_shards : int
        Which part of the index.
    """
    path = files.index(shard, nb_shards)
    labels, expected = expected_work(files)
    remedy = Remedy("encode_database", files)
    fingerprints = Fingerprints(files.fingerprints, remedy, expected, (len(labels.database), None))
    if exists(path) and not force:
        try:
            index = InvertedIndex.load(path)
            if is_index_of(index, fingerprints, shard, nb_shards):
                index.verify()
                print(f"{path} is built already (force builds again)")
                return
        except UserError as error:
            print(f"{error}: building again")
    metadata = provenance(**index_metadata(fingerprints))
    InvertedIndex.build_from_file(
        files.fingerprints, path, memory_limit, metadata=metadata, shard=shard, nb_shards=nb_shards
    )
    print(f"{len(InvertedIndex.load(path)):,} fingerprints indexed in {path}")


def load_index(files, fingerprints, shard=0, nb_shards=1):
    """Load the index of a database, or a shard, after checking that it is of these `Fingerprints`."""
    index, path, remedy = _map_index(files, shard, nb_shards)
    if not is_index_of(index, fingerprints, shard, nb_shards):
        raise UserError(f"{path} is of other fingerprints than {files.fingerprints}", remedy)
    return index


def open_index(files):
    """Map the index of a database to look things up, after checking what it says of its weights, labels and split.

    Unlike `load_index` this reads neither fingerprints nor labels, only headers: it takes no time at any size.

    Returns
    -------
    InvertedIndex, Labels
    """
    labels, expected = expected_work(files)
    index, path, remedy = _map_index(files, 0, 1)
    made_by = index.metadata.get("fingerprints", {})
    check_provenance(path, made_by, expected, Remedy("encode_database and build_index", files))
    if index.database_size != len(labels.database):
        sizes = f"{index.database_size:,} items, {files.labels} of {len(labels.database):,}"
        raise UserError(f"{path} is of {sizes}", remedy)
    return index, labels


def _map_index(files, shard, nb_shards):
    path = files.index(shard, nb_shards)
    remedy = Remedy("build_index", files, **({} if nb_shards == 1 else {"shard": shard, "nb_shards": nb_shards}))
    if not path.is_file():
        raise UserError(f"{path} does not exist", remedy)
    return InvertedIndex.load(path, mmap=True), path, remedy


def is_index_of(index, fingerprints, shard, nb_shards):
    """Whether an index says that it is this shard of the index of these `Fingerprints`."""
    same = all(index.metadata.get(key) == value for key, value in index_metadata(fingerprints).items())
    same = same and (index.shard, index.nb_shards) == (shard, nb_shards)
    return same and (index.database_size, index.nbytes_per_code) == fingerprints.values.shape


def index_metadata(fingerprints):
    """What an index says of the fingerprints that it is of."""
    return {"fingerprints": fingerprints.provenance, "codes": digest_of(fingerprints.checksums.tobytes())}
