"""Codes to look up beside a query's own: the most probable ones, or all within a Hamming radius."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from equihash.search import _index
from equihash.search.inverted_index import as_codes


def probe_codes(logits: ArrayLike, nb_probes: int) -> np.ndarray:
    """Return the `nb_probes` most probable codes of each query, the most probable first.

    The first code is the sign code (bit = z > 0). The others flip some of its bits, in increasing order of the sum of
    |z| over the flipped bits, which is decreasing order of probability when the bits are independent with
    P(bit = 1) = sigmoid(z). Sets of flips with the same sum come in the order in which the search makes them: bits of
    equal |z| count as ordered by position, and from a set whose last bit is b, the set that replaces b by b + 1 is made
    before the set that adds b + 1.

    Parameters
    ----------
    logits : float (Q, k)
        Rounded to float32.
    nb_probes
        From 1 to 2^k.

    Returns
    -------
    uint8 (Q, nb_probes, ceil(k / 8))
        Bits packed most significant first, like numpy.packbits.

    Raises
    ------
    ValueError
        `logits` is not a matrix or holds a NaN, or `nb_probes` is out of range.

    Examples
    --------
    The second bit is the least certain, then the third:

    >>> codes = probe_codes(np.array([[3.0, -0.1, 2.0]]), nb_probes=4)
    >>> np.unpackbits(codes, axis=2)[0, :, :3]
    array([[1, 0, 1],
           [1, 1, 1],
           [1, 0, 0],
           [1, 1, 0]], dtype=uint8)

    References
    ----------
    Q. Lv, W. Josephson, Z. Wang, M. Charikar and K. Li, "Multi-Probe LSH: Efficient Indexing for High-Dimensional
    Similarity Search", VLDB 2007.
    """
    if hasattr(logits, "detach"):  # a tensor; PyTorch is not needed otherwise
        logits = logits.detach().cpu().float().numpy()
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits have shape {logits.shape}, and must have the shape (queries, bits)")
    if not 1 <= nb_probes <= 2 ** logits.shape[1]:
        raise ValueError(f"nb_probes is {nb_probes}: codes of {logits.shape[1]} bits allow 1 to 2^{logits.shape[1]}")
    if np.isnan(logits).any():
        raise ValueError("some logits are NaN")
    return _index.probe(logits, nb_probes)


def neighbour_codes(codes: ArrayLike, radius: int) -> np.ndarray:
    """Return all codes within a Hamming distance of each code, the nearest first.

    Codes at the same distance come in lexicographic order of the positions of the bits that differ: the bits 0 and 1,
    then 0 and 2, and so on. There are M = C(k, 0) + ... + C(k, radius) of k = 8 nbytes bits: for 64 bits 65 within
    radius 1, 2,081 within 2, and 43,745 within 3.

    Parameters
    ----------
    codes : uint8 (Q, nbytes)
    radius
        From 0 to 8 nbytes.

    Returns
    -------
    uint8 (Q, M, nbytes)
        Row i begins with codes[i].

    Raises
    ------
    ValueError
        `codes` is not a matrix of uint8, or `radius` is out of range.

    Examples
    --------
    The code itself, then its first bit flipped, its second, its third:

    >>> codes = neighbour_codes(np.array([[0, 255]], dtype=np.uint8), radius=1)
    >>> codes.shape
    (1, 17, 2)
    >>> codes[0, :4].tolist()
    [[0, 255], [128, 255], [64, 255], [32, 255]]

    References
    ----------
    M. Norouzi, A. Punjani and D. J. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012: how many
    lookups a Hamming radius takes.
    """
    codes = as_codes(codes)
    nb_bits = 8 * codes.shape[1]
    if not 0 <= radius <= nb_bits:
        raise ValueError(f"radius is {radius}: codes of {nb_bits} bits allow 0 to {nb_bits}")
    flips = np.concatenate([_flips(nb_bits, distance) for distance in range(radius + 1)])
    # one long row of bytes a query: numpy is slow with many short ones
    return (np.tile(codes, len(flips)) ^ flips.ravel()).reshape(len(codes), *flips.shape)


def _flips(nb_bits, distance):
    """All choices of `distance` of `nb_bits` bits as packed bits, uint8 (C(nb_bits, distance), nb_bits / 8)."""
    bits = np.zeros((comb(nb_bits, distance), nb_bits), dtype=np.uint8)
    positions = np.array(list(combinations(range(nb_bits), distance)), dtype=np.intp).reshape(len(bits), distance)
    np.put_along_axis(bits, positions, 1, axis=1)
    return np.packbits(bits, axis=1)
