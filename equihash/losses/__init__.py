"""Training losses: Shannon and Hamming (equihash functions), and those of the field that they are compared with."""

from equihash.losses.align_uniform import align_uniform_loss
from equihash.losses.centres import hash_centres
from equihash.losses.csq import csq_loss
from equihash.losses.dch import dch_loss
from equihash.losses.dpsh import dpsh_loss
from equihash.losses.greedyhash import greedyhash_loss, straight_through_signs
from equihash.losses.hamming import hamming_loss, huber_loss
from equihash.losses.hashnet import beta_schedule, hashnet_loss
from equihash.losses.jmlh import bernoulli_kld, jmlh_loss, straight_through_bits
from equihash.losses.orthohash import orthohash_loss
from equihash.losses.shannon import ShannonGradient, shannon_gradient
from equihash.losses.sscd import sscd_loss
from equihash.losses.tuples import all_tuples, covering_tuples, training_tuples

__all__ = [
    "ShannonGradient",
    "align_uniform_loss",
    "all_tuples",
    "bernoulli_kld",
    "beta_schedule",
    "covering_tuples",
    "csq_loss",
    "dch_loss",
    "dpsh_loss",
    "greedyhash_loss",
    "hamming_loss",
    "hash_centres",
    "hashnet_loss",
    "huber_loss",
    "jmlh_loss",
    "orthohash_loss",
    "shannon_gradient",
    "sscd_loss",
    "straight_through_bits",
    "straight_through_signs",
    "training_tuples",
]
