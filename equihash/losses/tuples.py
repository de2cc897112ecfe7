"""The tuples of bits whose entropies the Shannon loss raises."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, islice
from math import comb

import numpy as np

TUPLES_SEED = 0xCAFE


def all_tuples(n: int, k: int) -> np.ndarray:
    """All k-subsets of range(n), in lexicographic order: int64 (C(n, k), k)."""
    return np.array(list(combinations(range(n), k)), dtype=np.int64).reshape(-1, k)


def covering_tuples(
    n: int, k: int, cover: int, random_state: np.random.RandomState, minimum_number: int = 0
) -> np.ndarray:
    """Random k-subsets of range(n) such that each `cover`-subset lies in at least one of them.

    For every `cover`-subset in lexicographic order, the first random completion that makes a new k-subset is added.
    Then random k-subsets are added until there are `minimum_number`.

    Parameters
    ----------
    n, k, cover
        cover < k <= n.
    random_state
        How far it is read is not specified.
    minimum_number
        More than C(n, k) stands for all tuples.

    Returns
    -------
    int64 array (T, k), T >= max(C(n, cover), minimum_number) where there are that many; sorted rows in sorted order
    """
    numbers = _random_integers(n, random_state)
    nb_completions = comb(n - cover, k - cover)
    nb_supersets = Counter()
    tuples = set()
    for subset in combinations(range(n), cover):
        while nb_supersets[subset] < nb_completions:
            candidate = tuple(sorted({*subset, *islice(numbers, k - cover)}))
            if len(candidate) == k and candidate not in tuples:
                tuples.add(candidate)
                nb_supersets.update(combinations(candidate, cover))
                break
    while len(tuples) < min(minimum_number, comb(n, k)):
        candidate = tuple(sorted({*islice(numbers, k)}))
        if len(candidate) == k:
            tuples.add(candidate)
    return np.array(sorted(tuples), dtype=np.int64)


def training_tuples(k: int, tuple_size: int, cover_size: int, minimum_number: int = 1) -> np.ndarray:
    """The tuples of k bits that a training run uses, always the same for the same arguments: int64 (T, tuple_size).

    Every subset of `cover_size` bits lies in some tuple; if it equals `tuple_size`, all tuples are used. For
    `minimum_number` see `covering_tuples`.
    """
    if cover_size == tuple_size:
        return all_tuples(k, tuple_size)
    return covering_tuples(k, tuple_size, cover_size, np.random.RandomState(TUPLES_SEED), minimum_number)


def _random_integers(n: int, random_state: np.random.RandomState, block: int = 1 << 14) -> Iterator[int]:
    """Endless stream of the numbers that successive calls of `random_state.randint(0, n, ...)` would give."""
    while True:
        yield from random_state.randint(0, n, block).tolist()
