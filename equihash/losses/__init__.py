"""Training losses: Shannon and Hamming (equihash functions), and the two baselines, HashNet and JMLH."""

from equihash.losses.hamming import hamming_loss, huber_loss
from equihash.losses.hashnet import beta_schedule, hashnet_loss
from equihash.losses.jmlh import bernoulli_kld, jmlh_loss, straight_through_bits
from equihash.losses.shannon import ShannonGradient, shannon_gradient
from equihash.losses.tuples import all_tuples, covering_tuples, training_tuples

__all__ = [
    "ShannonGradient",
    "all_tuples",
    "bernoulli_kld",
    "beta_schedule",
    "covering_tuples",
    "hamming_loss",
    "hashnet_loss",
    "huber_loss",
    "jmlh_loss",
    "shannon_gradient",
    "straight_through_bits",
    "training_tuples",
]
