"""Fixed codes that classes are pulled to: the hash centres of CSQ and OrthoHash."""

import numpy as np
import torch
from torch import Tensor

CENTRES_SEED = 0xCAFE


def hash_centres(nb_classes: int, k: int) -> Tensor:
    """Return a code for each class, always the same ones, far from each other.

    Where k is a power of two and there are at most 2k classes, the codes are the rows of the Hadamard matrix, then
    their negations: any two differ in k/2 bits, or in all. Otherwise they are random rows with k/2 bits of each value,
    of which about that many differ between two; with few bits some rows are equal. Source: Yuan et al., "Central
    Similarity Quantization for Efficient Image and Video Retrieval", CVPR 2020.

    Parameters
    ----------
    nb_classes : int
    k : int
        Bits, an even number.

    Returns
    -------
    float32 tensor (nb_classes, k), of -1 and +1
    """
    if k & (k - 1) == 0 and nb_classes <= 2 * k:
        from scipy.linalg import hadamard  # here, as it takes half a second

        rows = hadamard(k)
        rows = np.concatenate([rows, -rows])[:nb_classes]
    else:
        ranks = np.random.RandomState(CENTRES_SEED).rand(nb_classes, k).argsort(axis=1)
        rows = np.where(ranks < k // 2, 1, -1)
    return torch.from_numpy(rows.astype(np.float32))
