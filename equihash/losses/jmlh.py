"""JMLH: Shen et al., "Embarrassingly Simple Binary Representation Learning", ICCV Workshops 2019."""

import math

from torch.nn.functional import cross_entropy, logsigmoid


def straight_through_bits(logits, noise, binarization="heaviside"):
    """Binarize with probability sigma(z), and pass the gradient as if the bits were their probabilities.

    Parameters
    ----------
    logits : float tensor (n, k)
    noise : float tensor broadcast to (n, k), or float
        A bit is 1 where sigma(z) > noise: U(0, 1) draws sample the bits, 0.5 rounds them.
    binarization : "heaviside" or "sign"
        Bits 0/1, or -1/+1.

    Returns
    -------
    float tensor (n, k)
    """
    probabilities = logits.sigmoid()
    bits = (probabilities > noise).to(logits.dtype)
    bits = probabilities + (bits - probabilities).detach()
    if binarization == "heaviside":
        return bits
    if binarization == "sign":
        return 2 * bits - 1
    raise ValueError(f'binarization is "heaviside" or "sign", not {binarization!r}')


def bernoulli_kld(logits):
    """KL(Bernoulli(sigma(z)) || Bernoulli(1/2)), in nats, summed over bits (last axis), averaged over instances."""
    ones = logits.sigmoid() * logsigmoid(logits)
    zeros = (-logits).sigmoid() * logsigmoid(-logits)
    return (ones + zeros + math.log(2)).sum(dim=-1).mean()


def jmlh_loss(logits, labels, noise, classifier, kld_coeff, binarization="heaviside"):
    """Cross-entropy of a linear classifier of the sampled bits, and the bits' divergence from fair coins.

    Parameters
    ----------
    logits : float tensor (n, k)
    labels : int64 tensor (n,)
        Class numbers.
    noise, binarization
        See `straight_through_bits`.
    classifier : torch.nn.Linear
        From k bits to class scores; trained along with the network. It may compute under autocast: bits are exact in
        bfloat16.
    kld_coeff : float
        Weight of `bernoulli_kld`.

    Returns
    -------
    scalar tensor, in nats
    """
    bits = straight_through_bits(logits, noise, binarization)
    return cross_entropy(classifier(bits).float(), labels) + kld_coeff * bernoulli_kld(logits)
