"""Procedural mosaic datasets."""

from equihash.datasets.mnist_mosaic import MnistMosaic
from equihash.datasets.noisy_open_images_mosaic import NoisyOpenImagesMosaic
from equihash.datasets.procedural import ProceduralDatabase

__all__ = ["MnistMosaic", "NoisyOpenImagesMosaic", "ProceduralDatabase"]
