"""Counting what the queries of an indexed database retrieve.

No set of retrieved items is ever made: an item is retrieved if its code is among the query's probes, so the
number retrieved is a count of the index, and the relevant ones are found by looking at the codes of the ground
truth. Both are cheap however many items share a code.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from equihash.evaluation.counts import Counts, Retrieved
from equihash.evaluation.prefixes import prefix_sizes, prefix_truth
from equihash.search import InvertedIndex, probe_codes

PROBE_BLOCK = 1 << 18  # queries x probes handled at once


def count(database, index, nb_lookups):
    """Count, in an index or in one shard of it, everything that scores are made of.

    Parameters
    ----------
    database : EncodedDatabase
    index : InvertedIndex
    nb_lookups : sequence of int
        Lookups a query: 1 for the fingerprint itself, more for multi-probing (Lv et al., VLDB 2007).

    Returns
    -------
    Counts
    """
    queries, size = {}, len(database.codes)
    with ThreadPoolExecutor(1) as pool:
        verification = pool.submit(index.verify)
        for number in nb_lookups:
            positive = count_of_queries(database, index, "positive", number)
            negative_retrieved, _ = count_of_queries(database, index, "negative", number)
            queries[size, number] = Retrieved(*positive, negative_retrieved)
        collisions = index.internal_collisions(database.labels.class_numbers)
        largest = largest_bucket(index, database.codes)
        for prefix in prefix_sizes(size) if queries else ():
            queries |= count_in_prefix(database, index, prefix, nb_lookups)
        verification.result()
    return Counts(collisions, largest, queries)


def count_in_prefix(database, index, size, nb_lookups):
    """Count what the positive queries retrieve of a prefix of a database: a part of the `queries` of a `Counts`.

    The codes of the prefix are indexed again, which takes a moment; of an index that is a shard, one shard of them.
    """
    codes = database.codes[:size]
    part = InvertedIndex.build(codes, index.shard, index.nb_shards)
    truth = prefix_truth(database.ground_truth("positive"), size)
    query_codes = database.query_codes("positive")
    logits = database.query_logits("positive") if max(nb_lookups) > 1 else None
    return {
        (size, number): Retrieved(*count_retrieved(part, codes, truth, query_codes, logits, number))
        for number in nb_lookups
    }


def count_of_queries(database, index, sign, nb_lookups):
    """`count_retrieved` for the "positive" or "negative" queries of an `EncodedDatabase`."""
    logits = database.query_logits(sign) if nb_lookups > 1 else None
    truth, codes = database.ground_truth(sign), database.query_codes(sign)
    return count_retrieved(index, database.codes, truth, codes, logits, nb_lookups)


def count_retrieved(index, database_codes, ground_truth, codes, logits, nb_lookups):
    """Count what each query retrieves.

    Parameters
    ----------
    index : InvertedIndex
        If it is a shard, what is retrieved of it is counted.
    database_codes : uint8 (N, nbytes)
    ground_truth : (offsets int64 (Q+1), ids int64)
        The relevant items of each query.
    codes : uint8 (Q, nbytes)
        Fingerprints of the queries.
    logits : float32 (Q, k) or None
        Needed for more than one lookup.
    nb_lookups : int

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


def largest_bucket(index, database_codes, sample_size=1000):
    """How many items share the commonest fingerprint, among those of evenly spaced items."""
    rows = np.unique(np.linspace(0, max(len(database_codes) - 1, 0), sample_size).astype(np.int64))
    return int(index.count(np.ascontiguousarray(database_codes[rows])).max()) if len(database_codes) else 0


def _contained(codes, probes, owners):
    """Whether codes[e], uint8 (E, nbytes), is among probes[owners[e]], (Q, L, nbytes): bool (E,)."""
    found = np.zeros(len(codes), dtype=bool)
    for probe in range(probes.shape[1]):
        found |= (codes == probes[owners, probe]).all(axis=1)
    return found
