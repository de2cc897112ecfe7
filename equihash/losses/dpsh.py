"""DPSH: Li, Wang and Kang, "Feature Learning based Deep Supervised Hashing with Pairwise Labels", IJCAI 2016."""

from torch import Tensor
from torch.nn.functional import softplus


def dpsh_loss(pair_logits: Tensor, similar: Tensor, quantization_coeff: float) -> Tensor:
    """Cost of pairs whose inner product disagrees with their similarity, and of logits far from their signs.

    With s = <z1, z2> / 2, a pair costs -log P(y | s), where P(similar | s) = sigma(s): softplus(s) - y s, averaged
    over pairs. An instance costs quantization_coeff * |z - sign(z)|^2, summed over bits, averaged over instances.
    The paper's objective has sums over all pairs of a training set instead of the first mean, and its eta for the
    coefficient.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k)
        As they are: the paper has no tanh.
    similar : bool tensor (n,)
        Whether the two instances are of one class.
    quantization_coeff : float

    Returns
    -------
    scalar tensor, in nats
    """
    scores = pair_logits.prod(dim=1).sum(dim=1) / 2
    quantization = (pair_logits.abs() - 1).square().sum(dim=-1)
    return (softplus(scores) - similar * scores).mean() + quantization_coeff * quantization.mean()
