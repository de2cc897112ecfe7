"""CSQ: Yuan et al., "Central Similarity Quantization for Efficient Image and Video Retrieval", CVPR 2020."""

from torch import Tensor
from torch.nn.functional import softplus


def csq_loss(logits: Tensor, centres: Tensor, quantization_coeff: float) -> Tensor:
    """Binary cross-entropy of each bit with that of the class's hash centre, and cost of uncertain bits.

    With h = sigma(z) and the centre's bits c of -1 and +1, the central similarity loss is -log P(c) = softplus(-c z),
    and the quantization loss log cosh(|2h - 1| - 1), both averaged over bits and instances. (The paper writes the
    second as a sum over bits: its lambda is quantization_coeff / k.)

    Parameters
    ----------
    logits : float tensor (n, k)
    centres : float tensor (n, k), of -1 and +1
        Those of the instances' classes; see `hash_centres`.
    quantization_coeff : float

    Returns
    -------
    scalar tensor, in nats
    """
    quantization = ((logits / 2).tanh().abs() - 1).cosh().log()  # 2 sigma(z) - 1 = tanh(z / 2)
    return softplus(-centres * logits).mean() + quantization_coeff * quantization.mean()
