"""Trainers: one class a loss. A new module in this folder is found by itself; configurations name its class."""

from equihash.discovery import find_classes
from equihash.trainers.trainer import Trainer

_classes = find_classes(__name__, Trainer)
globals().update(_classes)
__all__ = [*_classes]
