"""Fingerprints, one module a stage:

encoding.py           labels to mosaics to logits to codes, by one job or by several
merging.py            the shares of several jobs in one file
indexing.py           the inverted index of the codes
row_file.py           a file of codes or logits that is being written, and can be resumed
fingerprint_file.py   a complete one that is read, and the format
"""

from equihash.fingerprints.encoding import encode_database
from equihash.fingerprints.fingerprint_file import Fingerprints, expected_work, job_range
from equihash.fingerprints.indexing import build_index, index_metadata, load_index, open_index
from equihash.fingerprints.merging import merge_shards
from equihash.fingerprints.row_file import RowFile

__all__ = [
    "Fingerprints",
    "RowFile",
    "build_index",
    "encode_database",
    "expected_work",
    "index_metadata",
    "job_range",
    "load_index",
    "merge_shards",
    "open_index",
]
