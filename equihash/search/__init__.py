"""Retrieval: the inverted index from fingerprints to items, and multi-probe look-ups."""

import sys

try:
    from equihash.search.inverted_index import InvertedIndex
    from equihash.search.probing import probe_codes
except ImportError as error:
    if not (error.name or "").endswith("_index") and "_index" not in str(error):
        raise
    print("error: the index is not compiled: run python setup.py build_ext --inplace", file=sys.stderr)
    sys.exit(2)

__all__ = ["InvertedIndex", "probe_codes"]
