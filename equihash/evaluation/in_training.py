"""What train.py looks at every eval_freq steps: Hamming distances of pairs, and how random the bits are."""

import numpy as np
import torch
from torch import nn

from equihash.datasets import Dataset
from equihash.inference import compute_logits


def evaluate_in_training(
    network: nn.Module, loader: Dataset, nb_pairs: int, seed: int, precision: torch.dtype = torch.float32
) -> dict:
    """Evaluate a network on random positive pairs, the same for the same seed.

    Negative pairs are made of neighbours: the first instance of a pair with the second of the next. The random streams
    of the data set are left as they were.

    Returns
    -------
    dict
        nb_pairs; positive_ and negative_hamming_distances (histograms of length k+1) and their medians; recall
        and precision at Hamming distance <= 0, 1 and 2; nb_codes, nb_unique_codes; worst_entropies: {s: the
        smallest joint entropy in bits of any s bits of the code, s = 1 to 4}.
    """
    bits = _bits_of_pairs(network, loader, nb_pairs, seed, precision)  # (nb_pairs, 2, k) bool
    first, second = bits[:, 0], bits[:, 1]
    k = bits.shape[-1]
    positive = torch.bincount((first != second).sum(1), minlength=k + 1).cpu().numpy()
    negative = torch.bincount((first != second.roll(-1, 0)).sum(1), minlength=k + 1).cpu().numpy()
    true_positive, false_positive = positive.cumsum()[:3], negative.cumsum()[:3]
    codes = np.packbits(bits.flatten(0, 1).cpu().numpy(), axis=1)
    return {
        "nb_pairs": nb_pairs,
        "positive_hamming_distances": positive.tolist(),
        "negative_hamming_distances": negative.tolist(),
        "positive_hamming_distances_median": _median(positive),
        "negative_hamming_distances_median": _median(negative),
        "recall": (true_positive / nb_pairs).tolist(),
        "precision": (true_positive / np.maximum(true_positive + false_positive, 1)).tolist(),
        "nb_codes": len(codes),
        "nb_unique_codes": len(np.unique(codes, axis=0)),
        "worst_entropies": worst_entropies(bits.flatten(0, 1)),
    }


def worst_entropies(bits: torch.Tensor, chunk_size: int = 4096) -> dict[int, float]:
    """Smallest joint entropy, in bits, of any s of some `bits`, bool (n, k), for s = 1 to 4.

    Counts how often all bits of a set are 1 for every set of up to four bits, by one matrix product of pairs of
    bits with pairs of bits, and gets all other joint counts from these by inclusion and exclusion: exact, as the
    counts are integers.
    """
    n, k = bits.shape
    device = bits.device
    left, right = torch.triu_indices(k, k, device=device)  # pairs a <= b; (a, a) stands for bit a alone
    ones = torch.zeros((len(left), len(left)), dtype=torch.float64, device=device)
    for chunk in bits.split(chunk_size):  # counts of a chunk are exact in float32
        pairs = (chunk[:, left] & chunk[:, right]).float()
        ones += pairs.T @ pairs
    position = torch.zeros((k, k), dtype=torch.long, device=device)
    position[left, right] = position[right, left] = torch.arange(len(left), device=device)
    worst = {}
    for size in range(1, min(4, k) + 1):
        members = torch.combinations(torch.arange(k, device=device), size)  # (sets, size)
        counts = torch.zeros((len(members), *[2] * size), dtype=torch.float64, device=device)
        for pattern in np.ndindex(*[2] * size):  # how often the bits of the pattern are all 1, the others anything
            chosen = [members[:, i] for i in range(size) if pattern[i]]
            if not chosen:
                counts[(slice(None), *pattern)] = n
                continue
            chosen += [chosen[-1]] * (4 - len(chosen))
            counts[(slice(None), *pattern)] = ones[position[chosen[0], chosen[1]], position[chosen[2], chosen[3]]]
        for axis in range(1, size + 1):  # "anything" minus "1" is "0"
            counts.select(axis, 0).sub_(counts.select(axis, 1))
        probabilities = counts.flatten(1) / n
        entropies = -torch.special.xlogy(probabilities, probabilities).sum(1) / np.log(2)
        worst[size] = max(0.0, entropies.min().item())
    return worst


def _bits_of_pairs(network, loader, nb_pairs, seed, precision):
    network.eval()
    bits = []
    with loader.reseeded(seed):
        for _ in range(0, nb_pairs, loader.size):
            bits.append(compute_logits(network, loader.positive_pairs_batch(), precision) > 0)
    return torch.cat(bits)[:nb_pairs]


def _median(histogram):
    return int(np.searchsorted(histogram.cumsum(), (histogram.sum() + 1) // 2))
