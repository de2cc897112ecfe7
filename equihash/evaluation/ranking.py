"""Ranking all items of a database by their Hamming distance from some of its positive queries.

Every query is compared with every item, in blocks of a database that may be larger than memory. The rankings are never
made: their scores follow from the number of items at each distance.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.metrics import Rankings
from equihash.labels import take_csr
from equihash.progress import progress_bar

BLOCK = 1 << 17  # codes handled at once


def rank(database: EncodedDatabase, nb_queries: int) -> Rankings:
    """Count the items at each distance from `nb_queries` evenly spaced positive queries, or from all if they are fewer.

    Takes nb_queries x database_size comparisons.
    """
    queries = database.query_codes("positive")
    nb_queries = min(nb_queries, len(queries))
    rows = np.arange(nb_queries) * len(queries) // max(nb_queries, 1)
    queries, truth = queries[rows], take_csr(*database.ground_truth("positive"), rows)
    return Rankings(distance_histograms(database.codes, queries), relevant_histograms(database.codes, queries, truth))


def distance_histograms(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Count the items at each Hamming distance from each query.

    Parameters
    ----------
    codes : uint8 (N, nbytes)
        May be mapped: they are read once, block by block.
    queries : uint8 (Q, nbytes)

    Returns
    -------
    int64 (Q, 8 nbytes + 1)
        At [q, d] the number of codes at distance d from query q.
    """
    histograms = np.zeros((len(queries), 8 * queries.shape[1] + 1), dtype=np.int64)
    queries = _words(queries)

    def count(block, row):
        distances = np.bitwise_count(block ^ queries[:, row, None]).sum(axis=0, dtype=np.uint16)
        histograms[row] += np.bincount(distances, minlength=histograms.shape[1])

    # NumPy computes distances without the GIL, but counts them with it: more threads would wait for each other
    with ThreadPoolExecutor(2) as pool:
        for first in progress_bar(range(0, len(codes), BLOCK), desc="ranking", unit="block", leave=False):
            list(pool.map(partial(count, _words(codes[first : first + BLOCK])), range(len(histograms))))
    return histograms


def relevant_histograms(
    codes: np.ndarray, queries: np.ndarray, ground_truth: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Count the relevant items at each distance; see `distance_histograms`.

    `ground_truth` are the relevant items of each query: offsets int64 (Q+1), ids int64.
    """
    offsets, ids = ground_truth
    histograms = np.zeros((len(queries), 8 * queries.shape[1] + 1), dtype=np.int64)
    owners = np.repeat(np.arange(len(queries)), np.diff(offsets))
    for first in range(0, len(ids), BLOCK):
        some = slice(first, first + BLOCK)
        distances = np.bitwise_count(codes[ids[some]] ^ queries[owners[some]]).sum(axis=1, dtype=np.int64)
        np.add.at(histograms, (owners[some], distances), 1)
    return histograms


def _words(codes):
    """Codes, uint8 (n, nbytes), filled up with zeros to words of 8 bytes: uint64 (words, n)."""
    n, nbytes = codes.shape
    filled = np.zeros((n, -(-nbytes // 8) * 8), dtype=np.uint8)
    filled[:, :nbytes] = codes
    return np.ascontiguousarray(filled.view(np.uint64).T)
