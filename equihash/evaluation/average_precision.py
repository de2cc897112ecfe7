"""Average precision of rankings by Hamming distance, in which many items are tied."""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma


class AveragePrecision(NamedTuple):
    """Average precision of each query, float64 (Q,); NaN where nothing is relevant.

    Attributes
    ----------
    expected
        Mean over all orders of the items of equal distance.
    optimistic, pessimistic
        In the best of these orders, relevant items first, and in the worst, relevant items last.
    """

    expected: np.ndarray
    optimistic: np.ndarray
    pessimistic: np.ndarray


def average_precision(items: np.ndarray, relevant: np.ndarray) -> AveragePrecision:
    """Compute average precision from histograms of distances, nearest first.

    Let a distance have n items, r of them relevant, after N nearer items, R of them relevant. The i-th of the n is
    relevant in r/n of the orders, and on average (i-1) c of those before it are, c = (r-1)/(n-1), so that the precision
    at it is (R + 1 + (i-1) c) / (N + i). Summed over i, with S = 1/(N+1) + ... + 1/(N+n), the distance adds

        r/n * (c n + (R + 1 - c (N+1)) S) / (number of relevant items).

    Source: McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of
    Tied Scores, ECIR 2008.

    Parameters
    ----------
    items, relevant : int64 (Q, distances)
        Number of items, and of relevant ones among them, at each distance from each query.
    """
    before, relevant_before = (np.cumsum(counts, axis=1) - counts for counts in (items, relevant))
    some = np.nonzero(relevant)
    n, r, N, R = (counts[some].astype(np.float64) for counts in (items, relevant, before, relevant_before))
    c = (r - 1) / np.maximum(n - 1, 1)
    last = N + n - r  # items before the relevant ones if these come last
    sums = (
        r / n * (c * n + (R + 1 - c * (N + 1)) * _reciprocals(N, n)),
        r + (R - N) * _reciprocals(N, r),
        r + (R - last) * _reciprocals(last, r),
    )
    with np.errstate(invalid="ignore"):  # 0/0
        return AveragePrecision(*(np.bincount(some[0], each, len(items)) / relevant.sum(axis=1) for each in sums))


def _reciprocals(start, count):
    """1/(start+1) + ... + 1/(start+count), to full precision: the difference of two harmonic numbers.

    That of their values, which are almost equal after a million items, would lose its digits, and is then multiplied by
    a million. There it is the logarithm plus what the Euler-Maclaurin formula adds, to an error of start^-4 / 137.
    """
    low, high = start + 0.5, start + count + 0.5
    far = np.log1p(count / low) - (low**-2 - high**-2) / 24
    return np.where(start < 1000, digamma(start + count + 1) - digamma(start + 1), far)
