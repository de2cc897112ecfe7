"""DCH of all pairs: a class lies within a few bits, and each instance keeps away from all others of its batch."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import dch_all_pairs_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class DCHAllPairsTrainer(Trainer):
    """Minimise the DCH loss of all pairs of a batch. Source: Cao et al., CVPR 2018.

    It is the loss of `DCHTrainer`, estimated from a thousand times as many dissimilar pairs, among which are the rare
    near ones that collide. Memory and time grow with the square of a micro-batch, and are small for a thousand
    instances.

    Parameters
    ----------
    gamma : float
        Distance at which a pair is as likely similar as not, in bits: see `equihash.losses.dch_loss`.
    quantization_coeff : float
        Weight of the Cauchy quantization loss.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"gamma": (0, None), "quantization_coeff": (0, None)}

    def __init__(
        self, network: Network, loader: Dataset, gamma: float = 60.0, quantization_coeff: float = 0.1, **kwargs
    ):
        super().__init__(network, loader, **kwargs)
        self.gamma, self.quantization_coeff = gamma, quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        return dch_all_pairs_loss(logits, self.gamma, self.quantization_coeff)
