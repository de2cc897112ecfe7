"""Equihash: networks that map every instance of a class to the same binary fingerprint."""

__version__ = "1.0.0"
