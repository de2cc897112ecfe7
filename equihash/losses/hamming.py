"""What is asked of each bit alone: equal within a positive pair (Hamming), and a logit of moderate size (Huber)."""

import torch
from torch.nn.functional import logsigmoid


def hamming_loss(pair_logits):
    """Cost of the bits that differ between two instances of one class.

    The mean over pairs of -sum_b log(p1 p2 + q1 q2), where p = sigma(z) is the probability that bit b of an instance
    is 1 and q = sigma(-z) that it is 0 (M. Duchesneau, "Learning Deep Equihash Functions", thesis, Universite de
    Montreal). It is computed from the logarithms, so that saturated logits keep their gradient.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k)

    Returns
    -------
    scalar tensor, in nats
    """
    ones = logsigmoid(pair_logits).sum(dim=1)
    zeros = logsigmoid(-pair_logits).sum(dim=1)
    return -torch.logaddexp(ones, zeros).sum(dim=1).mean()


def huber_loss(logits, maximum_slope, branching_point):
    """Cost of large logits, which keeps bits from saturating.

    With slope m and branching point b, a logit costs m z^2 / (2b) up to |z| = b, where the slope reaches m, and
    m (|z| - b/2) beyond. Summed over bits, averaged over instances.

    Parameters
    ----------
    logits : float tensor (..., k)
    maximum_slope, branching_point : float
        The branching point is a logit, above 0.

    Returns
    -------
    scalar tensor
    """
    sizes = logits.abs()
    quadratic = sizes.clamp(max=branching_point)
    costs = maximum_slope * (quadratic**2 / (2 * branching_point) + sizes - quadratic)
    return costs.sum(dim=-1).mean()
