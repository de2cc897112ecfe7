"""Label files: which classes a procedural database and its queries are made of.

HDF5 datasets of data/labels/TASK/NAME.hdf5, labels in the smallest unsigned dtype that holds bank_size - 1:

    database          (N, h, w)
    positive_queries  (P, h, w)     classes that are in the database
    negative_queries  (Q, h, w)     classes that are not
    negative_pairs    (T, 2, h, w)  two different classes
    ground_truth_offsets (P+1), ground_truth_ids   CSR: the database items of each positive query's class

Each has the attribute `checksum`, of its rows (see `equihash._checksum`); the attribute `provenance` of the file says
what made it.
"""

import functools
from pathlib import Path

import numpy as np

from equihash._checksum import checksum
from equihash.class_numbers import class_numbers_to_labels, labels_to_class_numbers
from equihash.errors import Damaged, Remedy, UserError
from equihash.files import atomic, digest_of, sample_digest
from equihash.hdf5 import Hdf5File, create_dataset, create_hdf5, set_provenance
from equihash.progress import progress_bar
from equihash.provenance import provenance
from equihash.search import InvertedIndex

BLOCK_SIZE = 1_000_000  # class numbers drawn or read at once
QUERY_BATCH_SIZE = 1000  # candidates for queries drawn at once
NAMES = ("database", "positive_queries", "negative_queries", "negative_pairs")
TRUTH_NAMES = ("ground_truth_offsets", "ground_truth_ids")


def generate_labels(path, bank_size, mosaic_shape, database_size, nb_positive, nb_negative, nb_pairs, seed):
    """Write a label file, atomically; the same arguments give the same bytes.

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
    database_size, nb_positive, nb_negative, nb_pairs, seed : int

    Raises
    ------
    UserError
        The arguments cannot be met.
    """
    path = Path(path)
    nb_classes = bank_size ** (mosaic_shape[0] * mosaic_shape[1])
    _check_arguments(bank_size, nb_classes, mosaic_shape, database_size, nb_positive, nb_negative, nb_pairs, seed)
    stream = np.random.RandomState(seed)
    dtype = np.min_scalar_type(bank_size - 1)

    def labels_of(numbers):
        return class_numbers_to_labels(numbers, bank_size, mosaic_shape).astype(dtype)

    with atomic(path) as temporary, create_hdf5(temporary) as file:
        database = create_dataset(file, "database", (database_size, *mosaic_shape), dtype)
        total = 0
        for first in progress_bar(range(0, database_size, BLOCK_SIZE), desc="database", unit="M", leave=False):
            count = min(BLOCK_SIZE, database_size - first)
            block = labels_of(stream.randint(0, nb_classes, count, dtype=np.uint64))
            database[first : first + count] = block
            total += checksum(block, first)
        database.attrs["checksum"] = np.uint64(total % 2**64)
        mapped = np.memmap(temporary, dtype, "r", database.id.get_offset(), database.shape)

        numbers, offsets, ids = _positive_queries(stream, mapped, bank_size, nb_classes, nb_positive)
        _write(file, "positive_queries", labels_of(numbers))
        _write(file, "ground_truth_offsets", offsets)
        _write(file, "ground_truth_ids", ids)
        numbers = _negative_queries(stream, mapped, bank_size, nb_classes, nb_negative)
        _write(file, "negative_queries", labels_of(numbers))
        _write(file, "negative_pairs", labels_of(_negative_pairs(stream, nb_classes, nb_pairs)))
        file.attrs["bank_size"] = bank_size
        sizes = {"database": database_size, "positive_queries": nb_positive, "negative_queries": nb_negative}
        sizes["negative_pairs"] = nb_pairs
        made_by = provenance(task=path.parent.name, bank_size=bank_size, mosaic_shape=mosaic_shape, seed=seed, **sizes)
        set_provenance(file, made_by)


class Labels:
    """A label file that is open for reading; large arrays stay in the file.

    Files in the published format, which have no ground truth and no attributes, are taken too.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    database, positive_queries, negative_queries, negative_pairs : arrays
    ground_truth : (offsets int64 (P+1), ids int64)
    bank_size : int
    digest : str
        Of all labels; of samples of them where the file has no checksums.
    """

    def __init__(self, path):
        self.path = path = Path(path)
        self.remedy = Remedy("generate_labels", path)
        with Hdf5File(path, self.remedy) as file:
            datasets = {name: file.dataset(name) for name in NAMES}
            for name, dataset in datasets.items():
                if dataset is None or dataset.dtype.kind != "u" or len(dataset.shape) != 3 + (name == NAMES[3]):
                    raise UserError(f"{path} is not a label file: it needs {name}, unsigned integers (N, h, w)")
                if dataset.shape[-2:] != datasets["database"].shape[-2:] or not dataset.dtype.isnative:
                    raise UserError(f"{path}: {name} and database have mosaics of different shapes")
                setattr(self, name, dataset.map())
            self.mosaic_shape = self.database.shape[1:]
            if not self.database.size or self.negative_pairs.shape[1] != 2 or np.prod(self.mosaic_shape) > 64:
                raise UserError(f"{path} is not a label file: its shapes are not those of a database and of pairs")
            self.bank_size = file.attribute("bank_size") or int(self.database.max()) + 1
            if not 0 < self.nb_classes <= 2**63:
                raise UserError(f"{path} is not a label file: {self.nb_classes} classes")
            truth = {name: file.dataset(name) for name in TRUTH_NAMES}
            self._truth = None if None in truth.values() else tuple(dataset.map() for dataset in truth.values())
            datasets |= truth if self._truth else {}
            self._checksums = {name: dataset.attribute("checksum") for name, dataset in datasets.items()}
        arrays = [getattr(self, name) for name in NAMES]
        if None not in [self._checksums[name] for name in NAMES]:
            parts = [(array.shape, array.dtype, self._checksums[name]) for name, array in zip(NAMES, arrays)]
            self.digest = digest_of(self.bank_size, parts)
        else:
            self.digest = sample_digest(*arrays)

    @functools.cached_property
    def ground_truth(self):
        if self._truth is None:
            numbers = labels_to_class_numbers(self.positive_queries, self.bank_size)
            return members(self.database, self.bank_size, numbers)
        offsets, ids = (np.asarray(part) for part in self._truth)
        good = offsets.dtype == ids.dtype == np.int64 and offsets.shape == (len(self.positive_queries) + 1,)
        good = good and ids.ndim == 1 and offsets[0] == 0 and offsets[-1] == len(ids)
        good = good and bool((np.diff(offsets) >= 0).all())
        if not good or (len(ids) and not 0 <= ids.min() <= ids.max() < len(self.database)):
            raise self._damaged("the ground truth")
        return offsets, ids

    def verify(self):
        """Read all labels and compare them to their checksums and to the size of the bank.

        Raises
        ------
        UserError
            They are damaged.
        """
        arrays = {name: getattr(self, name) for name in NAMES}
        if self._truth is not None:
            arrays |= dict(zip(TRUTH_NAMES, self._truth))
        for name, array in arrays.items():
            if name in NAMES and any(block.max() >= self.bank_size for block in _blocks(array)):
                raise self._damaged(name)
            if self._checksums[name] not in (None, checksum(np.ascontiguousarray(array))):
                raise self._damaged(name)

    def _damaged(self, what):
        return Damaged(f"{self.path}: {what} is damaged", self.remedy)

    def class_numbers(self, ids):
        """Class numbers of database items: uint64, one for each of `ids`."""
        return labels_to_class_numbers(self.database[ids], self.bank_size)

    @property
    def nb_classes(self):
        return self.bank_size ** int(np.prod(self.mosaic_shape))


def members(database, bank_size, numbers):
    """Find the database items of each of some classes.

    Parameters
    ----------
    database : array (N, h, w)
    bank_size : int
    numbers : uint64 (Q,)
        Class numbers, repeats allowed.

    Returns
    -------
    offsets : int64 (Q+1), ids : int64
        Items of class `numbers[q]`, ascending: ids[offsets[q]:offsets[q+1]].
    """
    unique, inverse = np.unique(numbers, return_inverse=True)
    index = InvertedIndex.build(_as_codes(unique))
    owners, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in progress_bar(range(0, len(database), BLOCK_SIZE), desc="ground truth", unit="M", leave=False):
        block = labels_to_class_numbers(database[first : first + BLOCK_SIZE], bank_size)
        offsets, owner = index.lookup(_as_codes(block))
        owners.append(owner)
        items.append(first + np.flatnonzero(np.diff(offsets)))  # a class has one number: at most one owner
    owners, items = np.concatenate(owners), np.concatenate(items)
    order = np.argsort(owners, kind="stable")
    items = items[order]
    counts = np.bincount(owners, minlength=len(unique))
    return take_csr(np.concatenate([[0], counts.cumsum()]), items, inverse)


def take_csr(offsets, ids, rows):
    """Take rows of a CSR structure: (offsets, ids) of rows[0], rows[1], ..."""
    counts = np.diff(offsets)[rows]
    taken = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    positions = np.arange(taken[-1]) + np.repeat(offsets[rows] - taken[:-1], counts)
    return taken, ids[positions]


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

    (numbers, offsets, ids), nb_kept = _draw_until(stream, draw, accept, needed, fraction)
    return numbers[:nb_kept], offsets[: nb_kept + 1], ids[: offsets[nb_kept]]


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

    numbers, nb_kept = _draw_until(stream, draw, accept, needed, fraction)
    return numbers[:nb_kept]


def _draw_until(stream, draw, accept, needed, fraction):
    """Draw batches until `needed` candidates are accepted, leaving the stream after the last batch needed.

    Accepting is a pass over the database, so many batches are judged at once: as many as should do, given the
    expected accepted `fraction`, and more if they did not.

    Returns
    -------
    what `accept` returned for all candidates, `needed`
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
    return accepted, needed


def _negative_pairs(stream, nb_classes, nb_pairs):
    """Draw pairs of different class numbers: int64 (nb_pairs, 2); equal ones are drawn again."""
    pairs = stream.randint(0, nb_classes, (nb_pairs, 2), dtype=np.int64)
    while True:
        equal = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
        if not len(equal):
            return pairs
        pairs[equal] = stream.randint(0, nb_classes, (len(equal), 2), dtype=np.int64)


def _check_arguments(bank_size, nb_classes, mosaic_shape, database_size, nb_positive, nb_negative, nb_pairs, seed):
    if min(mosaic_shape) < 1 or not 0 <= seed < 2**32:
        raise UserError("mosaic_shape must be at least 1 1, and seed 0 to 2^32 - 1")
    if bank_size < 1 or database_size < 1 or min(nb_positive, nb_negative, nb_pairs) < 0:
        raise UserError("bank_size and database_size must be at least 1, the numbers of queries and pairs at least 0")
    if nb_classes > 2**63:
        raise UserError(f"{nb_classes} classes do not fit in 63 bits: use a smaller bank_size or mosaic_shape")
    if nb_pairs and nb_classes < 2:
        raise UserError("negative pairs need at least two classes: use nb_negative_pairs 0 or a larger bank_size")


def _blocks(array):
    return (array[first : first + BLOCK_SIZE] for first in range(0, len(array), BLOCK_SIZE))


def _as_codes(numbers):
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8)


def _write(file, name, array):
    dataset = create_dataset(file, name, array.shape, array.dtype)
    dataset[...] = array
    dataset.attrs["checksum"] = np.uint64(checksum(np.ascontiguousarray(array)))
