"""Counting what the queries of an indexed database retrieve.

No set of retrieved items is ever made: an item is retrieved if its code is among the query's probes, so the number
retrieved is a count of the index, and the relevant ones are found by looking at the codes of the ground truth. Both are
cheap however many items share a code.

The same is counted in prefixes, which shows what grows and what falls with the number of items. The prefix of size n is
the database of items 0 to n-1, with the fingerprints that they have. Its positive queries are those of the whole that
have a relevant item in it, and what is relevant to one is what is relevant in the whole and has an id less than n. A
class is drawn into the queries by its first item, so these are a fair sample of the classes of the prefix.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from equihash.errors import UserError
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.search import InvertedIndex, probe_codes

PROBE_BLOCK = 1 << 20  # queries x probes handled at once
SMALLEST_PREFIX = 1000

Relevant = tuple[np.ndarray, np.ndarray]  # of queries: offsets int64 (Q+1), ids int64


@dataclass(frozen=True)
class Retrieved:
    """How many items the queries retrieve of a database, or a prefix of it, with a number of lookups each.

    Attributes
    ----------
    size
        Items of the database or prefix.
    retrieved, relevant_retrieved : int64 (P,)
        By the positive queries: items, and relevant ones among them.
    negative_retrieved : int64 (Q,) or None
        By the negative queries, which are asked of the whole database only.
    """

    size: int
    nb_lookups: int
    retrieved: np.ndarray
    relevant_retrieved: np.ndarray
    negative_retrieved: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def __add__(self, other):
        sums = {name: array + getattr(other, name) for name, array in self.arrays().items()}
        return Retrieved(self.size, self.nb_lookups, **sums)


@dataclass(frozen=True)
class Counts:
    """All that the scores of an index are made of; those of its shards add up, as equal codes are in one shard.

    Attributes
    ----------
    internal_collisions
        Pairs of items with equal codes and different classes.
    largest_bucket
        Items that share the commonest code of a sample.
    queries
        By size, then by number of lookups; empty if queries were not asked.
    """

    internal_collisions: int
    largest_bucket: int
    queries: list[Retrieved]

    def __add__(self, other):
        return Counts(
            self.internal_collisions + other.internal_collisions,
            max(self.largest_bucket, other.largest_bucket),
            [mine + others for mine, others in zip(self.queries, other.queries)],
        )


def count(database: EncodedDatabase, index: InvertedIndex, nb_lookups: list[int]) -> Counts:
    """Count everything that scores are made of, in an index or in one shard of it.

    A query has 1 lookup, of its fingerprint itself, or more by multi-probing (Lv et al., VLDB 2007).
    """
    nb_bits, most = 8 * index.nbytes_per_code, max(nb_lookups, default=1)
    if most > 2**nb_bits:
        raise UserError(f"--nb_lookups: fingerprints of {nb_bits} bits allow at most {2**nb_bits}, not {most}")

    def count_of(sign, number):
        logits = database.query_logits(sign) if number > 1 else None
        truth, codes = database.ground_truth(sign), database.query_codes(sign)
        return count_retrieved(index, database.codes, truth, codes, logits, number)

    queries, size = [], len(database.codes)
    with ThreadPoolExecutor(1) as pool:
        verification = pool.submit(index.verify)
        for prefix in prefix_sizes(size) if nb_lookups else ():
            queries += count_in_prefix(database, index, prefix, nb_lookups)
        for number in nb_lookups:
            negative_retrieved, _ = count_of("negative", number)
            queries.append(Retrieved(size, number, *count_of("positive", number), negative_retrieved))
        collisions = index.internal_collisions(database.labels.class_numbers)
        largest = largest_bucket(index, database.codes)
        verification.result()
    return Counts(collisions, largest, queries)


def count_in_prefix(
    database: EncodedDatabase, index: InvertedIndex, size: int, nb_lookups: list[int]
) -> list[Retrieved]:
    """Count what the positive queries retrieve of a prefix of a database.

    The codes of the prefix are indexed again, which takes a moment; of an index that is a shard, one shard of them.
    """
    codes = database.codes[:size]
    part = InvertedIndex.build(codes, index.shard, index.nb_shards)
    truth = prefix_truth(database.ground_truth("positive"), size)
    query_codes = database.query_codes("positive")
    logits = database.query_logits("positive") if max(nb_lookups) > 1 else None
    return [
        Retrieved(size, number, *count_retrieved(part, codes, truth, query_codes, logits, number))
        for number in nb_lookups
    ]


def prefix_sizes(database_size: int) -> list[int]:
    """Sizes of the prefixes: 1,000, 10,000, ... up to half of the database, which together cost a fraction of it."""
    sizes = [SMALLEST_PREFIX]
    while sizes[-1] <= database_size // 2:
        sizes.append(10 * sizes[-1])
    return sizes[:-1]


def prefix_truth(ground_truth: Relevant, size: int) -> Relevant:
    """What is relevant in the first `size` items; to some queries nothing may be."""
    offsets, ids = ground_truth
    inside = ids < size
    return np.concatenate([[0], np.cumsum(inside)])[offsets], ids[inside]


def count_retrieved(
    index: InvertedIndex,
    database_codes: np.ndarray,
    ground_truth: Relevant,
    codes: np.ndarray,
    logits: np.ndarray | None,
    nb_lookups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Count what each query retrieves of an index; of a shard, if it is one.

    Parameters
    ----------
    database_codes : uint8 (N, nbytes)
    codes : uint8 (Q, nbytes)
        Fingerprints of the queries.
    logits : float32 (Q, k) or None
        Needed for more than one lookup.

    Returns
    -------
    retrieved, relevant_retrieved : int64 (Q,)
    """
    offsets, ids = ground_truth
    nb_queries, nbytes = codes.shape
    retrieved = np.zeros(nb_queries, dtype=np.int64)
    relevant_retrieved = np.zeros(nb_queries, dtype=np.int64)
    block = max(PROBE_BLOCK // nb_lookups, 1)
    for first in range(0, nb_queries, block):
        last = min(first + block, nb_queries)
        if nb_lookups == 1:
            probes = np.ascontiguousarray(codes[first:last])[:, None]
        else:
            probes = probe_codes(np.ascontiguousarray(logits[first:last]), nb_lookups)
        counts = index.count(probes.reshape(-1, nbytes))
        retrieved[first:last] = counts.reshape(-1, nb_lookups).sum(1)
        truth = ids[offsets[first] : offsets[last]]
        owners = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        truth_codes = np.ascontiguousarray(database_codes[truth])
        found = _contained(truth_codes, probes, owners) & index.holds(truth_codes)
        relevant_retrieved[first:last] = np.bincount(owners[found], minlength=last - first)
    return retrieved, relevant_retrieved


def largest_bucket(index: InvertedIndex, database_codes: np.ndarray) -> int:
    """How many items share the commonest fingerprint, among those of 1,000 evenly spaced items."""
    rows = np.unique(np.linspace(0, max(len(database_codes) - 1, 0), 1000).astype(np.int64))
    return int(index.count(np.ascontiguousarray(database_codes[rows])).max()) if len(database_codes) else 0


def _contained(codes, probes, owners):
    """Whether codes[e], uint8 (E, nbytes), is among probes[owners[e]], (Q, L, nbytes): bool (E,)."""
    found = np.zeros(len(codes), dtype=bool)
    for probe in range(probes.shape[1]):
        found |= (codes == probes[owners, probe]).all(axis=1)
    return found
