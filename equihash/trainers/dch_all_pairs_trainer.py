"""DCH of all pairs: a class lies within a few bits, and each instance keeps away from all others of its batch."""

import numpy as np
import torch
from torch import Tensor

from equihash.losses import dch_all_pairs_loss
from equihash.trainers.dch_trainer import DCHTrainer


class DCHAllPairsTrainer(DCHTrainer):
    """Minimise the DCH loss of all pairs of a batch. Source: Cao et al., CVPR 2018.

    It is the loss of `DCHTrainer`, estimated from a thousand times as many dissimilar pairs, among which are the rare
    near ones that collide. Memory and time grow with the square of a micro-batch, and are small for a thousand
    instances.

    Parameters
    ----------
    kwargs
        See `DCHTrainer`.
    """

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        return dch_all_pairs_loss(logits, self.gamma, self.quantization_coeff)
