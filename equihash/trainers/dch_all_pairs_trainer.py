"""DCH of all pairs: a class lies within a few bits, and each instance keeps away from all others of its batch."""

import numpy as np
import torch
from torch import Tensor

from equihash.losses import dch_all_pairs_loss
from equihash.trainers.dch_trainer import DCHTrainer


class DCHAllPairsTrainer(DCHTrainer):
    """Minimise the DCH loss of all pairs of a batch. Source: Cao et al., CVPR 2018.

    It is the loss of `DCHTrainer`, estimated from far more dissimilar pairs (2n (n - 1) in a micro-batch of n pairs,
    instead of n / 2), among which are the rare near ones that collide. Memory and time grow with n^2, and are small for
    hundreds of pairs.

    Parameters
    ----------
    kwargs
        See `DCHTrainer`.
    """

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        return dch_all_pairs_loss(logits, self.gamma, self.quantization_coeff)
