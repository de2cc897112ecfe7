"""OrthoHash: Hoe et al., "One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective",
NeurIPS 2021."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def orthohash_loss(logits: Tensor, classes: Tensor, centres: Tensor, scale: float, margin: float) -> Tensor:
    """Cross-entropy of the cosines between an instance's logits and the hash centres of all classes.

    The score of class c is scale * (cos(z, o_c) - margin [c is the instance's class]), o_c its centre. Averaged over
    instances.

    Parameters
    ----------
    logits : float tensor (n, k)
    classes : int64 tensor (n,)
        Class numbers.
    centres : float tensor (nb_classes, k), of -1 and +1
        See `hash_centres`.
    scale, margin : float
        The paper's s and m.

    Returns
    -------
    scalar tensor, in nats
    """
    cosines = normalize(logits, dim=1) @ centres.T / centres.shape[1] ** 0.5
    of_class = classes[:, None] == torch.arange(len(centres), device=classes.device)
    return cross_entropy(scale * torch.where(of_class, cosines - margin, cosines), classes)
