"""What all mosaic datasets share: labels of classes, and batches of instances.

A class is an ordered set of bank images, one for each cell of the mosaic; its label is the (height, width)
array of their positions in the bank. There are bank_size**(height*width) classes; see `equihash.class_numbers`.
"""

from contextlib import contextmanager

import numpy as np
import torch

from equihash.class_numbers import class_numbers_to_labels
from equihash.errors import UserError

WHICH = ("train", "valid", "test")


class MosaicDataset:
    """Base of the mosaic datasets.

    A subclass makes the instances: it implements `batch_from_labels`.

    Parameters
    ----------
    bank_size : int
        Number of images that a mosaic's cells are taken from.
    mosaic_shape : (height, width)
        Cells of a mosaic.
    size : int or None
        Rows of a batch; only the three random batches need it.
    which : "train", "valid" or "test"
        The split that the bank is.
    device : torch.device or str
        Where the instances are made.
    seed : int or None
        Seed of the two random streams: numpy's for the labels, torch's for the noise. None: not reproducible.

    Attributes
    ----------
    nb_classes : int
        bank_size ** (height * width).
    """

    BOUNDS = {"size": (1, 2**24)}

    def __init__(self, bank_size, mosaic_shape, size=None, which="train", device="cpu", seed=None):
        self.which = which
        self.bank_size = bank_size
        self.mosaic_shape = tuple(mosaic_shape)
        self.size = size
        self.device = torch.device(device)
        self.nb_classes = bank_size ** int(np.prod(mosaic_shape))
        if self.nb_classes > 2**64:
            raise UserError(f"{bank_size}^{np.prod(mosaic_shape)} classes do not fit in 64 bits: use a smaller mosaic")
        self.seed = np.random.SeedSequence().entropy if seed is None else seed
        self.reseed(seed)

    def noise_generator(self, *numbers):
        """Return a torch generator on the device, seeded by the seed and some integers, such as a step's number."""
        generator = torch.Generator(self.device)
        return generator.manual_seed(int(np.random.SeedSequence([self.seed, *numbers]).generate_state(1, np.uint64)[0]))

    def reseed(self, seed):
        """Start both random streams from `seed`."""
        self.label_stream = np.random.RandomState(seed)
        self.noise_stream = torch.Generator(self.device)
        if seed is not None:
            self.noise_stream.manual_seed(seed)

    @contextmanager
    def reseeded(self, seed):
        """Within it the streams start from `seed`; afterwards they go on where they were."""
        state = self.state_dict()
        self.reseed(seed)
        try:
            yield
        finally:
            self.load_state_dict(state)

    def state_dict(self):
        """State of both random streams, in types that `torch.load(weights_only=True)` accepts."""
        name, keys, *rest = self.label_stream.get_state()
        return (name, torch.from_numpy(keys.astype(np.int64)), *rest), self.noise_stream.get_state()

    def load_state_dict(self, state):
        """Restore what `state_dict` returned; on another device type the noise stream is left as it is."""
        (name, keys, *rest), noise = state
        self.label_stream.set_state((name, np.asarray(keys).astype(np.uint32), *rest))
        noise = noise.cpu()
        if noise.shape == self.noise_stream.get_state().shape:
            self.noise_stream.set_state(noise)

    def generate_labels(self, n, k):
        """Draw `n` rows of `k` distinct class labels: int64 (n, k, height, width).

        Class numbers are uniform; rows with a repeated class are drawn again.
        """
        numbers = self.label_stream.randint(0, self.nb_classes, (n, k), dtype=np.uint64)
        while True:
            ordered = np.sort(numbers, axis=1)
            repeats = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
            if not len(repeats):
                return class_numbers_to_labels(numbers, self.bank_size, self.mosaic_shape).astype(np.int64)
            numbers[repeats] = self.label_stream.randint(0, self.nb_classes, (len(repeats), k), dtype=np.uint64)

    def batch_from_labels(self, labels, nb_instances=None, torch_generator=None):
        """Make one noisy instance of each label, or several.

        Parameters
        ----------
        labels : integer array or tensor (..., height, width)
        nb_instances : int or None
            With m, an axis of m instances follows the first axis: (n, ...) becomes (n, m, ...).
        torch_generator : torch.Generator or None
            Source of the noise, on this dataset's device; None: the dataset's own stream.

        Returns
        -------
        tensor (..., *instance_shape) on the dataset's device
        """
        raise NotImplementedError

    def positive_pairs_labels(self):
        """Draw the labels of `positive_pairs_batch`: int64 (size, 2, height, width)."""
        return self.generate_labels(self.size, 1).repeat(2, axis=1)

    def mixed_pairs_labels(self):
        """Draw the labels of `mixed_pairs_batch`.

        Returns
        -------
        labels : int64 (size, 2, height, width)
        similar : bool tensor (size,) on the dataset's device
        """
        nb_positive = self.size // 2
        positive = self.generate_labels(nb_positive, 1).repeat(2, axis=1)
        negative = self.generate_labels(self.size - nb_positive, 2)
        return np.concatenate([positive, negative]), torch.arange(self.size, device=self.device) < nb_positive

    def hinge_triplets_labels(self):
        """Draw the labels of `hinge_triplets_batch`: int64 (size, 3, height, width)."""
        return self.generate_labels(self.size, 2)[:, [0, 0, 1]]

    def positive_pairs_batch(self):
        """Two instances of one class in each row: (size, 2, ...)."""
        return self.batch_from_labels(self.positive_pairs_labels())

    def mixed_pairs_batch(self):
        """Positive pairs in the first half of the rows, negative in the second.

        Returns
        -------
        instances : tensor (size, 2, ...)
        similar : bool tensor (size,) on the dataset's device
        """
        labels, similar = self.mixed_pairs_labels()
        return self.batch_from_labels(labels), similar

    def hinge_triplets_batch(self):
        """Anchor, positive (of the anchor's class) and negative (of another) in each row: (size, 3, ...)."""
        return self.batch_from_labels(self.hinge_triplets_labels())
