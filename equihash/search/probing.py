"""Multi-probe look-ups: the codes that a query most probably has, from the logits of its bits."""

import numpy as np

from equihash.search import _index


def probe_codes(logits, nb_probes):
    """Return the `nb_probes` most probable codes of each query, the most probable first.

    The first code is the sign code (bit = z > 0). The others flip some of its bits, in increasing order of the sum of
    |z| over the flipped bits, which is decreasing order of probability when the bits are independent with
    P(bit = 1) = sigmoid(z). Sets of flips with the same sum come in the order in which the search makes them: bits of
    equal |z| count as ordered by position, and from a set whose last bit is b, the one where b is replaced by b + 1 is
    made before the one where b + 1 is added.

    Parameters
    ----------
    logits : float (Q, k), numpy array or torch tensor
        Taken as float32.
    nb_probes : int
        From 1 to 2^k.

    Returns
    -------
    uint8 (Q, nb_probes, ceil(k / 8))
        Bits packed most significant first, like numpy.packbits.

    Raises
    ------
    ValueError
        `logits` is not a matrix or holds a NaN, or `nb_probes` is out of range.

    References
    ----------
    Q. Lv, W. Josephson, Z. Wang, M. Charikar and K. Li, "Multi-Probe LSH: Efficient Indexing for High-Dimensional
    Similarity Search", VLDB 2007.
    """
    if hasattr(logits, "detach"):
        logits = logits.detach().cpu().float().numpy()
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits have shape {logits.shape}, and must have the shape (queries, bits)")
    if not 1 <= nb_probes <= 2 ** logits.shape[1]:
        raise ValueError(f"nb_probes is {nb_probes}: codes of {logits.shape[1]} bits allow 1 to 2^{logits.shape[1]}")
    if np.isnan(logits).any():
        raise ValueError("some logits are NaN")
    return _index.probe(logits, nb_probes)
