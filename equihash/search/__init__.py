"""Retrieval: the inverted index from fingerprints to items, and multi-probe look-ups."""

from equihash.search.inverted_index import InvertedIndex
from equihash.search.probing import probe_codes

__all__ = ["InvertedIndex", "probe_codes"]
