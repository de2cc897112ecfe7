"""Multi-probe look-ups: the codes that a query most probably has, from the logits of its bits."""

import numpy as np
from numpy.typing import ArrayLike

from equihash.search import _index


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
