"""Encoding: from labels to mosaics to logits to fingerprint files, merged from shards and indexed.

A fingerprint file is HDF5 with `codes`, uint8 (N, k/8), bits packed most significant first, and `size`, how many
of them are written. Its attribute `provenance` (JSON) says what made it; every stage checks that what it reads
was made by the same weights and labels. Files in the published format carry no provenance and are not checked.
"""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import torch
from tqdm import tqdm

import equihash
from equihash import distributed
from equihash.datasets.procedural import CHUNK_SIZE, ENCODING_SEED, ProceduralDatabase
from equihash.errors import UserError
from equihash.files import atomic, create_dataset, map_dataset, open_hdf5, sample_digest
from equihash.inference import compute_logits
from equihash.labels import Labels
from equihash.search import InvertedIndex
from equihash.state import build_loader, build_network, load_state, load_weights, weights_digest

TRIPLETS_SEED = 0xFAB
MERGE_BLOCK = 10_000_000  # codes copied at once
IDENTITY = ("weights", "labels", "which", "network", "loader")  # what makes two encodings the same work


def encode_database(files, device, precision=torch.float32, flush_freq=20, job_id=None, nb_jobs=1):
    """Encode a database, or one job's share of it; job 0 also encodes the queries and the triplets.

    Where torchrun started several processes, each encodes a share, and the first merges them. What is already encoded by the same weights is kept, so that an interrupted encoding goes on.

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
        raise UserError(f"--nb_jobs must be at least 1, not {nb_jobs}")
    if job_id is None and nb_jobs > 1:
        raise UserError(f"--nb_jobs {nb_jobs} needs --job_id 0 to {nb_jobs - 1}: which share is this?")
    if not 0 <= (job_id or 0) < nb_jobs:
        raise UserError(f"--job_id must be 0 to {nb_jobs - 1} (--nb_jobs {nb_jobs}), not {job_id}")
    if flush_freq < 1:
        raise UserError(f"--flush_freq must be at least 1, not {flush_freq}")
    nb_processes = distributed.nb_processes()
    if nb_processes > 1:
        if job_id is not None:
            raise UserError("torchrun gives each process its share: leave out --job_id and --nb_jobs")
        job_id, nb_jobs = distributed.rank(), nb_processes
    experiment = files.experiment
    state = load_state(experiment.state_path, experiment.training_command())
    labels = Labels(files.labels, experiment.task)
    loader = build_loader(state["config"], files.which, device)
    if labels.mosaic_shape != loader.mosaic_shape:
        raise UserError(
            f"{files.labels} is for mosaics of {labels.mosaic_shape}, {experiment.task} makes {loader.mosaic_shape}: "
            "make labels with the right --mosaic_shape"
        )
    if labels.bank_size > loader.bank_size:
        raise UserError(
            f"{files.labels} is for a bank of {labels.bank_size} images, the {files.which} split has "
            f"{loader.bank_size}: make labels with a smaller --bank_size"
        )
    network = build_network(state["config"], device)
    load_weights(network, state["net"], experiment.state_path)
    network.eval()
    provenance = {
        "version": equihash.__version__,
        "task": experiment.task,
        "model": experiment.model,
        "name": experiment.config["name"],
        "step": state["trainer"]["step"],
        "weights": weights_digest(state["net"]),
        "labels": labels.digest,
        "which": files.which,
        "device": device.type,
        "precision": str(precision).removeprefix("torch."),
        "network": [state["config"]["network_class"], state["config"]["network_kwargs"]],
        "loader": [state["config"]["loader_class"], state["config"]["loader_kwargs"]],
        "config": state["config"],
    }

    def encode(items, seed, path, shape, what, first=0, logits_path=None, **share):
        text = json.dumps({**provenance, **share}, sort_keys=True)
        outputs = [RowFile(path, "codes", (*shape, network.k // 8), np.uint8, text)]
        if logits_path is not None:
            outputs.append(RowFile(logits_path, "logits", (*shape, network.k), np.float32, text))
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

    The next chunk is made while one is encoded.

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
    with (
        ThreadPoolExecutor(1) as pool,
        distributed.progress_bar(total=nb_items, initial=done, desc=what, unit="mosaic", unit_scale=True) as bar,
    ):
        following = pool.submit(database.chunk, chunks[0]) if chunks else None
        for number in chunks:
            instances = following.result()
            following = pool.submit(database.chunk, number + 1) if number + 1 in chunks else None
            logits = compute_logits(network, instances, precision).cpu().numpy()
            waiting.append((np.packbits(logits > 0, axis=-1), logits))
            bar.update(len(logits))
            if len(waiting) == flush_freq or following is None:
                for output, values in zip(outputs, zip(*waiting)):
                    output.write(done, np.concatenate(values))
                done += sum(len(codes) for codes, _ in waiting)
                waiting = []


class RowFile:
    """A fingerprint or logits file that is being written: rows of items, then the committed number of rows.

    The file gets its full structure at once and then only raw bytes in their places, so that a crash at any
    moment leaves a file that says how far it came.
    """

    def __init__(self, path, name, shape, dtype, provenance):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.items_per_row = math.prod(shape[1:-1])
        if not self._reopen(name, provenance):
            with atomic(path) as temporary, h5py.File(temporary, "w") as file:
                create_dataset(file, name, shape, dtype)
                create_dataset(file, "size", (1,), np.uint64)[0] = 0
                file.attrs["provenance"] = provenance
            self._reopen(name, provenance)

    def nb_items_written(self):
        return self.nb_rows_written * self.items_per_row

    def write(self, first, values):
        """Write the items `first`, `first` + 1, ...: array (items, values)."""
        assert values.shape[1] == self.shape[-1] and first + len(values) <= math.prod(self.shape[:-1])
        with open(self.path, "r+b") as file:
            file.seek(self.offset + first * self.shape[-1] * self.dtype.itemsize)
            file.write(np.ascontiguousarray(values, self.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
            file.seek(self.size_offset)
            file.write(np.uint64((first + len(values)) // self.items_per_row).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def _reopen(self, name, provenance):
        """Take up the file that is there, if the same work began it.

        Fingerprints of older weights or labels are of no more use and give way; those that differ in precision or
        device may be somebody's week of work, and do not.
        """
        if not self.path.is_file():
            return False
        try:
            with h5py.File(self.path) as file:
                found = json.loads(file.attrs.get("provenance", "{}"))
                fits = file[name].shape == self.shape and file[name].dtype == self.dtype
                self.nb_rows_written = int(file["size"][0])
                self.offset, self.size_offset = file[name].id.get_offset() or 0, file["size"].id.get_offset()
        except (OSError, KeyError, ValueError):
            print(f"{self.path} is damaged: encoding anew")
            return False
        provenance = json.loads(provenance)
        if not fits or any(found.get(key) != provenance[key] for key in IDENTITY):
            print(f"{self.path} is of other weights or labels: encoding anew")
            return False
        for key in ("precision", "device"):
            if found.get(key) != provenance[key]:
                raise UserError(
                    f"{self.path} was encoded with {key} {found.get(key)}, not {provenance[key]}: "
                    f"use --{key} {found.get(key)}, or delete it"
                )
        return True


class Fingerprints:
    """A complete fingerprint (or logits) file that is open for reading.

    Parameters
    ----------
    path : Path
    command : str
        What makes the file, for messages.
    expected : dict
        Entries that its provenance must have, e.g. weights and labels.

    Attributes
    ----------
    values : array (N, ...), mapped
    provenance : dict
        Empty for files in the published format.

    Raises
    ------
    UserError
        The file is missing, unfinished, damaged or made by something else.
    """

    def __init__(self, path, command, expected, name="codes"):
        with open_hdf5(path, f": run {command}") as file:
            if name not in file or "size" not in file or file["size"].shape != (1,):
                raise UserError(f"{path} is not a fingerprint file (no {name} or size): run {command}")
            if int(file["size"][0]) != len(file[name]):
                raise UserError(f"{path} is unfinished ({file['size'][0]} of {len(file[name])} rows): run {command}")
            self.provenance = json.loads(file.attrs.get("provenance", "{}"))
            for key, value in expected.items():
                made_by = self.provenance.get(key, value)
                if made_by != value:
                    raise UserError(f"{path} was made by {key} {made_by}, now it is {value}: run {command}")
            self.values = map_dataset(file[name])


def expected_provenance(files):
    """What the fingerprints of the present weights and labels say of themselves."""
    experiment = files.experiment
    state = load_state(experiment.state_path, experiment.training_command())
    return {
        "weights": weights_digest(state["net"]),
        "labels": Labels(files.labels, experiment.task).digest,
        "which": files.which,
    }


def merge_shards(files, nb_jobs, force=False):
    """Join the shards of `nb_jobs` jobs into one fingerprint file, atomically; the shards stay.

    Raises
    ------
    UserError
        A shard is missing, unfinished, or made by other weights, labels or precision than the first.
    """
    if nb_jobs < 1:
        raise UserError(f"--nb_jobs must be at least 1, not {nb_jobs}")
    expected = expected_provenance(files)
    shards = []
    for job_id in range(nb_jobs):
        command = f"{files.command('encode.py')} --job_id {job_id} --nb_jobs {nb_jobs}"
        shards.append(Fingerprints(files.shard(job_id, nb_jobs), command, expected))
        for key in ("device", "precision", "network", "loader"):
            expected.setdefault(key, shards[0].provenance.get(key))
    provenance = {key: v for key, v in shards[0].provenance.items() if key not in ("job_id", "nb_jobs")}
    text = json.dumps(provenance, sort_keys=True)
    nb_items = sum(len(shard.values) for shard in shards)
    if files.fingerprints.is_file() and not force:
        with open_hdf5(files.fingerprints) as file:
            if file.attrs.get("provenance") == text and int(file["size"][0]) == nb_items:
                print(f"{files.fingerprints} is merged already (--force merges again)")
                return
    with atomic(files.fingerprints) as temporary, h5py.File(temporary, "w") as file:
        codes = create_dataset(file, "codes", (nb_items, shards[0].values.shape[1]), np.uint8)
        size = create_dataset(file, "size", (1,), np.uint64)
        file.attrs["provenance"] = text
        first = 0
        for shard in tqdm(shards, desc="merging", unit="shard", leave=False):
            for start in range(0, len(shard.values), MERGE_BLOCK):
                block = shard.values[start : start + MERGE_BLOCK]
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
    fingerprints = Fingerprints(files.fingerprints, files.command("encode.py"), expected_provenance(files))
    metadata = index_metadata(fingerprints)
    if path.is_file() and not force:
        try:
            if InvertedIndex.load(path).metadata == metadata:
                print(f"{path} is built already (--force builds again)")
                return
        except UserError as error:
            print(f"{error}: building anew")
    InvertedIndex.build_from_file(
        files.fingerprints, path, memory_limit, metadata=metadata, shard=shard, nb_shards=nb_shards
    )
    print(f"{len(InvertedIndex.load(path)):,} fingerprints indexed in {path}")


def load_index(files, fingerprints, shard=0, nb_shards=1):
    """Load the index of a database, or a shard, after checking that it is of these `Fingerprints`."""
    path = files.index(shard, nb_shards)
    command = files.command("build_index.py", shard, nb_shards)
    if not path.is_file():
        raise UserError(f"{path} does not exist: run {command}")
    index = InvertedIndex.load(path, mmap=True)
    if index.metadata != index_metadata(fingerprints) or (index.shard, index.nb_shards) != (shard, nb_shards):
        raise UserError(f"{path} is of other fingerprints than {files.fingerprints}: run {command}")
    return index


def index_metadata(fingerprints):
    """What an index says of the fingerprints that it is of."""
    return {"provenance": fingerprints.provenance, "codes": sample_digest(fingerprints.values)}
