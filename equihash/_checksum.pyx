# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Checksums of arrays, at the speed of memory, on every core.

The checksum of an array is the sum modulo 2^64 of (8 bytes of the row) x (an odd number that depends on its place). An
odd factor preserves differences, so that one damaged row of up to 8 bytes always changes the sum. Longer rows are
hashed to 8 bytes first. The checksums of parts add up to that of the whole, in any order, so that threads can share the
work and a file can be written in parts; xxHash, about as fast on one core, has no such parts.

Which checksum is for what:

- this one: arrays of labels, codes, logits, counts and the index, which are large;
- SHA-256 (`equihash.files`): digests that say whether labels, weights, banks or pictures are the same;
- CRC-32: the header of an index, which is small;
- MD5: the idx files of MNIST, as published with them.
"""

import numpy as np

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from equihash._hash cimport hash_code, load8

cnp.import_array()

cdef enum:
    PARALLEL = 4096     # fewer rows than this are not worth waking the other threads
    BLOCK = 65536       # rows that a thread takes at once


cdef inline uint64_t weight(int64_t position) noexcept nogil:
    return (2 * <uint64_t>position + 1) * <uint64_t>0x9e3779b97f4a7c15


cdef uint64_t sum_rows(const uint8_t *rows, int64_t n, int nbytes, int64_t first) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t half
    cdef int64_t i
    if nbytes == 8:
        for i in range(n):
            total += load8(rows + 8 * i) * weight(first + i)
    elif nbytes == 4:
        for i in range(n):
            memcpy(&half, rows + 4 * i, 4)
            total += half * weight(first + i)
    else:
        for i in range(n):
            total += hash_code(rows + i * nbytes, nbytes) * weight(first + i)
    return total


def checksum(cnp.ndarray array not None, int64_t first=0):
    """Checksum (int below 2^64) of the rows of a C-contiguous array, which are rows `first`, `first` + 1, ... of a whole.

    Those of the parts of a whole add up, modulo 2^64, to its own.
    """
    cdef int64_t block, n = len(array), nb_blocks = (n + BLOCK - 1) // BLOCK
    cdef int nbytes = array.nbytes // max(n, 1)
    cdef const uint8_t *rows = <const uint8_t *>cnp.PyArray_DATA(array)
    cdef uint64_t total = 0
    assert array.flags.c_contiguous
    for block in prange(nb_blocks, nogil=True, schedule="static", use_threads_if=nb_blocks > 1):
        total += sum_rows(rows + block * BLOCK * nbytes, min(n - block * BLOCK, <int64_t>BLOCK), nbytes,
                          first + block * BLOCK)
    return total


def checksums(cnp.ndarray array not None, int64_t nb_rows):
    """Checksums of each run of `nb_rows` rows of a C-contiguous array: uint64 (number of runs,), never 0 for zeros."""
    cdef int64_t run, n = len(array), nb_runs = (n + nb_rows - 1) // nb_rows
    cdef int nbytes = array.nbytes // max(n, 1)
    cdef const uint8_t *rows = <const uint8_t *>cnp.PyArray_DATA(array)
    cdef cnp.ndarray[uint64_t, ndim=1] sums = np.empty(nb_runs, dtype=np.uint64)
    cdef uint64_t *out = <uint64_t *>cnp.PyArray_DATA(sums)
    assert array.flags.c_contiguous
    for run in prange(nb_runs, nogil=True, schedule="static", use_threads_if=n > PARALLEL):
        out[run] = ~sum_rows(rows + run * nb_rows * nbytes, min(n - run * nb_rows, nb_rows), nbytes, 0)
    return sums
