"""Data sets: one module each. A new module in this folder is found by itself; configurations name its class."""

from equihash.datasets.dataset import Dataset
from equihash.datasets.procedural import ProceduralDatabase as ProceduralDatabase
from equihash.discovery import find_classes

_classes = find_classes(__name__, Dataset)
globals().update(_classes)
__all__ = [*_classes]
