"""Classes are numbered by reading a label as the digits of a number written base bank_size, most significant first."""

import numpy as np


def class_numbers_to_labels(numbers, bank_size, mosaic_shape):
    """Write class numbers base `bank_size`, most significant digit first.

    Parameters
    ----------
    numbers : integer array (...)
    bank_size : int
    mosaic_shape : (height, width)

    Returns
    -------
    array (..., height, width) of the dtype of `numbers`
    """
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


def labels_to_class_numbers(labels, bank_size):
    """Inverse of `class_numbers_to_labels`: (..., height, width) to uint64 (...)."""
    labels = np.asarray(labels)
    digits = labels.reshape(*labels.shape[:-2], labels.shape[-2] * labels.shape[-1])
    numbers = digits[..., 0].astype(np.uint64)
    for cell in range(1, digits.shape[-1]):
        numbers *= np.uint64(bank_size)
        numbers += digits[..., cell].astype(np.uint64)
    return numbers
