"""DPSH: the inner product of two instances' logits says whether they are of one class."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import dpsh_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class DPSHTrainer(Trainer):
    """Minimise the DPSH loss of pairs, half of them of one class. Source: Li et al., IJCAI 2016.

    Parameters
    ----------
    quantization_coeff : float
        Weight of the distance of logits from their signs: see `equihash.losses.dpsh_loss`.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"quantization_coeff": (0, None)}

    def __init__(self, network: Network, loader: Dataset, quantization_coeff: float = 0.1, **kwargs):
        super().__init__(network, loader, **kwargs)
        self.quantization_coeff = quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
        return self.loader.mixed_pairs_labels()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return dpsh_loss(logits, target, self.quantization_coeff)
