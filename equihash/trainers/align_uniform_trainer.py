"""AlignUniform: the instances of a class lie together; other classes, above all the nearest, keep away."""

import numpy as np
import torch
from torch import Tensor

from equihash.datasets import Dataset
from equihash.errors import UserError
from equihash.losses import align_uniform_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer


class AlignUniformTrainer(Trainer):
    """Minimise the alignment and uniformity loss of pairs of one class. Source: Wang and Isola, ICML 2020.

    All instances of a micro-batch are compared, in memory and time that grow with the square of their number.

    Parameters
    ----------
    uniformity_t : float
        How fast a pair's share in the uniformity falls with its distance: see `equihash.losses.align_uniform_loss`.
    uniformity_coeff : float
        Weight of the uniformity. The larger it is, the fewer the collisions, and the fewer the equal bits of a class.
    quantization_coeff : float
        Weight of the cost of soft bits.
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"uniformity_t": (0, None), "uniformity_coeff": (0, None), "quantization_coeff": (0, None)}

    def __init__(
        self,
        network: Network,
        loader: Dataset,
        uniformity_t: float = 5.0,
        uniformity_coeff: float = 0.04,
        quantization_coeff: float = 0.1,
        **kwargs,
    ):
        super().__init__(network, loader, **kwargs)
        if loader.size < 2:
            raise UserError("AlignUniform compares the classes of a batch: loader_kwargs:size must be at least 2")
        self.uniformity_t, self.uniformity_coeff = uniformity_t, uniformity_coeff
        self.quantization_coeff = quantization_coeff

    def draw(self, generator: torch.Generator) -> tuple[np.ndarray, None]:
        return self.loader.positive_pairs_labels(), None

    def loss(self, logits: Tensor, target: None) -> Tensor:
        return align_uniform_loss(logits, self.uniformity_t, self.uniformity_coeff, self.quantization_coeff)
