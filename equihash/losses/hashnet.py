"""HashNet: Cao et al., "HashNet: Deep Learning to Hash by Continuation", ICCV 2017."""

import torch
from torch.nn.functional import softplus


def hashnet_loss(pair_logits: torch.Tensor, similar: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """Cost of pairs whose fingerprints' inner product disagrees with their similarity: a scalar, in nats.

    With d = sum_b tanh(beta z1) tanh(beta z2), a pair costs -log P(s | d), where P(similar | d) = sigma(alpha d):
    softplus(alpha d) - s alpha d. Averaged over pairs.

    Parameters
    ----------
    pair_logits : float (n, 2, k)
    similar : bool (n,)
        Whether the two instances are of one class.
    alpha
        Scale of the inner product.
    beta
        Sharpness of the bits; see `beta_schedule`.
    """
    scores = alpha * (beta * pair_logits).tanh().prod(dim=1).sum(dim=1)
    return (softplus(scores) - similar * scores).mean()


def beta_schedule(
    step: int, init: float = 1.0, gamma: float = 0.0005, power: float = 0.5, step_size: int = 200
) -> float:
    """Return beta at a step: init * (1 + gamma * floor(step / step_size) * step_size) ** power."""
    return init * (1 + gamma * (step // step_size * step_size)) ** power
