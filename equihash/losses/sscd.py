"""SSCD: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", CVPR 2022."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

SMALLEST = 1e-12  # squared distance: keeps the logarithm finite where two outputs coincide


def sscd_loss(pair_logits: Tensor, temperature: float, koleo_coeff: float) -> Tensor:
    """InfoNCE of positive pairs, and minus the differential entropy of all outputs.

    With u = z / |z| for all 2n instances, p(i) the partner of instance i, and t the temperature:

        InfoNCE = -mean_i log(exp(<u_i, u_p(i)> / t) / sum_{j != i} exp(<u_i, u_j> / t)),
        KoLeo = -mean_i log(min_{j != i, p(i)} |u_i - u_j|),

    where KoLeo is the Kozachenko-Leonenko estimate of minus the entropy, up to constants (Sablayrolles et al., ICLR
    2019). The cost is InfoNCE + koleo_coeff * KoLeo.

    Parameters
    ----------
    pair_logits : float tensor (n, 2, k), n >= 2
        Two instances of one class in each row, of another class than those of the other rows.
    temperature, koleo_coeff : float

    Returns
    -------
    scalar tensor, in nats
    """
    n = len(pair_logits)
    outputs = normalize(pair_logits.transpose(0, 1).flatten(0, 1), dim=-1)  # the partners are n rows apart
    similarities = outputs @ outputs.T
    itself = torch.eye(2 * n, dtype=torch.bool, device=outputs.device)
    partners = torch.arange(2 * n, device=outputs.device).roll(n)
    info_nce = cross_entropy((similarities / temperature).masked_fill(itself, -torch.inf), partners)
    same_class = itself[:n, :n].repeat(2, 2)
    nearest = similarities.detach().masked_fill(same_class, -torch.inf).argmax(dim=1)
    distances = (outputs - outputs[nearest]).square().sum(dim=1)
    koleo = -0.5 * (distances + SMALLEST).log().mean()
    return info_nce + koleo_coeff * koleo
