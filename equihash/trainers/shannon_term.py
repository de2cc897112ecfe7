"""The Shannon term: the bits of all classes are as random as possible."""

from functools import partial

import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.errors import UserError, nearest
from equihash.losses import ShannonGradient, training_tuples
from equihash.models import Network

GRADIENT_TYPES = ("normal", "pseudo-smooth")
SHANNON_GRADIENT = {"batch_size": 512, "gradient_type": "normal", "prior": 1.0}


class ShannonTerm:
    """Mixin of the trainers whose loss has a Shannon term; it comes before the base that has the rest of the loss.

    The term is -shannon_lambda * sum of tuple entropies, those of the joint distributions of tuples of bits over all
    logits of a step, hence the joint loss. Source: M. Duchesneau, Learning Deep Equihash Functions.

    Parameters
    ----------
    shannon_lambda : float
    shannon_gradient_kwargs : dict
        batch_size (logits handled at once; changes memory and speed only), gradient_type ("normal" or
        "pseudo-smooth") and prior.
    shannon_tuple_size, shannon_tuple_cover_size, shannon_minimum_number_of_tuples : int
        Which tuples of bits: see `equihash.losses.training_tuples`.
    shannon_shuffle_logits : bool
        Permute the bits at each step, so that a partial set of tuples reaches all.
    kwargs
        Of the other bases.
    """

    joint_loss = True
    BOUNDS = {
        "shannon_gradient_kwargs:batch_size": (1, None),
        "shannon_gradient_kwargs:prior": (0, None),
        "shannon_tuple_size": (2, None),
        "shannon_tuple_cover_size": (1, None),
    }

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        shannon_lambda: float = 0.01,
        shannon_gradient_kwargs: dict = SHANNON_GRADIENT,
        shannon_tuple_size: int = 3,
        shannon_tuple_cover_size: int = 3,
        shannon_minimum_number_of_tuples: int = 1,
        shannon_shuffle_logits: bool = False,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.shannon_lambda = shannon_lambda
        if not shannon_tuple_cover_size <= shannon_tuple_size <= network.k:
            raise UserError(
                f"shannon_tuple_size must be between shannon_tuple_cover_size, {shannon_tuple_cover_size}, and the "
                f"number of bits, {network.k}, not {shannon_tuple_size}"
            )
        tuples = training_tuples(
            network.k, shannon_tuple_size, shannon_tuple_cover_size, shannon_minimum_number_of_tuples
        )
        self.nb_tuples = len(tuples)
        options = {**SHANNON_GRADIENT, **shannon_gradient_kwargs}
        if options["gradient_type"] not in GRADIENT_TYPES:
            raise UserError(f"unknown gradient_type {options['gradient_type']!r}{nearest('', GRADIENT_TYPES)}")
        options["chunk_size"] = options.pop("batch_size")
        self.shannon_gradient = partial(ShannonGradient(tuples, network.k, loader.device), **options)
        self.shuffle_logits = shannon_shuffle_logits

    def shannon_loss(self, logits: Tensor) -> Tensor:
        """Return the term for all logits (..., k) of a step, a scalar in nats; log the entropy of a tuple."""
        logits = logits.flatten(0, -2)
        gradient, entropy = self._shannon_gradient(logits.detach())
        gradient = self.shannon_lambda * gradient
        self.record(shannon_entropy=entropy / self.nb_tuples, shannon_gradient_norm=gradient.norm())
        # a linear function of the logits that has the value and the gradient of the Shannon loss
        linear = (logits * gradient).sum()
        return linear - linear.detach() - self.shannon_lambda * entropy

    def _shannon_gradient(self, logits):
        if not self.shuffle_logits:
            return self.shannon_gradient(logits)
        order = torch.from_numpy(self.loader.label_stream.permutation(logits.shape[-1])).to(logits.device)
        gradient, entropy = self.shannon_gradient(logits[:, order])
        return gradient[:, order.argsort()], entropy
