"""DCH: Cao, Long, Liu and Wang, "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

MINIMUM_DISTANCE = 1e-6  # where a dissimilar pair coincides, its cost and slope would be infinite


def dch_loss(pair_logits: Tensor, similar: Tensor, gamma: float, quantization_coeff: float) -> Tensor:
    """Cost of similar pairs that a lookup within a radius would miss, of dissimilar ones in it, and of soft bits.

    With d(g, h) = k/2 (1 - cos(g, h)) for the codes h = tanh(z), the Hamming distance once they are signs, and
    P(similar | d) = gamma / (gamma + d), the Cauchy cross-entropy of a pair is log(1 + d / gamma) if it is similar,
    log(1 + gamma / d) if not, averaged over pairs. The Cauchy quantization loss of an instance is
    log(1 + d(|h|, 1) / gamma), averaged over instances. The paper weighs pairs by how rare their kind is: here
    both kinds should be equally frequent.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k)
        Without the tanh, a few large logits could make a cosine that says little of the other bits.
    similar : bool tensor (n,)
        Whether the two instances are of one class.
    gamma : float
        Distance at which a pair is as likely similar as not, in bits.
    quantization_coeff : float
        The paper's lambda.

    Returns
    -------
    scalar tensor, in nats
    """
    directions = normalize(pair_logits.tanh(), dim=-1)
    k = directions.shape[-1]
    distances = k / 4 * (directions[:, 0] - directions[:, 1]).square().sum(dim=-1)
    softness = k / 4 * (directions.abs() - k**-0.5).square().sum(dim=-1)
    apart = (gamma / distances.clamp(min=MINIMUM_DISTANCE)).log1p()
    cross_entropy = torch.where(similar, (distances / gamma).log1p(), apart)
    return cross_entropy.mean() + quantization_coeff * (softness / gamma).log1p().mean()
