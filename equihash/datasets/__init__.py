"""Procedural mosaic datasets."""

from equihash.datasets.mnist_mosaic import MnistMosaic
from equihash.datasets.procedural import ProceduralDatabase

__all__ = ["MnistMosaic", "ProceduralDatabase"]
