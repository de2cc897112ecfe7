"""Shannon-Hamming: all fingerprints of a class agree, and the bits of all classes are as random as possible."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.losses import hamming_loss, huber_loss
from equihash.models import Network
from equihash.trainers.shannon_term import ShannonTerm
from equihash.trainers.trainer import Trainer

HUBER_LOSS = {"maximum_slope": 0.0, "branching_point": 9.0}


class ShannonHammingTrainer(ShannonTerm, Trainer):
    """Minimise hamming_lambda * Hamming + Huber - shannon_lambda * sum of tuple entropies.

    The log has the loss, its Hamming and Huber parts, and the mean entropy of a tuple, in nats.
    Source: M. Duchesneau, Learning Deep Equihash Functions.

    Parameters
    ----------
    hamming_lambda
    huber_loss_kwargs
        maximum_slope and branching_point of `equihash.losses.huber_loss`.
    kwargs
        See `ShannonTerm` and `Trainer`.
    """

    BOUNDS = {"huber_loss_kwargs:maximum_slope": (0, None), "huber_loss_kwargs:branching_point": (1e-3, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        hamming_lambda: float = 1.0,
        huber_loss_kwargs: dict = HUBER_LOSS,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.hamming_lambda = hamming_lambda
        self.huber_loss_kwargs = {**HUBER_LOSS, **huber_loss_kwargs}

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        pair_logits = logits.flatten(0, 1)  # (pairs of the step, 2, k)
        hamming = hamming_loss(pair_logits)
        huber = huber_loss(pair_logits, **self.huber_loss_kwargs)
        self.record(hamming_loss=hamming, huber_loss=huber)
        return self.hamming_lambda * hamming + huber + self.shannon_loss(logits)
