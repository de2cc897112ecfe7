"""HashNet: Cao et al., "HashNet: Deep Learning to Hash by Continuation", ICCV 2017."""

from torch.nn.functional import softplus


def hashnet_loss(pair_logits, similar, alpha, beta):
    """Cost of pairs whose fingerprints' inner product disagrees with their similarity.

    With d = sum_b tanh(beta z1) tanh(beta z2), a pair costs -log P(s | d), where P(similar | d) = sigma(alpha d):
    softplus(alpha d) - s alpha d. Averaged over pairs.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k)
    similar : bool tensor (n,)
        Whether the two instances are of one class.
    alpha : float
        Scale of the inner product.
    beta : float
        Sharpness of the bits; see `beta_schedule`.

    Returns
    -------
    scalar tensor, in nats
    """
    scores = alpha * (beta * pair_logits).tanh().prod(dim=1).sum(dim=1)
    return (softplus(scores) - similar * scores).mean()


def beta_schedule(step, init=1.0, gamma=0.0005, power=0.5, step_size=200):
    """Return beta at a step: init * (1 + gamma * floor(step / step_size) * step_size) ** power."""
    return init * (1 + gamma * (step // step_size * step_size)) ** power
