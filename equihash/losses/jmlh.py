"""JMLH: Shen et al., "Embarrassingly Simple Binary Representation Learning", ICCV Workshops 2019."""

import math

import torch
from torch.nn.functional import cross_entropy, logsigmoid


def straight_through_bits(
    logits: torch.Tensor, noise: torch.Tensor | float, binarization: str = "heaviside"
) -> torch.Tensor:
    """Binarize logits (n, k) with probability sigma(z), and pass the gradient as if the bits were their probabilities.

    Parameters
    ----------
    logits : float (n, k)
    noise : float, broadcast to (n, k)
        A bit is 1 where sigma(z) > noise: draws from U(0, 1) sample the bits, 0.5 rounds them.
    binarization : "heaviside" or "sign"
        Bits 0/1, or -1/+1.
    """
    probabilities = logits.sigmoid()
    bits = (probabilities > noise).to(logits.dtype)
    bits = probabilities + (bits - probabilities).detach()
    if binarization == "heaviside":
        return bits
    if binarization == "sign":
        return 2 * bits - 1
    raise ValueError(f'binarization is "heaviside" or "sign", not {binarization!r}')


def bernoulli_kld(logits: torch.Tensor) -> torch.Tensor:
    """KL(Bernoulli(sigma(z)) || Bernoulli(1/2)), in nats, summed over bits (last axis), averaged over instances."""
    ones = logits.sigmoid() * logsigmoid(logits)
    zeros = (-logits).sigmoid() * logsigmoid(-logits)
    return (ones + zeros + math.log(2)).sum(dim=-1).mean()


def jmlh_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    noise: torch.Tensor | float,
    classifier: torch.nn.Linear,
    kld_coeff: float,
    binarization: str = "heaviside",
) -> torch.Tensor:
    """Cross-entropy of a linear classifier of sampled bits, and their divergence from fair coins: a scalar, in nats.

    Parameters
    ----------
    logits : float (n, k)
    labels : int64 (n,)
        Class numbers.
    noise, binarization
        See `straight_through_bits`.
    classifier
        From k bits to class scores; trained along with the network. It may compute under autocast: bits are exact in
        bfloat16.
    kld_coeff
        Weight of `bernoulli_kld`.
    """
    bits = straight_through_bits(logits, noise, binarization)
    return cross_entropy(classifier(bits).float(), labels) + kld_coeff * bernoulli_kld(logits)
