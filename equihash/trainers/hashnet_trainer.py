"""HashNet: codes of similar pairs are close, of dissimilar ones far; a tanh that gets steeper stands for the sign."""

import torch

from equihash.datasets import Dataset
from equihash.losses import beta_schedule, hashnet_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer

BETA_SCHEDULER = {"init": 1.0, "gamma": 0.0005, "power": 0.5, "step_size": 200}


class HashNetTrainer(Trainer):
    """Minimise the HashNet loss of pairs, half of them of one class. Source: Cao et al., ICCV 2017.

    Parameters
    ----------
    alpha
        Scale of the dot product of two codes.
    beta_scheduler_kwargs
        init, gamma, power and step_size of the slope of tanh: see `equihash.losses.beta_schedule`.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"beta_scheduler_kwargs:step_size": (1, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        alpha: float = 0.15,
        beta_scheduler_kwargs: dict = BETA_SCHEDULER,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.alpha = alpha
        self.beta_scheduler_kwargs = {**BETA_SCHEDULER, **beta_scheduler_kwargs}

    def draw(self, generator: torch.Generator) -> tuple:
        return self.loader.mixed_pairs_labels()

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        beta = beta_schedule(self.step, **self.beta_scheduler_kwargs)
        self.record(beta=beta)
        return hashnet_loss(logits, target, self.alpha, beta)
