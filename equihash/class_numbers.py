"""The number of a class: its label read as the digits of a number base bank_size, the most significant first."""

import numpy as np


def class_numbers_to_labels(numbers: np.ndarray, bank_size: int, mosaic_shape: tuple[int, int]) -> np.ndarray:
    """Write class numbers (...) base `bank_size`: (..., height, width) of their dtype."""
    numbers = np.asarray(numbers)
    base = numbers.dtype.type(bank_size)
    nb_cells = int(np.prod(mosaic_shape))
    labels = np.empty((*numbers.shape, nb_cells), dtype=numbers.dtype)
    for cell in range(nb_cells - 1, 0, -1):
        quotient = numbers // base
        labels[..., cell] = numbers - quotient * base
        numbers = quotient
    labels[..., 0] = numbers
    return labels.reshape(*labels.shape[:-1], *mosaic_shape)


def labels_to_class_numbers(labels: np.ndarray, bank_size: int) -> np.ndarray:
    """Inverse of `class_numbers_to_labels`: (..., height, width) to uint64 (...)."""
    labels = np.asarray(labels)
    digits = labels.reshape(*labels.shape[:-2], labels.shape[-2] * labels.shape[-1])
    numbers = digits[..., 0].astype(np.uint64)
    for cell in range(1, digits.shape[-1]):
        numbers *= np.uint64(bank_size)
        numbers += digits[..., cell].astype(np.uint64)
    return numbers
