"""What is asked of each bit alone: equal within a positive pair (Hamming), and a logit of moderate size (Huber)."""

import torch
from torch.nn.functional import logsigmoid


def hamming_loss(pair_logits: torch.Tensor) -> torch.Tensor:
    """Cost of the bits that differ between two instances of one class: logits (n, 2, k) to a scalar, in nats.

    The mean over pairs of -sum_b log(p1 p2 + q1 q2), where p = sigma(z) is the probability that bit b of an instance
    is 1 and q = sigma(-z) that it is 0 (M. Duchesneau, "Learning Deep Equihash Functions", thesis, Universite de
    Montreal). It is computed from the logarithms, so that saturated logits keep their gradient.

    Examples
    --------
    A bit costs log 2 where nothing is known of it, and next to nothing where both instances agree on it:

    >>> hamming_loss(torch.tensor([[[0.0], [0.0]]]))
    tensor(0.6931)
    >>> hamming_loss(torch.tensor([[[9.0, -9.0], [9.0, -9.0]]]))
    tensor(0.0005)
    """
    ones = logsigmoid(pair_logits).sum(dim=1)
    zeros = logsigmoid(-pair_logits).sum(dim=1)
    return -torch.logaddexp(ones, zeros).sum(dim=1).mean()


def huber_loss(logits: torch.Tensor, maximum_slope: float, branching_point: float) -> torch.Tensor:
    """Cost of large logits (..., k), which keeps bits from saturating: a scalar.

    With slope m and branching point b > 0, a logit costs m z^2 / (2b) up to |z| = b, where the slope reaches m, and
    m (|z| - b/2) beyond. Summed over bits, averaged over instances.
    """
    sizes = logits.abs()
    quadratic = sizes.clamp(max=branching_point)
    costs = maximum_slope * (quadratic**2 / (2 * branching_point) + sizes - quadratic)
    return costs.sum(dim=-1).mean()
