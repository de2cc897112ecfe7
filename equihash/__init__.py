"""Equihash: networks that map every instance of a class to the same binary fingerprint."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

__version__ = "1.0.0"


def _check_compiled():
    """Raise an `ImportError` unless all C modules are there; a script that ends with it prints one line."""
    sources = Path(__file__).parent.rglob("*.pyx")
    if all(PathFinder.find_spec(source.stem, [str(source.parent)]) for source in sources):
        return
    error = ImportError("the C modules are not compiled: run python setup.py build_ext --inplace")
    show = sys.excepthook

    def show_one_line(kind, value, traceback):
        if value is not error:
            return show(kind, value, traceback)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

    sys.excepthook = show_one_line
    raise error


_check_compiled()
