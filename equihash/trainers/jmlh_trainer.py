"""JMLH: a linear classifier on stochastic codes, regularised by their divergence from fair coins."""

import numpy as np
import torch
from torch import nn

from equihash.class_numbers import class_numbers_to_labels
from equihash.devices import autocast
from equihash.errors import UserError, nearest
from equihash.losses import jmlh_loss
from equihash.trainers.trainer import Trainer

CLASSES_SEED = 0xCAFE
LOSS = {"kld_coeff": 0.1, "bias": True, "deterministic": False, "binarization": "heaviside"}
BINARIZATIONS = ("heaviside", "sign")


class JMLHTrainer(Trainer):
    """Minimise the JMLH loss on a fixed set of classes. Source: Shen et al., ICCVW 2019.

    Parameters
    ----------
    nb_classes : int
        Classes to tell apart, drawn once from all classes of the dataset.
    loss_kwargs : dict
        kld_coeff and binarization ("heaviside" or "sign") of `equihash.losses.jmlh_loss`; bias (of the classifier);
        deterministic (round the bits instead of sampling them).
    kwargs
        See `Trainer`.
    """

    BOUNDS = {"nb_classes": (1, None)}

    def __init__(self, network, loader, nb_classes=10_000, loss_kwargs=LOSS, **kwargs):
        self.loss_kwargs = {**LOSS, **loss_kwargs}
        if self.loss_kwargs["binarization"] not in BINARIZATIONS:
            raise UserError(f"unknown binarization {self.loss_kwargs['binarization']!r}{nearest('', BINARIZATIONS)}")
        if not 1 <= nb_classes <= loader.nb_classes:
            raise UserError(f"trainer_kwargs:nb_classes must be 1 to {loader.nb_classes}, not {nb_classes}")
        classifier = nn.Linear(network.k, nb_classes, bias=self.loss_kwargs.pop("bias"))
        self.deterministic = self.loss_kwargs.pop("deterministic")
        super().__init__(network, loader, modules={"classifier": classifier}, **kwargs)
        self.classifier = classifier
        self.labels = self._draw_classes(nb_classes)

    def draw(self, generator):
        loader = self.loader
        classes = loader.label_stream.randint(0, len(self.labels), loader.size)
        noise = 0.5
        if not self.deterministic:
            noise = torch.rand(loader.size, self.network.k, generator=generator, device=loader.device)
        return self.labels[classes], (torch.from_numpy(classes).to(loader.device), noise)

    def loss(self, logits, target):
        with autocast(self.loader.device, self.precision):
            return jmlh_loss(logits, *target, self.classifier, **self.loss_kwargs)

    def _draw_classes(self, nb_classes):
        """Draw distinct classes: int64 (nb_classes, height, width)."""
        stream = np.random.RandomState(CLASSES_SEED)
        numbers = np.empty(0, dtype=np.uint64)
        while len(numbers) < nb_classes:
            drawn = stream.randint(0, self.loader.nb_classes, nb_classes - len(numbers), dtype=np.uint64)
            numbers = np.unique(np.concatenate([numbers, drawn]))
        labels = class_numbers_to_labels(numbers, self.loader.bank_size, self.loader.mosaic_shape)
        return labels.astype(np.int64)
