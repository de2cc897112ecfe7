"""Networks: one module each. A new module in this folder is found by itself; configurations name its class."""

from equihash.discovery import find_classes
from equihash.models.network import Network

_classes = find_classes(__name__, Network)
globals().update(_classes)
__all__ = [*_classes]
