"""Encoding a database and its queries: from labels to mosaics to logits to codes."""

import math
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from equihash import distributed
from equihash.datasets.procedural import CHUNK_SIZE, ENCODING_SEED, ProceduralDatabase
from equihash.errors import UserError
from equihash.experiment import DatabaseFiles
from equihash.files import locked
from equihash.fingerprints.fingerprint_file import job_range
from equihash.fingerprints.merging import merge_shards
from equihash.fingerprints.row_file import RowFile
from equihash.from_config import build_loader, check_instances
from equihash.inference import compute_logits
from equihash.labels import Labels
from equihash.provenance import provenance, work_of
from equihash.state import load_network, weights_digest
from equihash.workers import map_on_device

TRIPLETS_SEED = 0xFAB


def encode_database(
    files: DatabaseFiles,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    flush_freq: int = 20,
    job_id: int | None = None,
    nb_jobs: int = 1,
) -> None:
    """Encode a database, or one job's share of it; job 0 also encodes the queries and the triplets.

    Where torchrun started several processes, each encodes a share, and the first merges them. What is already encoded
    by the same weights is kept, so that an interrupted encoding resumes.

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
    _check_arguments(flush_freq, job_id, nb_jobs)
    several = distributed.nb_processes() > 1
    if several:
        if job_id is not None:
            raise UserError("torchrun gives each process its share: leave out job_id and nb_jobs")
        job_id, nb_jobs = distributed.rank(), distributed.nb_processes()
    state = files.experiment.load_state()
    labels, loader = Labels(files.labels), build_loader(state["config"], files.which, device)
    _check_labels(labels, loader)
    network = load_network(state, files.experiment.state_path, device)
    check_instances(network, loader)
    made_by = _provenance(files, state, labels, loader, device, precision)
    for part in _parts(files, labels, job_id, nb_jobs):
        _encode_part(part, network, loader, precision, made_by, flush_freq)
    if several:
        distributed.wait()
        if distributed.is_first():
            merge_shards(files, nb_jobs)


def _check_arguments(flush_freq, job_id, nb_jobs):
    if nb_jobs < 1:
        raise UserError(f"nb_jobs must be at least 1, not {nb_jobs}")
    if job_id is None and nb_jobs > 1:
        raise UserError(f"nb_jobs {nb_jobs} needs job_id 0 to {nb_jobs - 1}: which share is this?")
    if not 0 <= (job_id or 0) < nb_jobs:
        raise UserError(f"job_id must be 0 to {nb_jobs - 1} (nb_jobs {nb_jobs}), not {job_id}")
    if flush_freq < 1:
        raise UserError(f"flush_freq must be at least 1, not {flush_freq}")


def _check_labels(labels, loader):
    """Raise a `UserError` where labels are damaged, or not of classes of the data set."""
    if labels.mosaic_shape != loader.mosaic_shape:
        raise UserError(
            f"{labels.path} is for mosaics of {labels.mosaic_shape}, the task makes {loader.mosaic_shape}: "
            "make labels with the right mosaic_shape"
        )
    if labels.bank_size > loader.bank_size:
        raise UserError(
            f"{labels.path} is for a bank of {labels.bank_size} images, the {loader.which} split has "
            f"{loader.bank_size}: make labels with a smaller bank_size"
        )
    labels.verify()


def _provenance(files, state, labels, loader, device, precision):
    config = state["config"]
    return provenance(
        **work_of(files.experiment, config, device, precision),
        step=state["trainer"]["step"],
        weights=weights_digest(state["net"]),
        labels=labels.digest,
        bank=loader.digest(),
        which=files.which,
        seeds={"database": ENCODING_SEED, "queries": ENCODING_SEED, "triplets": TRIPLETS_SEED},
        network=[config["network_class"], config["network_kwargs"]],
        loader=[config["loader_class"], config["loader_kwargs"]],
    )


@dataclass
class Part:
    """What is encoded to one fingerprint file.

    Attributes
    ----------
    what : str
        For the progress bar.
    labels : sequence of integer arrays (h, w)
    seed : int
        Of the procedural database.
    path : Path
    shape : tuple
        (rows,), or (rows, items of a row).
    first : int
        The first item that is encoded.
    logits_path : Path or None
        Where the logits are kept, too.
    share : dict
        What the provenance says of a job.
    """

    what: str
    labels: object
    seed: int
    path: Path
    shape: tuple
    first: int = 0
    logits_path: Path | None = None
    share: dict = field(default_factory=dict)


def _parts(files, labels, job_id, nb_jobs):
    """List what a job encodes; None is the only job."""
    size = len(labels.database)
    if job_id is None:
        parts = [Part("database", labels.database, ENCODING_SEED, files.fingerprints, (size,))]
    else:
        first, last = job_range(size, job_id, nb_jobs)
        share = {"job_id": job_id, "nb_jobs": nb_jobs}
        path = files.shard(job_id, nb_jobs)
        parts = [Part("database", labels.database, ENCODING_SEED, path, (last - first,), first, share=share)]
    if not job_id:
        for sign in ("positive", "negative"):
            queries = getattr(labels, f"{sign}_queries")
            path, logits_path = (files.queries(sign, content) for content in ("fingerprints", "logits"))
            shape = (len(queries),)
            parts.append(Part(f"{sign} queries", queries, ENCODING_SEED, path, shape, logits_path=logits_path))
        triplets = Triplets(labels.negative_pairs)
        parts.append(Part("triplets", triplets, TRIPLETS_SEED, files.triplets, (len(triplets) // 3, 3)))
    return parts


class Triplets:
    """Labels (3T, h, w) of anchor, positive and negative in turn, read from the negative pairs (T, 2, h, w)."""

    def __init__(self, negative_pairs: np.ndarray):
        self.negative_pairs = negative_pairs

    def __len__(self):
        return 3 * len(self.negative_pairs)

    def __getitem__(self, rows):
        items = np.arange(*rows.indices(len(self)))
        return self.negative_pairs[items // 3, (items % 3) // 2]


def _encode_part(part, network, loader, precision, made_by, flush_freq):
    with ExitStack() as locks:
        for path in (part.path, part.logits_path):
            if path is not None:
                locks.enter_context(locked(path))
        work = {**made_by, **part.share}
        outputs = [RowFile(part.path, "codes", (*part.shape, network.k // 8), np.uint8, work)]
        if part.logits_path is not None:
            outputs.append(RowFile(part.logits_path, "logits", (*part.shape, network.k), np.float32, work))
        database = ProceduralDatabase(part.labels, loader, part.seed)
        encode_items(network, database, precision, outputs, part.first, math.prod(part.shape), flush_freq, part.what)


def encode_items(
    network: nn.Module,
    database: ProceduralDatabase,
    precision: torch.dtype,
    outputs: list[RowFile],
    first: int,
    nb_items: int,
    flush_freq: int,
    what: str,
) -> None:
    """Encode the items `first` to `first` + `nb_items` of a procedural database, from where the files stop.

    Several chunks are made and go through the network at the same time, each in a thread of its own: on the CPU,
    threads that share one chunk would wait for each other after every layer.

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

    def encode(number):
        logits = compute_logits(network, database.chunk(number), precision).cpu().numpy()
        return np.packbits(logits > 0, axis=-1), logits

    encoded = []  # (packed codes, logits) of each chunk that is not written yet
    with (
        closing(map_on_device(encode, chunks, database.dataset.device)) as results,
        distributed.progress_bar(total=nb_items, initial=done, desc=what, unit="mosaic", unit_scale=True) as bar,
    ):
        for number, result in zip(chunks, results):
            encoded.append(result)
            bar.update(len(result[0]))
            if len(encoded) == flush_freq or number == chunks[-1]:
                for output, values in zip(outputs, zip(*encoded)):
                    output.write(done, np.concatenate(values))
                done += sum(len(codes) for codes, _ in encoded)
                encoded.clear()
