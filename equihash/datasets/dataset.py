"""What all data sets share: labels of classes, batches of instances, and what pictures, search and files need.

A class is an ordered set of bank images, one for each cell of a mosaic; its label is the (height, width) array of
their positions in the bank. There are bank_size**(height*width) classes; see `equihash.class_numbers`. Where a class
is a single image, or anything else that has a number, the mosaic shape is (1, 1).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from equihash.class_numbers import class_numbers_to_labels
from equihash.errors import UserError
from equihash.files import digest_of

WHICH = ("train", "valid", "test")
CLASSES_SEED = 0xCAFE
NB_SAMPLES = 256  # rows of a bank that the digest looks at


class Dataset:
    """Base of the data sets.

    A subclass takes `which`, `device` and `seed` besides what the configuration says, sets the attributes below, and
    implements `make_instances`. Nothing else is needed.

    Parameters
    ----------
    bank_size
        Number of images that a mosaic's cells are taken from.
    mosaic_shape
        (height, width), in cells.
    size
        Rows of a batch; only the three random batches need it.
    which : "train", "valid" or "test"
        The split.
    device
        Where the instances are made.
    seed
        Of the two random streams: numpy's for the labels, torch's for the noise. None: not reproducible.

    Attributes
    ----------
    instance_shape : tuple of int
        Set by the subclass, like the next three.
    layout : "HW", "CHW" or "HWC"
        What the axes of an instance are: height, width, and red, green and blue.
    dtype : torch.dtype
        torch.float32, the values in [0, 1] but for noise, or torch.uint8.
    banks : list
        The images that instances are made of, which `digest` identifies: tensors or `ImageBank`s.
    nb_classes : int
        bank_size ** (height * width).

    Examples
    --------
    A class of this data set is two of ten greys, its only instance an image of two pixels:

    >>> class Greys(Dataset):
    ...     layout, dtype, instance_shape = "HW", torch.float32, (1, 2)
    ...
    ...     def __init__(self, size=4, which="train", device="cpu", seed=None):
    ...         super().__init__(10, (1, 2), size, which, device, seed)
    ...         self.banks = [torch.linspace(0, 1, 10)]
    ...
    ...     def make_instances(self, labels, generator):
    ...         return self.banks[0][labels]
    >>> greys = Greys(seed=0)
    >>> greys.nb_classes
    100
    >>> greys.batch_from_labels([[[0, 9]], [[9, 9]]])
    tensor([[[0., 1.]],
    <BLANKLINE>
            [[1., 1.]]])
    >>> pairs = greys.positive_pairs_batch()
    >>> pairs.shape, torch.equal(pairs[:, 0], pairs[:, 1])
    (torch.Size([4, 2, 1, 2]), True)
    """

    BOUNDS = {"size": (1, 2**24)}

    def __init__(
        self,
        bank_size: int,
        mosaic_shape: tuple[int, int],
        size: int | None = None,
        which: str = "train",
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ):
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

    def make_instances(self, labels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        """Make one noisy instance of each label: int64 (n, height, width) to (n, *instance_shape) of `dtype`.

        All noise comes from the generator, which is on the dataset's device, as the instances are.
        """
        raise NotImplementedError

    def batch_from_labels(
        self, labels: np.ndarray, nb_instances: int | None = None, torch_generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Make one noisy instance of each label, or several: (..., height, width) to (..., *instance_shape).

        Parameters
        ----------
        labels : integers (..., height, width)
        nb_instances
            With m, an axis of m instances follows the first axis: (n, ...) becomes (n, m, ...).
        torch_generator
            Source of the noise, on this dataset's device; None: the dataset's own stream.
        """
        labels = np.asarray(labels).astype(np.int64)
        if labels.shape[-2:] != self.mosaic_shape:
            raise ValueError(f"labels must be (..., {str(self.mosaic_shape)[1:]}, not {labels.shape}")
        if nb_instances is not None:
            labels = np.repeat(labels[:, None], nb_instances, axis=1)
        generator = self.noise_stream if torch_generator is None else torch_generator
        instances = self.make_instances(labels.reshape(-1, *self.mosaic_shape), generator)
        if instances.shape[1:] != self.instance_shape or instances.dtype != self.dtype:
            raise ValueError(
                f"{type(self).__name__}.make_instances gave {instances.dtype} {tuple(instances.shape)}: "
                f"instance_shape is {self.instance_shape}, dtype {self.dtype}"
            )
        return instances.reshape(*labels.shape[:-2], *self.instance_shape)

    def generate_labels(self, n: int, k: int) -> np.ndarray:
        """Draw `n` rows of `k` distinct class labels, uniform: int64 (n, k, height, width)."""
        numbers = self.label_stream.randint(0, self.nb_classes, (n, k), dtype=np.uint64)
        while True:
            ordered = np.sort(numbers, axis=1)
            repeats = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
            if not len(repeats):
                return class_numbers_to_labels(numbers, self.bank_size, self.mosaic_shape).astype(np.int64)
            numbers[repeats] = self.label_stream.randint(0, self.nb_classes, (len(repeats), k), dtype=np.uint64)

    def positive_pairs_labels(self) -> np.ndarray:
        """Draw the labels of `positive_pairs_batch`: int64 (size, 2, height, width)."""
        return self.generate_labels(self.size, 1).repeat(2, axis=1)

    def mixed_pairs_labels(self) -> tuple[np.ndarray, torch.Tensor]:
        """Draw the labels of `mixed_pairs_batch`, int64 (size, 2, height, width), and which pairs are similar."""
        nb_positive = self.size // 2
        positive = self.generate_labels(nb_positive, 1).repeat(2, axis=1)
        negative = self.generate_labels(self.size - nb_positive, 2)
        return np.concatenate([positive, negative]), torch.arange(self.size, device=self.device) < nb_positive

    def hinge_triplets_labels(self) -> np.ndarray:
        """Draw the labels of `hinge_triplets_batch`: int64 (size, 3, height, width)."""
        return self.generate_labels(self.size, 2)[:, [0, 0, 1]]

    def fixed_classes(self, nb_classes: int) -> np.ndarray:
        """Draw distinct classes, always the same ones, ordered by number: int64 (nb_classes, height, width).

        A `UserError` if there are fewer.
        """
        if not 1 <= nb_classes <= self.nb_classes:
            raise UserError(f"trainer_kwargs:nb_classes must be 1 to {self.nb_classes}, not {nb_classes}")
        stream = np.random.RandomState(CLASSES_SEED)
        drawn = first = np.empty(0, dtype=np.uint64)
        while len(first) < nb_classes:
            drawn = np.append(drawn, stream.randint(0, self.nb_classes, nb_classes, dtype=np.uint64))
            first = np.unique(drawn, return_index=True)[1]
        numbers = np.sort(drawn[np.sort(first)[:nb_classes]])
        return class_numbers_to_labels(numbers, self.bank_size, self.mosaic_shape).astype(np.int64)

    def class_labels(self, classes: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        """Draw one of some classes, such as `fixed_classes`, for each row of a batch.

        Parameters
        ----------
        classes : int64 array (nb_classes, height, width)

        Returns
        -------
        labels : int64 (size, height, width)
        numbers : int64 tensor (size,) on the dataset's device
            Their places in `classes`.
        """
        numbers = self.label_stream.randint(0, len(classes), self.size)
        return classes[numbers], torch.from_numpy(numbers).to(self.device)

    def positive_pairs_batch(self) -> torch.Tensor:
        """Two instances of one class in each row: (size, 2, ...)."""
        return self.batch_from_labels(self.positive_pairs_labels())

    def mixed_pairs_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Positive pairs in the first half of the rows, negative in the second.

        Returns
        -------
        instances : tensor (size, 2, ...)
        similar : bool tensor (size,) on the dataset's device
        """
        labels, similar = self.mixed_pairs_labels()
        return self.batch_from_labels(labels), similar

    def hinge_triplets_batch(self) -> torch.Tensor:
        """Anchor, positive (of the anchor's class) and negative (of another) in each row: (size, 3, ...)."""
        return self.batch_from_labels(self.hinge_triplets_labels())

    def digest(self) -> str:
        """SHA-256 (first 16 hex digits) of the sizes and of evenly spaced images of the banks."""
        contents = []
        for bank in self.banks:
            rows = torch.from_numpy(np.unique(np.linspace(0, len(bank) - 1, NB_SAMPLES).astype(np.int64)))
            images = bank[rows].cpu().numpy()
            contents += [len(bank), images.dtype, images.shape, images.tobytes()]
        return digest_of(*contents)

    @property
    def picture_shape(self) -> tuple[int, int]:
        """(height, width) of an instance, in pixels."""
        return tuple(self.instance_shape[self.layout.index(side)] for side in "HW")

    def to_picture(self, instance: torch.Tensor) -> np.ndarray:
        """Return an instance as imshow takes it: array (h, w) or (h, w, 3), floating point in [0, 1] or uint8."""
        picture = instance.cpu().permute([self.layout.index(axis) for axis in "HWC" if axis in self.layout])
        return picture.clamp(0, 1).numpy() if picture.is_floating_point() else picture.numpy()

    def from_picture(self, pixels: np.ndarray) -> torch.Tensor:
        """Inverse of `to_picture`, for a uint8 array."""
        instance = torch.from_numpy(pixels).permute(["HWC".index(axis) for axis in self.layout]).to(self.device)
        return instance.to(self.dtype) / 255 if self.dtype.is_floating_point else instance

    def noise_generator(self, *numbers: int) -> torch.Generator:
        """Return a torch generator on the device, seeded by the seed and some integers, such as a step's number."""
        generator = torch.Generator(self.device)
        return generator.manual_seed(int(np.random.SeedSequence([self.seed, *numbers]).generate_state(1, np.uint64)[0]))

    def reseed(self, seed: int | None) -> None:
        """Start both random streams from `seed`."""
        self.label_stream = np.random.RandomState(seed)
        self.noise_stream = torch.Generator(self.device)
        self.noise_stream.seed() if seed is None else self.noise_stream.manual_seed(seed)

    @contextmanager
    def reseeded(self, seed: int) -> Iterator[None]:
        """A context in which the streams start from `seed`, and after which they are where they were before."""
        state = self.state_dict()
        self.reseed(seed)
        try:
            yield
        finally:
            self.load_state_dict(state)

    def state_dict(self) -> tuple:
        """State of both random streams, in types that `torch.load(weights_only=True)` accepts."""
        name, keys, *rest = self.label_stream.get_state()
        return (name, torch.from_numpy(keys.astype(np.int64)), *rest), self.noise_stream.get_state()

    def load_state_dict(self, state: tuple) -> None:
        """Restore what `state_dict` returned; on another device type the noise stream is left as it is."""
        (name, keys, *rest), noise = state
        self.label_stream.set_state((name, np.asarray(keys).astype(np.uint32), *rest))
        noise = noise.cpu()
        if noise.shape == self.noise_stream.get_state().shape:
            self.noise_stream.set_state(noise)
