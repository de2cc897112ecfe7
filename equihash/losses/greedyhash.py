"""GreedyHash: Su et al., "Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN", NeurIPS 2018."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy


def straight_through_signs(logits: Tensor) -> Tensor:
    """Return the fingerprint's bits as -1 and +1 (a logit of 0: -1), whose gradient the logits get unchanged."""
    signs = 2 * (logits > 0).to(logits.dtype) - 1
    return signs + (logits - logits.detach())  # in this order the signs are exact


def greedyhash_loss(
    logits: Tensor, classes: Tensor, classifier: Callable[[Tensor], Tensor], quantization_coeff: float
) -> Tensor:
    """Cross-entropy of a classifier of the bits, and cost of logits far from their signs.

    The cross-entropy, averaged over instances, sees b = sign(z), and its gradient with respect to b is passed to z.
    The second term is quantization_coeff * |z - sign(z)|^3, averaged over bits and instances; the coefficient is the
    paper's alpha, and 3 its p.

    Parameters
    ----------
    logits : float tensor (n, k)
    classes : int64 tensor (n,)
        Class numbers.
    classifier : callable
        From bits, float tensor (n, k), to class scores (n, nb_classes); trained along with the network. It may compute
        under autocast: bits are exact in bfloat16.
    quantization_coeff : float

    Returns
    -------
    scalar tensor, in nats
    """
    scores = classifier(straight_through_signs(logits)).to(logits.dtype)
    return cross_entropy(scores, classes) + quantization_coeff * (logits.abs() - 1).abs().pow(3).mean()
