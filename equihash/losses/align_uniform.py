"""Alignment and uniformity: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
Uniformity on the Hypersphere", ICML 2020, for bits.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def align_uniform_loss(
    pair_logits: Tensor, uniformity_t: float, uniformity_coeff: float, quantization_coeff: float
) -> Tensor:
    """Cost of the distance within a class, of the chance to collide with another, and of soft bits.

    With the unit codes u = tanh(z) / |tanh(z)|, whose squared distance is 4 / k times the Hamming distance once they
    are signs:

        alignment = mean of |u_i - u_p(i)|^2 over instances i and their partners p(i),
        uniformity = log of the mean of exp(-t |u_i - u_j|^2) over all i and j of different classes,
        quantization = mean of | |u_i| - 1 / sqrt(k) |^2,

    and the cost is alignment + uniformity_coeff * uniformity + quantization_coeff * quantization. The paper has no
    tanh and no quantization, and its pairs of the uniformity may be of one class.

    Why it suits multi-probing: a code at Hamming distance d is looked up with a probability that falls exponentially
    with d, and so does a pair's share in the uniformity, by exp(-4 t / k) a bit. The uniformity stands for the
    logarithm of the rate of collisions.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k), n >= 2
        Two instances of one class in each row, of another class than those of the other rows.
    uniformity_t : float
        The paper's t.
    uniformity_coeff, quantization_coeff : float

    Returns
    -------
    scalar tensor
    """
    codes = normalize(pair_logits.tanh(), dim=-1)
    n, _, k = codes.shape
    alignment = (codes[:, 0] - codes[:, 1]).square().sum(dim=-1).mean()
    flat = codes.flatten(0, 1)
    exponents = 2 * uniformity_t * (flat @ flat.T - 1)
    classes = torch.arange(2 * n, device=codes.device) // 2
    one_class = classes[:, None] == classes
    uniformity = exponents.masked_fill(one_class, -torch.inf).flatten().logsumexp(0) - math.log(4 * n * (n - 1))
    quantization = (codes.abs() - k**-0.5).square().sum(dim=-1).mean()
    return alignment + uniformity_coeff * uniformity + quantization_coeff * quantization
