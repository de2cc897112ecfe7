"""OrthoHash: the logits of a class turn to its hash centre, which is given."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import hash_centres, orthohash_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class OrthoHashTrainer(Trainer):
    """Minimise the OrthoHash loss on a fixed set of classes. Source: Hoe et al., NeurIPS 2021.

    Nothing in the loss makes a bit as often 1 as 0: in the paper, batch norm of the logits does. Leave the network's
    `batch_norm` true.

    Parameters
    ----------
    nb_classes : int
        Classes that have a centre, an `equihash.losses.hash_centres`; see `Dataset.fixed_classes`.
    scale, margin : float
        Of the cosines: see `equihash.losses.orthohash_loss`.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"nb_classes": (1, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        nb_classes: int = 10_000,
        scale: float = 8.0,
        margin: float = 0.2,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.labels = loader.fixed_classes(nb_classes)
        self.centres = hash_centres(nb_classes, network.k).to(loader.device)
        self.scale, self.margin = scale, margin

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
        return self.loader.class_labels(self.labels)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return orthohash_loss(logits, target, self.centres, self.scale, self.margin)
