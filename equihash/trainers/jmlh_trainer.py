"""JMLH: a linear classifier of stochastic codes, regularised by their divergence from fair coins."""

import torch
from torch import nn

from equihash.datasets import Dataset
from equihash.devices import autocast
from equihash.errors import UserError, nearest
from equihash.losses import jmlh_loss
from equihash.models import Network
from equihash.trainers.trainer import Trainer

LOSS = {"kld_coeff": 0.1, "bias": True, "deterministic": False, "binarization": "heaviside"}
BINARIZATIONS = ("heaviside", "sign")


class JMLHTrainer(Trainer):
    """Minimise the JMLH loss on a fixed set of classes. Source: Shen et al., ICCVW 2019.

    Parameters
    ----------
    nb_classes
        Classes to tell apart: see `Dataset.fixed_classes`.
    loss_kwargs
        kld_coeff and binarization ("heaviside" or "sign") of `equihash.losses.jmlh_loss`; bias (of the classifier);
        deterministic (round the bits instead of sampling them).
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"nb_classes": (1, None)}

    def __init__(self, network: Network, loader: Dataset, nb_classes: int = 10_000, loss_kwargs: dict = LOSS, **kwargs):
        self.loss_kwargs = {**LOSS, **loss_kwargs}
        if self.loss_kwargs["binarization"] not in BINARIZATIONS:
            raise UserError(f"unknown binarization {self.loss_kwargs['binarization']!r}{nearest('', BINARIZATIONS)}")
        self.labels = loader.fixed_classes(nb_classes)
        classifier = nn.Linear(network.k, nb_classes, bias=self.loss_kwargs.pop("bias"))
        self.deterministic = self.loss_kwargs.pop("deterministic")
        super().__init__(network, loader, modules={"classifier": classifier}, **kwargs)
        self.classifier = classifier

    def draw(self, generator: torch.Generator) -> tuple:
        labels, classes = self.loader.class_labels(self.labels)
        noise = 0.5
        if not self.deterministic:
            noise = torch.rand(len(labels), self.network.k, generator=generator, device=self.loader.device)
        return labels, (classes, noise)

    def loss(self, logits: torch.Tensor, target) -> torch.Tensor:
        with autocast(self.loader.device, self.precision):
            return jmlh_loss(logits, *target, self.classifier, **self.loss_kwargs)
