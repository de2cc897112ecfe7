"""SSCD: an instance is nearer to its partner than to all others, and all are spread on the sphere."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import sscd_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class SSCDTrainer(Trainer):
    """Minimise the SSCD loss of pairs of one class. Source: Pizzi et al., CVPR 2022.

    The loss is joint over all micro-batches of a step: InfoNCE learns from many negatives, and the nearest neighbours
    of KoLeo are near only among many. Its memory and time grow with the square of the instances of a step.

    Parameters
    ----------
    temperature : float
        Of InfoNCE: see `equihash.losses.sscd_loss`.
    koleo_coeff : float
        Weight of the entropy.
    kwargs
        See `Trainer`.
    """

    joint_loss = True
    BOUNDS = {"koleo_coeff": (0, None)}

    def __init__(
        self, network: Network, loader: Dataset, temperature: float = 0.05, koleo_coeff: float = 30.0, **kwargs
    ):
        super().__init__(network, loader, **kwargs)
        self.temperature, self.koleo_coeff = temperature, koleo_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        return sscd_loss(logits.flatten(0, 1), self.temperature, self.koleo_coeff)
