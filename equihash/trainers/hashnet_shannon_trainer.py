"""HashNet with the Shannon term: pairs say which codes agree, and all bits are as random as possible."""

from torch import Tensor

from equihash.datasets import Dataset
from equihash.models import Network
from equihash.trainers.hashnet_trainer import HashNetTrainer
from equihash.trainers.shannon_term import ShannonTerm


class HashNetShannonTrainer(ShannonTerm, HashNetTrainer):
    """Minimise the HashNet loss - shannon_lambda * sum of tuple entropies, of mixed pairs.

    Parameters
    ----------
    alpha : float
        See `HashNetTrainer`, whose other keys it has, too.
    shannon_lambda : float
        See `ShannonTerm`, whose other keys it has, too.
    kwargs
        See `Trainer`.
    """

    def __init__(
        self, network: Network, loader: Dataset, alpha: float = 0.05, shannon_lambda: float = 0.0001, **kwargs
    ):
        super().__init__(network, loader, alpha=alpha, shannon_lambda=shannon_lambda, **kwargs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        hashnet = super().loss(logits.flatten(0, 1), target.flatten())
        self.record(hashnet_loss=hashnet)
        return hashnet + self.shannon_loss(logits)
