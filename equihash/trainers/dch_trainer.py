"""DCH: similar pairs come to lie within a small Hamming distance, for lookups within a radius."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import dch_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class DCHTrainer(Trainer):
    """Minimise the DCH loss of pairs, half of them of one class. Source: Cao et al., CVPR 2018.

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
        self, network: Network, loader: Dataset, gamma: float = 20.0, quantization_coeff: float = 0.1, **kwargs
    ):
        super().__init__(network, loader, **kwargs)
        self.gamma, self.quantization_coeff = gamma, quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
        return self.loader.mixed_pairs_labels()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return dch_loss(logits, target, self.gamma, self.quantization_coeff)
