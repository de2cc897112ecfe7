"""Making label files; see `equihash.labels` for the format."""

import math
from pathlib import Path

import numpy as np

from equihash._checksum import checksum
from equihash.class_numbers import class_numbers_to_labels, labels_to_class_numbers
from equihash.errors import UserError
from equihash.files import atomic, exists
from equihash.hdf5 import Hdf5File, create_dataset, create_hdf5, set_provenance
from equihash.labels import members, take_csr
from equihash.progress import progress_bar
from equihash.provenance import provenance

BLOCK_SIZE = 1_000_000  # class numbers drawn or read at once
QUERY_BATCH_SIZE = 1000  # candidates for queries drawn at once


def generate_labels(
    path: str | Path,
    bank_size: int,
    mosaic_shape: tuple[int, int],
    database_size: int,
    nb_positive_queries: int,
    nb_negative_queries: int,
    nb_negative_pairs: int,
    seed: int,
    force: bool = False,
) -> bool:
    """Write a label file, atomically, and return whether it was written; the same arguments give the same bytes.

    A file of the same arguments that is there already is kept, unless `force` says to replace it.

    Everything comes from one numpy RandomState(seed), in this order: the database, the positive queries (the
    database indices that are the smallest to bear their label), the negative queries, the negative pairs. The
    candidates for queries are indexed and the database streamed past them, so that memory grows with the number
    of queries only.

    Parameters
    ----------
    path : Path
    bank_size : int
        Images that mosaics are made of: bank_size ** (h*w) classes.
    mosaic_shape : (h, w)
    database_size, nb_positive_queries, nb_negative_queries, nb_negative_pairs, seed : int

    Raises
    ------
    UserError
        The arguments cannot be met, or a file of other arguments is there.
    """
    path = Path(path)
    nb_classes = bank_size ** (mosaic_shape[0] * mosaic_shape[1])
    sizes = {
        "database": database_size,
        "positive_queries": nb_positive_queries,
        "negative_queries": nb_negative_queries,
        "negative_pairs": nb_negative_pairs,
    }
    _check_arguments(bank_size, nb_classes, mosaic_shape, sizes, seed)
    work = {"task": path.parent.name, "bank_size": bank_size, "mosaic_shape": list(mosaic_shape), "seed": seed, **sizes}
    if exists(path) and not force:
        with Hdf5File(path) as file:
            made_by = file.provenance
        if any(made_by.get(key) != value for key, value in work.items()):
            raise UserError(f"{path} exists, of other numbers; --force replaces it (then encode it again)")
        return False
    stream = np.random.RandomState(seed)
    dtype = np.min_scalar_type(bank_size - 1)

    def labels_of(numbers):
        return class_numbers_to_labels(numbers, bank_size, mosaic_shape).astype(dtype)

    with atomic(path) as temporary, create_hdf5(temporary) as file:
        database = create_dataset(file, "database", (database_size, *mosaic_shape), dtype)
        _draw_database(stream, database, nb_classes, labels_of)
        mapped = np.memmap(temporary, dtype, "r", database.id.get_offset(), database.shape)

        numbers, offsets, ids = _positive_queries(stream, mapped, bank_size, nb_classes, nb_positive_queries)
        _write(file, "positive_queries", labels_of(numbers))
        _write(file, "ground_truth_offsets", offsets)
        _write(file, "ground_truth_ids", ids)
        numbers = _negative_queries(stream, mapped, bank_size, nb_classes, nb_negative_queries)
        _write(file, "negative_queries", labels_of(numbers))
        _write(file, "negative_pairs", labels_of(_negative_pairs(stream, nb_classes, nb_negative_pairs)))
        file.attrs["bank_size"] = bank_size
        set_provenance(file, provenance(**work))
    return True


def _draw_database(stream, dataset, nb_classes, labels_of):
    total = 0
    for first in progress_bar(range(0, len(dataset), BLOCK_SIZE), desc="database", unit="M", leave=False):
        count = min(BLOCK_SIZE, len(dataset) - first)
        block = labels_of(stream.randint(0, nb_classes, count, dtype=np.uint64))
        dataset[first : first + count] = block
        total += checksum(block, first)
    dataset.attrs["checksum"] = np.uint64(total % 2**64)


def _positive_queries(stream, database, bank_size, nb_classes, needed):
    """Draw database indices until enough are the first of their label: (numbers, offsets, ids)."""
    distinct = -np.expm1(len(database) * np.log1p(-1 / nb_classes)) * nb_classes if nb_classes > 1 else 1
    fraction = min(distinct / max(len(database), 1), 1)  # of all items, the first of their label

    def accept(candidates):
        numbers = labels_to_class_numbers(database[candidates], bank_size)
        offsets, ids = members(database, bank_size, numbers)
        first = np.flatnonzero(ids[offsets[:-1]] == candidates)
        return (numbers[first], *take_csr(offsets, ids, first)), first

    def draw():
        return stream.randint(0, len(database), QUERY_BATCH_SIZE)

    numbers, offsets, ids = _draw_until(stream, draw, accept, needed, fraction)
    return numbers[:needed], offsets[: needed + 1], ids[: offsets[needed]]


def _negative_queries(stream, database, bank_size, nb_classes, needed):
    """Draw class numbers until enough are absent from the database."""
    if nb_classes > len(database):
        fraction = np.exp(len(database) * np.log1p(-1 / nb_classes))
    else:  # perhaps no class is absent
        present = np.zeros(nb_classes, dtype=bool)
        for first in range(0, len(database), BLOCK_SIZE):
            present[labels_to_class_numbers(database[first : first + BLOCK_SIZE], bank_size)] = True
        fraction = 1 - present.mean()
        if needed and not fraction:
            raise UserError(
                f"all {nb_classes} classes are in the database: there are no negative queries; "
                "use nb_negative_queries 0, a larger bank_size or a smaller database_size"
            )

    def accept(candidates):
        offsets, _ = members(database, bank_size, candidates)
        absent = np.flatnonzero(np.diff(offsets) == 0)
        return candidates[absent], absent

    def draw():
        return stream.randint(0, nb_classes, QUERY_BATCH_SIZE, dtype=np.uint64)

    return _draw_until(stream, draw, accept, needed, fraction)[:needed]


def _draw_until(stream, draw, accept, needed, fraction):
    """Draw batches until `needed` candidates are accepted, leaving the stream after the last batch needed.

    Accepting is a pass over the database, so many batches are judged at once: as many as should do, given the
    expected accepted `fraction`, and more if they did not.

    Returns
    -------
    what `accept` returned for all candidates
    """
    start = stream.get_state()
    expected = needed / max(fraction, 1e-9)
    nb_batches = int((expected + 5 * expected**0.5) / QUERY_BATCH_SIZE) + 1
    while True:
        candidates = np.concatenate([draw() for _ in range(nb_batches)])
        accepted, positions = accept(candidates)
        stream.set_state(start)
        if len(positions) >= needed:
            break
        nb_batches *= 2
    if needed:
        for _ in range(positions[needed - 1] // QUERY_BATCH_SIZE + 1):
            draw()
    return accepted


def _negative_pairs(stream, nb_classes, nb_pairs):
    """Draw pairs of different class numbers: int64 (nb_pairs, 2); equal ones are drawn again."""
    pairs = stream.randint(0, nb_classes, (nb_pairs, 2), dtype=np.int64)
    while True:
        equal = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
        if not len(equal):
            return pairs
        pairs[equal] = stream.randint(0, nb_classes, (len(equal), 2), dtype=np.int64)


def _check_arguments(bank_size, nb_classes, mosaic_shape, sizes, seed):
    if min(mosaic_shape) < 1 or not 0 <= seed < 2**32:
        raise UserError("mosaic_shape must be at least 1 1, and seed 0 to 2^32 - 1")
    if min(bank_size, sizes["database"]) < 1 or min(sizes.values()) < 0:
        raise UserError("bank_size and database_size must be at least 1, the numbers of queries and pairs at least 0")
    if nb_classes > 2**63:
        classes = f"{bank_size}^{math.prod(mosaic_shape)} classes"
        raise UserError(f"{classes} do not fit in 63 bits: use a smaller bank_size or mosaic_shape")
    if sizes["negative_pairs"] and nb_classes < 2:
        raise UserError("negative pairs need at least two classes: use nb_negative_pairs 0 or a larger bank_size")


def _write(file, name, array):
    dataset = create_dataset(file, name, array.shape, array.dtype)
    dataset[...] = array
    dataset.attrs["checksum"] = np.uint64(checksum(np.ascontiguousarray(array)))
