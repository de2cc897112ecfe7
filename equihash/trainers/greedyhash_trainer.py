"""GreedyHash: a linear classifier on the bits, whose gradient passes the sign unchanged."""

import numpy as np
import torch
from torch import Tensor, nn

from equihash.datasets import Dataset
from equihash.devices import autocast
from equihash.losses import greedyhash_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class GreedyHashTrainer(Trainer):
    """Minimise the GreedyHash loss on a fixed set of classes. Source: Su et al., NeurIPS 2018.

    Parameters
    ----------
    nb_classes : int
        Classes to tell apart: see `Dataset.fixed_classes`.
    quantization_coeff : float
        Weight of the distance of logits from their signs: see `equihash.losses.greedyhash_loss`.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"nb_classes": (1, None), "quantization_coeff": (0, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        nb_classes: int = 10_000,
        quantization_coeff: float = 0.1,
        **kwargs,
    ):
        self.labels = loader.fixed_classes(nb_classes)
        classifier = nn.Linear(network.k, nb_classes, bias=False)
        super().__init__(network, loader, modules={"classifier": classifier}, **kwargs)
        self.classifier = classifier
        self.quantization_coeff = quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
        return self.loader.class_labels(self.labels)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        with autocast(self.loader.device, self.precision):
            return greedyhash_loss(logits, target, self.classifier, self.quantization_coeff)
