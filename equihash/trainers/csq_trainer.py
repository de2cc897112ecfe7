"""CSQ: the bits of a class become those of its hash centre, which is given."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import csq_loss, hash_centres
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class CSQTrainer(Trainer):
    """Minimise the CSQ loss on a fixed set of classes. Source: Yuan et al., CVPR 2020.

    Parameters
    ----------
    nb_classes : int
        Classes that have a centre, an `equihash.losses.hash_centres`; see `Dataset.fixed_classes`.
    quantization_coeff : float
        Weight of the quantization loss: see `equihash.losses.csq_loss`.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"nb_classes": (1, None), "quantization_coeff": (0, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        nb_classes: int = 10_000,
        quantization_coeff: float = 0.0001,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.labels = loader.fixed_classes(nb_classes)
        self.centres = hash_centres(nb_classes, network.k).to(loader.device)
        self.quantization_coeff = quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
        return self.loader.class_labels(self.labels)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return csq_loss(logits, self.centres[target], self.quantization_coeff)
