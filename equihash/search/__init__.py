"""Retrieval: the inverted index from fingerprints to items, and which codes to look up beside a query's own."""

from equihash.search.inverted_index import InvertedIndex
from equihash.search.probing import neighbour_codes, probe_codes

__all__ = ["InvertedIndex", "neighbour_codes", "probe_codes"]
