"""DCH: Cao, Long, Liu and Wang, "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# In bits: where a dissimilar pair coincides, its cost and slope would be infinite, and nearby they would be rounding.
MINIMUM_DISTANCE = 1e-3


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
    codes = _unit_codes(pair_logits)
    distances = _partner_distances(codes)
    cross_entropy = torch.where(similar, (distances / gamma).log1p(), _apart_cost(distances, gamma))
    return cross_entropy.mean() + quantization_coeff * _quantization_loss(codes, gamma)


def dch_all_pairs_loss(pair_logits: Tensor, gamma: float, quantization_coeff: float) -> Tensor:
    """`dch_loss` of all pairs of instances of a batch, as the paper has it: the partners, and the 2n (n - 1) others.

    Partners are similar, all others are not. The mean over the partners and the mean over the others count equally.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k), n >= 2
        Two instances of one class in each row, of another class than those of the other rows.
    gamma, quantization_coeff : float
        See `dch_loss`.

    Returns
    -------
    scalar tensor, in nats
    """
    codes = _unit_codes(pair_logits)
    n, _, k = codes.shape
    flat = codes.flatten(0, 1)
    costs = _apart_cost(k / 2 * (1 - flat @ flat.T), gamma).view(n, 2, n, 2)
    one_class = torch.eye(n, dtype=torch.bool, device=costs.device)[:, None, :, None]
    apart = costs.masked_fill(one_class, 0.0).sum() / (4 * n * (n - 1))
    near = (_partner_distances(codes) / gamma).log1p().mean()
    return (near + apart) / 2 + quantization_coeff * _quantization_loss(codes, gamma)


def _unit_codes(pair_logits):
    return normalize(pair_logits.tanh(), dim=-1)


def _partner_distances(codes):
    return codes.shape[-1] / 4 * (codes[:, 0] - codes[:, 1]).square().sum(dim=-1)


def _apart_cost(distances, gamma):
    return (gamma / distances.clamp(min=MINIMUM_DISTANCE)).log1p()


def _quantization_loss(codes, gamma):
    k = codes.shape[-1]
    softness = k / 4 * (codes.abs() - k**-0.5).square().sum(dim=-1)
    return (softness / gamma).log1p().mean()
