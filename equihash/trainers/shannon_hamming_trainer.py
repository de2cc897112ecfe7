"""Shannon-Hamming: all fingerprints of a class agree, and the bits of all classes are as random as possible."""

from functools import partial

import torch

from equihash.errors import UserError, nearest
from equihash.losses import ShannonGradient, hamming_loss, huber_loss, training_tuples
from equihash.trainers.trainer import Trainer

GRADIENT_TYPES = ("normal", "pseudo-smooth")
SHANNON_GRADIENT = {"batch_size": 512, "gradient_type": "normal", "prior": 1.0}
HUBER_LOSS = {"maximum_slope": 0.0, "branching_point": 9.0}


class ShannonHammingTrainer(Trainer):
    """Minimise hamming_lambda * Hamming + Huber - shannon_lambda * sum of tuple entropies.

    The entropies are those of the joint distributions of tuples of bits over all logits of a step, hence the
    joint loss. The log has the loss, its Hamming and Huber parts, and the mean entropy of a tuple, in nats.
    Source: M. Duchesneau, Learning Deep Equihash Functions.

    Parameters
    ----------
    shannon_lambda, hamming_lambda
    shannon_gradient_kwargs
        batch_size (logits handled at once; changes memory and speed only), gradient_type ("normal" or
        "pseudo-smooth") and prior.
    shannon_tuple_size, shannon_tuple_cover_size, shannon_minimum_number_of_tuples
        Which tuples of bits: see `equihash.losses.training_tuples`.
    shannon_shuffle_logits
        Permute the bits at random in each step, so that a partial set of tuples reaches all.
    huber_loss_kwargs
        maximum_slope and branching_point of `equihash.losses.huber_loss`.
    kwargs
        See `Trainer`.
    """

    joint_loss = True
    BOUNDS = {
        "shannon_gradient_kwargs:batch_size": (1, None),
        "shannon_gradient_kwargs:prior": (0, None),
        "shannon_tuple_size": (2, None),
        "shannon_tuple_cover_size": (1, None),
        "huber_loss_kwargs:maximum_slope": (0, None),
        "huber_loss_kwargs:branching_point": (0, None),
    }

    def __init__(
        self,
        network,
        loader,
        shannon_lambda: float = 0.01,
        hamming_lambda: float = 1.0,
        shannon_gradient_kwargs: dict = SHANNON_GRADIENT,
        shannon_tuple_size: int = 3,
        shannon_tuple_cover_size: int = 3,
        shannon_minimum_number_of_tuples: int = 1,
        shannon_shuffle_logits: bool = False,
        huber_loss_kwargs: dict = HUBER_LOSS,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        self.shannon_lambda, self.hamming_lambda = shannon_lambda, hamming_lambda
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
        self.huber_loss_kwargs = {**HUBER_LOSS, **huber_loss_kwargs}

    def draw(self, generator: torch.Generator) -> tuple:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: torch.Tensor, target) -> torch.Tensor:
        pair_logits = logits.flatten(0, 1)  # (pairs of the step, 2, k)
        hamming = hamming_loss(pair_logits)
        huber = huber_loss(pair_logits, **self.huber_loss_kwargs)
        gradient, entropy = self._shannon_gradient(logits.detach().flatten(0, -2))
        gradient = self.shannon_lambda * gradient
        self.record(
            hamming_loss=hamming,
            huber_loss=huber,
            shannon_entropy=entropy / self.nb_tuples,
            shannon_gradient_norm=gradient.norm(),
        )
        # a linear function of the logits that has the value and the gradient of the Shannon loss
        shannon = (logits.flatten(0, -2) * gradient).sum()
        shannon = shannon - shannon.detach() - self.shannon_lambda * entropy
        return self.hamming_lambda * hamming + huber + shannon

    def _shannon_gradient(self, logits):
        if not self.shuffle_logits:
            return self.shannon_gradient(logits)
        order = torch.from_numpy(self.loader.label_stream.permutation(logits.shape[-1])).to(logits.device)
        gradient, entropy = self.shannon_gradient(logits[:, order])
        return gradient[:, order.argsort()], entropy
