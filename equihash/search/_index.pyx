# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops of the inverted index and of multi-probing: plain C, without the GIL, on every core.

An index is three arrays. The items are sorted by (bucket, code, id), where the bucket of a code is the top `bits` bits
of its hash:

    codes    (N, nbytes)    uint8              the code of each item
    ids      (N,)           uint32 or uint64   the number of each item
    offsets  (2^bits + 1,)  same as ids        where each bucket begins, then N

Numbers take 4 bytes (`wide` = 0), or 8 where there are 2^32 items or more (`wide` = 1). Equal codes are neighbours, so
all their ids are one slice. A shard of an index holds some consecutive buckets alone. Nothing read from an array is
trusted as a position before its bounds are checked, because the arrays may be a mapped file that is damaged.
"""

import numpy as np

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from equihash._hash cimport hash_code, load8

from equihash.errors import Damaged, Remedy

REBUILD = Remedy("build_index")
SORT_FROM = 2**30   # queries are sorted if the index has at least so many bytes,
SORT_SPAN = 2**18   # and they are at least one for so many bytes of it

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    #define omp_get_max_threads() 1
    #endif
    """
    int omp_get_max_threads() noexcept nogil
    void __builtin_prefetch(const void *address) noexcept nogil
    int __builtin_ctz(unsigned int word) noexcept nogil
    int __builtin_popcount(unsigned int word) noexcept nogil
    uint64_t __builtin_bswap64(uint64_t word) noexcept nogil

cnp.import_array()

cdef enum:
    BLOCK = 1024        # queries that a thread takes at once
    AHEAD = 16          # memory is fetched so many queries ahead of its use
    SMALL = 16          # a bucket or run of at most this size is scanned, a larger one is bisected or merged
    BLOCKS = 4          # blocks of rows a thread, so that the others need not wait for a slow one
    PARALLEL = 4096     # fewer items than this are not worth waking the other threads
    SORT_BITS = 10      # queries are sorted by so many bits of the hash


# ---- Codes, and numbers of 4 or 8 bytes ------------------------------------------------------------------------------

cdef inline int64_t top(uint64_t h, int bits) noexcept nogil:
    """The `bits` top bits of h (0 to 63)."""
    return <int64_t>((h >> 1) >> (63 - bits))


cdef inline int compare(const uint8_t *a, const uint8_t *b, int nbytes) noexcept nogil:
    """Lexicographic order of two codes: negative, zero or positive."""
    cdef uint64_t x, y
    if nbytes == 8:
        x = __builtin_bswap64(load8(a))
        y = __builtin_bswap64(load8(b))
        return (x > y) - (x < y)
    return memcmp(a, b, nbytes)


cdef inline bint equals(const uint8_t *a, const uint8_t *b, int nbytes) noexcept nogil:
    return load8(a) == load8(b) if nbytes == 8 else memcmp(a, b, nbytes) == 0


cdef inline void copy(uint8_t *to, const uint8_t *source, int nbytes) noexcept nogil:
    if nbytes == 8:
        memcpy(to, source, 8)
    else:
        memcpy(to, source, nbytes)


cdef inline uint64_t get(const void *numbers, bint wide, int64_t i) noexcept nogil:
    return (<const uint64_t *>numbers)[i] if wide else (<const uint32_t *>numbers)[i]


cdef inline void put(void *numbers, bint wide, int64_t i, uint64_t value) noexcept nogil:
    if wide:
        (<uint64_t *>numbers)[i] = value
    else:
        (<uint32_t *>numbers)[i] = <uint32_t>value


# ---- Building --------------------------------------------------------------------------------------------------------
#
# Two stable counting sorts, each to as many places as the caches can follow: `place` deals the items out to the
# partitions (the top bits of the hash), `sort_partitions` sorts each partition by bucket in the cache, then every
# bucket by code. Ids come in ascending order and are never compared.

cdef void count_block(const uint8_t *codes, int64_t n, int nbytes, int bits, int64_t *counts) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        counts[top(hash_code(codes + i * nbytes, nbytes), bits)] += 1


cdef void place_block(const uint8_t *codes, int64_t n, int64_t first_id, int nbytes, bint wide, int bits,
                      int64_t *position, uint8_t *out_codes, void *out_ids) noexcept nogil:
    cdef int64_t i, partition, to
    for i in range(n):
        partition = top(hash_code(codes + i * nbytes, nbytes), bits)
        to = position[partition]
        if to < 0:
            continue
        position[partition] = to + 1
        copy(out_codes + to * nbytes, codes + i * nbytes, nbytes)
        put(out_ids, wide, to, first_id + i)


cdef cnp.ndarray count_blocks(const uint8_t[:, ::1] codes, int bits):
    """Items of each partition in each of some blocks of the rows: int64 (blocks, 2^bits)."""
    cdef int blocks = BLOCKS * omp_get_max_threads() if codes.shape[0] > PARALLEL else 1, b
    cdef int nbytes = codes.shape[1]
    cdef int64_t n = codes.shape[0]
    cdef cnp.ndarray[int64_t, ndim=2] counts = np.zeros((blocks, 1 << bits), dtype=np.int64)
    cdef int64_t *out = &counts[0, 0]
    if n:
        for b in prange(blocks, nogil=True, schedule="dynamic", use_threads_if=blocks > 1):
            count_block(&codes[0, 0] + n * b // blocks * nbytes, n * (b + 1) // blocks - n * b // blocks,
                        nbytes, bits, out + (<int64_t>b << bits))
    return counts


def histogram(const uint8_t[:, ::1] codes, int bits):
    """Number of items in each partition, int64 (2^bits,): a partition is the top `bits` bits of the hash."""
    return count_blocks(codes, bits).sum(axis=0)


cdef place_blocks(const uint8_t[:, ::1] codes, int64_t first_id, cnp.ndarray[int64_t, ndim=2] position, int bits,
                  uint8_t[:, ::1] out_codes, cnp.ndarray out_ids):
    """Place blocks of the rows; `position`, int64 (blocks, 2^bits), is used up."""
    cdef int nbytes = codes.shape[1], blocks = len(position), b
    cdef bint wide = out_ids.itemsize == 8
    cdef int64_t n = codes.shape[0]
    cdef int64_t *to = &position[0, 0]
    cdef void *ids = cnp.PyArray_DATA(out_ids)
    for b in prange(blocks, nogil=True, schedule="dynamic", use_threads_if=blocks > 1):
        place_block(&codes[0, 0] + n * b // blocks * nbytes, n * (b + 1) // blocks - n * b // blocks,
                    first_id + n * b // blocks, nbytes, wide, bits, to + (<int64_t>b << bits), &out_codes[0, 0], ids)


def place(const uint8_t[:, ::1] codes, int64_t first_id, int64_t[::1] position, uint8_t[:, ::1] out_codes,
          cnp.ndarray out_ids not None):
    """Append the items `first_id`, `first_id` + 1, ... to their partitions.

    `position` int64 (2^bits,) is the place in the output of the next item of each partition, or negative if the
    partition is left out; it is updated.
    """
    cdef int bits = (<object>len(position)).bit_length() - 1
    if len(codes) == 0 or len(out_codes) == 0:
        return
    counts = count_blocks(codes, bits)
    start = np.asarray(position)
    left_out = start < 0
    cursors = start + np.cumsum(counts, axis=0) - counts
    cursors[:, left_out] = -1
    place_blocks(codes, first_id, cursors, bits, out_codes, out_ids)
    start += np.where(left_out, 0, counts.sum(axis=0))


cdef void sort_run(uint8_t *codes, void *ids, bint wide, int64_t first, int64_t n, int nbytes,
                   uint8_t *spare_codes, void *spare_ids) noexcept nogil:
    """Stable sort by code of the n items from `first`: insertion sort if there are few, else merge sort.

    Two halves that are in order already are not merged, so that a code with millions of items costs one scan.
    """
    cdef int64_t i, j, left, right, half
    cdef uint64_t number
    if n <= SMALL:
        for i in range(first + 1, first + n):
            if compare(codes + (i - 1) * nbytes, codes + i * nbytes, nbytes) <= 0:
                continue
            copy(spare_codes, codes + i * nbytes, nbytes)
            number = get(ids, wide, i)
            j = i
            while j > first and compare(codes + (j - 1) * nbytes, spare_codes, nbytes) > 0:
                copy(codes + j * nbytes, codes + (j - 1) * nbytes, nbytes)
                put(ids, wide, j, get(ids, wide, j - 1))
                j -= 1
            copy(codes + j * nbytes, spare_codes, nbytes)
            put(ids, wide, j, number)
        return
    half = n // 2
    sort_run(codes, ids, wide, first, half, nbytes, spare_codes, spare_ids)
    sort_run(codes, ids, wide, first + half, n - half, nbytes, spare_codes, spare_ids)
    if compare(codes + (first + half - 1) * nbytes, codes + (first + half) * nbytes, nbytes) <= 0:
        return
    memcpy(spare_codes, codes + first * nbytes, half * nbytes)
    for i in range(half):
        put(spare_ids, wide, i, get(ids, wide, first + i))
    left = 0
    right = first + half
    i = first
    while left < half:
        if right < first + n and compare(codes + right * nbytes, spare_codes + left * nbytes, nbytes) < 0:
            copy(codes + i * nbytes, codes + right * nbytes, nbytes)
            put(ids, wide, i, get(ids, wide, right))
            right += 1
        else:
            copy(codes + i * nbytes, spare_codes + left * nbytes, nbytes)
            put(ids, wide, i, get(spare_ids, wide, left))
            left += 1
        i += 1


cdef void sort_partition(uint8_t *codes, void *ids, bint wide, int64_t first, int64_t n, int nbytes, int bits,
                         int sub_bits, void *offsets, int64_t row,
                         uint8_t *spare_codes, void *spare_ids) noexcept nogil:
    """Sort the n items from `first` by (bucket, code) and write where each bucket begins to a row of `offsets`."""
    cdef int64_t i, bucket, to, start, end, buckets = <int64_t>1 << sub_bits, base = row << sub_bits
    for bucket in range(buckets):
        put(offsets, wide, base + bucket, 0)
    for i in range(first, first + n):
        bucket = base + (top(hash_code(codes + i * nbytes, nbytes), bits) & (buckets - 1))
        put(offsets, wide, bucket, get(offsets, wide, bucket) + 1)
    start = first
    for bucket in range(base, base + buckets):
        end = start + get(offsets, wide, bucket)
        put(offsets, wide, bucket, start)
        start = end
    memcpy(spare_codes, codes + first * nbytes, n * nbytes)
    for i in range(n):
        put(spare_ids, wide, i, get(ids, wide, first + i))
    for i in range(n):
        bucket = base + (top(hash_code(spare_codes + i * nbytes, nbytes), bits) & (buckets - 1))
        to = get(offsets, wide, bucket)
        put(offsets, wide, bucket, to + 1)
        copy(codes + to * nbytes, spare_codes + i * nbytes, nbytes)
        put(ids, wide, to, get(spare_ids, wide, i))
    start = first
    for bucket in range(base, base + buckets):     # the beginning of the bucket has become its end
        end = get(offsets, wide, bucket)
        put(offsets, wide, bucket, start)
        if end - start > 1:
            sort_run(codes, ids, wide, start, end - start, nbytes, spare_codes, spare_ids)
        start = end


def sort_partitions(uint8_t[:, ::1] codes, cnp.ndarray ids not None, int64_t[::1] bounds, int bits, int sub_bits,
                    cnp.ndarray offsets not None, int64_t memory):
    """Sort every partition by (bucket, code, id), in place.

    The i-th partition is the items bounds[i] to bounds[i + 1], and has 2^sub_bits buckets, whose beginnings go to
    row i of `offsets`. Each thread needs room for the largest partition: there are as many as `memory` bytes allow,
    but at least one.
    """
    cdef int64_t i, n = len(bounds) - 1, largest = max(np.diff(bounds).max(initial=0), 1), at
    cdef int nbytes = codes.shape[1], threads = omp_get_max_threads() if codes.shape[0] > PARALLEL else 1
    cdef bint wide = ids.itemsize == 8
    threads = max(min(threads, memory // (largest * (nbytes + ids.itemsize))), 1)
    cdef cnp.ndarray spare_codes = np.empty((threads, largest, nbytes), dtype=np.uint8)
    cdef cnp.ndarray spare_ids = np.empty((threads, largest), dtype=ids.dtype)
    cdef uint8_t *spare_code = <uint8_t *>cnp.PyArray_DATA(spare_codes)
    cdef uint8_t *spare_id = <uint8_t *>cnp.PyArray_DATA(spare_ids)
    cdef uint8_t *code = &codes[0, 0] if codes.shape[0] else NULL
    cdef void *number = cnp.PyArray_DATA(ids)
    cdef void *offset = cnp.PyArray_DATA(offsets)
    for i in prange(n, nogil=True, schedule="dynamic", num_threads=threads):
        at = threadid() * largest
        sort_partition(code, number, wide, bounds[i], bounds[i + 1] - bounds[i], nbytes, bits, sub_bits, offset, i,
                       spare_code + at * nbytes, spare_id + at * (8 if wide else 4))


# ---- Reading ---------------------------------------------------------------------------------------------------------

cdef struct Arrays:
    int64_t size
    int64_t database_size       # every id is less
    int64_t first_bucket        # the first of this shard
    int64_t buckets             # and how many it has
    int nbytes
    int bits
    bint wide
    const uint8_t *codes
    const void *ids
    const void *offsets


cdef inline int64_t bound(const Arrays *a, const uint8_t *code, int64_t low, int64_t high, int least) noexcept nogil:
    """First item from `low` to `high` that compares to the code as `least` or more (0: not before it, 1: after it)."""
    cdef int64_t middle
    while low < high:
        middle = low + (high - low) // 2
        if compare(a.codes + middle * a.nbytes, code, a.nbytes) < least:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int64_t find(const Arrays *a, const uint8_t *code, int64_t start, int64_t end, int nbytes,
                         int64_t *first) noexcept nogil:
    """Number of items with this code in the bucket `start` to `end`; the first of them goes to `first`."""
    cdef int64_t i, j, equal = 0
    cdef unsigned int same
    first[0] = start
    if end - start <= SMALL:
        for i in range(start, end, 8):      # by eights, and no branch on a code: few are mispredicted
            same = 0
            for j in range(8):
                same |= <unsigned int>equals(a.codes + min(i + j, end - 1) * nbytes, code, nbytes) << j
            same &= (2 << min(end - 1 - i, 7)) - 1
            if equal == 0:
                first[0] = i + __builtin_ctz(same | 256)
            equal += __builtin_popcount(same)
        return equal
    first[0] = bound(a, code, start, end, 0)
    return bound(a, code, first[0], end, 1) - first[0]


cdef inline int find_block(const Arrays *a, const uint8_t *queries, int64_t n, int nbytes, bint wide,
                           int64_t *first, int64_t *counts) noexcept nogil:
    """Find n codes; return 1 where an offset is damaged.

    Each query waits twice for the memory, so three of them, AHEAD apart, are handled at a time: while one is compared,
    the codes of the next and the offsets of the one after are fetched. `first` and `counts` have the results so far.
    """
    cdef int64_t i, j
    cdef int damaged = 0, number = 8 if wide else 4
    for i in range(n + 2 * AHEAD):
        if i < n:
            first[i] = top(hash_code(queries + i * nbytes, nbytes), a.bits) - a.first_bucket
            __builtin_prefetch(<const uint8_t *>a.offsets + first[i] * number)
        j = i - AHEAD
        if 0 <= j < n:
            if first[j] < 0 or a.buckets <= first[j]:       # of another shard
                first[j] = counts[j] = 0
            else:
                counts[j] = <int64_t>get(a.offsets, wide, first[j] + 1)
                first[j] = <int64_t>get(a.offsets, wide, first[j])
            if first[j] < 0 or counts[j] < first[j] or a.size < counts[j]:
                damaged = 1
                first[j] = counts[j] = 0
            __builtin_prefetch(a.codes + first[j] * nbytes)
            __builtin_prefetch(a.codes + counts[j] * nbytes - 1)      # most often the same cache line
        j = i - 2 * AHEAD
        if j >= 0:
            counts[j] = find(a, queries + j * nbytes, first[j], counts[j], nbytes, first + j)
    return damaged


cdef int find_many(const Arrays *a, const uint8_t *queries, int64_t n, int64_t *first, int64_t *counts) noexcept nogil:
    """`find_block`, compiled for the commonest sizes and for all others."""
    if a.nbytes == 8 and not a.wide:
        return find_block(a, queries, n, 8, False, first, counts)
    return find_block(a, queries, n, a.nbytes, a.wide, first, counts)


cdef int find_sorted(const Arrays *a, const uint8_t *queries, const uint64_t *order, int64_t n,
                     int64_t *first, int64_t *counts) noexcept nogil:
    """Find n <= BLOCK codes; the count of the i-th goes to counts[order[i]], the rest is as with `find_block`."""
    cdef int64_t[BLOCK] found
    cdef int64_t i
    cdef int damaged = find_many(a, queries, n, first, found)
    for i in range(n):
        counts[order[i]] = found[i]
    return damaged


cdef int copy_ids(const Arrays *a, int64_t first, int64_t n, int64_t *out) noexcept nogil:
    """Copy n ids to `out`; return 1 where one of them is damaged."""
    cdef int64_t i
    cdef uint64_t number, largest = 0
    for i in range(n):
        number = get(a.ids, a.wide, first + i)
        largest = max(largest, number)
        out[i] = <int64_t>number
    return n > 0 and largest >= <uint64_t>a.database_size


cdef int copy_sorted(const Arrays *a, const int64_t *first, const uint64_t *order, const int64_t *offsets, int64_t n,
                     int64_t *out) noexcept nogil:
    """Copy n slices of ids, that of the i-th to where offsets[order[i]] says; return 1 where an id is damaged."""
    cdef int64_t i, j
    cdef int damaged = 0, number = 8 if a.wide else 4
    for i in range(n):
        j = min(i + 2 * AHEAD, n - 1)
        __builtin_prefetch(<const uint8_t *>a.ids + first[j] * number)
        __builtin_prefetch(offsets + order[j])
        j = min(i + AHEAD, n - 1)
        __builtin_prefetch(out + offsets[order[j]])
        damaged |= copy_ids(a, first[i], offsets[order[i] + 1] - offsets[order[i]], out + offsets[order[i]])
    return damaged


cdef int copy_many(const Arrays *a, const int64_t *first, const int64_t *offsets, int64_t n,
                   int64_t *out) noexcept nogil:
    """Copy n slices of ids, fetched ahead, to their places in `out`; return 1 where one of them is damaged."""
    cdef int64_t i, j
    cdef int damaged = 0, number = 8 if a.wide else 4
    for i in range(n):
        j = min(i + AHEAD, n - 1)
        __builtin_prefetch(<const uint8_t *>a.ids + first[j] * number)
        damaged |= copy_ids(a, first[i], offsets[i + 1] - offsets[i], out + offsets[i])
    return damaged


cdef class Reader:
    """Reads the three sorted arrays (see the head of this module); checks every bound.

    Where the arrays contradict each other, all methods raise `Damaged`, about `name`.
    """

    cdef Arrays arrays
    cdef readonly cnp.ndarray codes, ids, offsets
    cdef readonly object name

    def __init__(self, cnp.ndarray codes not None, cnp.ndarray ids not None, cnp.ndarray offsets not None,
                 int bits, int64_t first_bucket, int64_t database_size, name="the index"):
        assert codes.dtype == np.uint8 and codes.ndim == 2 and codes.flags.c_contiguous and len(ids) == len(codes)
        assert ids.dtype == offsets.dtype and ids.dtype in (np.uint32, np.uint64)
        assert ids.flags.c_contiguous and offsets.flags.c_contiguous
        self.codes, self.ids, self.offsets, self.name = codes, ids, offsets, name
        self.arrays.size = len(codes)
        self.arrays.nbytes = codes.shape[1]
        self.arrays.database_size = database_size
        self.arrays.first_bucket = first_bucket
        self.arrays.buckets = len(offsets) - 1
        self.arrays.bits = bits
        self.arrays.wide = ids.itemsize == 8
        self.arrays.codes = <const uint8_t *>cnp.PyArray_DATA(codes)
        self.arrays.ids = cnp.PyArray_DATA(ids)
        self.arrays.offsets = cnp.PyArray_DATA(offsets)
        assert 0 <= first_bucket <= first_bucket + self.arrays.buckets <= <int64_t>1 << bits

    def __len__(self):
        return self.arrays.size

    def check(self, int damaged):
        """Raise `Damaged` if `damaged` is not 0."""
        if damaged:
            raise Damaged(f"{self.name} is damaged", REBUILD)

    # The codes of these methods are uint8 (Q, nbytes), C-contiguous, which is not checked.

    def in_shard(self, const uint8_t[:, ::1] codes):
        """Whether the buckets of the codes are of this shard: bool (Q,)."""
        cdef int64_t i, bucket, n = codes.shape[0]
        cdef cnp.ndarray held = np.empty(n, dtype=bool)
        cdef uint8_t *out = <uint8_t *>cnp.PyArray_DATA(held)
        for i in prange(n, nogil=True, schedule="static", use_threads_if=n > PARALLEL):
            bucket = top(hash_code(&codes[i, 0], self.arrays.nbytes), self.arrays.bits) - self.arrays.first_bucket
            out[i] = 0 <= bucket and bucket < self.arrays.buckets
        return held

    def sort_queries(self, const uint8_t[:, ::1] queries):
        """Return the queries in about the order of the index, and the number of each: uint64 (Q,).

        A miss of the cache then costs half as much, as neighbours share the entries of page tables. Where that does not
        pay (few queries, or a small index), return the queries as they are, and None.
        """
        cdef int64_t n = queries.shape[0]
        size = self.codes.nbytes + self.ids.nbytes + self.offsets.nbytes
        if size < SORT_FROM or n < size // SORT_SPAN:
            return queries, None
        counts = count_blocks(queries, SORT_BITS)
        cursors = np.cumsum(counts, axis=0) - counts
        counts = counts.sum(axis=0)
        cursors += np.cumsum(counts) - counts
        out, order = np.empty_like(queries), np.empty(n, dtype=np.uint64)
        place_blocks(queries, 0, cursors, SORT_BITS, out, order)
        return out, order

    cdef find_all(self, const uint8_t[:, ::1] queries, const uint64_t[::1] order, int64_t[::1] first,
                  int64_t[::1] counts):
        """Find all codes: the count of the i-th goes to counts[order[i]], or to counts[i] if there is no order."""
        cdef int64_t block, n = queries.shape[0], blocks = (n + BLOCK - 1) // BLOCK
        cdef bint is_sorted = order is not None
        cdef int damaged = 0
        for block in prange(blocks, nogil=True, schedule="dynamic", use_threads_if=n > PARALLEL):
            if is_sorted:
                damaged += find_sorted(&self.arrays, &queries[block * BLOCK, 0], &order[block * BLOCK],
                                       min(BLOCK, n - block * BLOCK), &first[block * BLOCK], &counts[0])
            else:
                damaged += find_many(&self.arrays, &queries[block * BLOCK, 0], min(BLOCK, n - block * BLOCK),
                                     &first[block * BLOCK], &counts[block * BLOCK])
        self.check(damaged)

    def sizes(self, queries):
        """The number of items of each code: int64 (Q,)."""
        counts = np.empty(len(queries), dtype=np.int64)
        queries, order = self.sort_queries(queries)
        self.find_all(queries, order, np.empty(len(queries), dtype=np.int64), counts)
        return counts

    def find(self, queries):
        """The ids of all codes as a CSR: offsets int64 (Q + 1,), ids int64."""
        first = np.empty(len(queries), dtype=np.int64)
        offsets = np.zeros(len(queries) + 1, dtype=np.int64)
        queries, order = self.sort_queries(queries)
        self.find_all(queries, order, first, offsets[1:])
        np.cumsum(offsets, out=offsets)
        return offsets, self.gather(first, order, offsets)

    cdef gather(self, const int64_t[::1] first, const uint64_t[::1] order, const int64_t[::1] offsets):
        """The slices of ids that begin at `first`, that of the i-th where offsets[order[i]] (or offsets[i]) says."""
        cdef int64_t block, n = first.shape[0], blocks = (n + BLOCK - 1) // BLOCK
        cdef bint is_sorted = order is not None
        cdef int damaged = 0
        cdef cnp.ndarray ids = np.empty(offsets[n], dtype=np.int64)
        cdef int64_t *out = <int64_t *>cnp.PyArray_DATA(ids)
        for block in prange(blocks, nogil=True, schedule="dynamic", use_threads_if=blocks > 4):
            if is_sorted:
                damaged += copy_sorted(&self.arrays, &first[block * BLOCK], &order[block * BLOCK], &offsets[0],
                                       min(BLOCK, n - block * BLOCK), out)
            else:
                damaged += copy_many(&self.arrays, &first[block * BLOCK], &offsets[block * BLOCK],
                                     min(BLOCK, n - block * BLOCK), out)
        self.check(damaged)
        return ids

    def __getitem__(self, const uint8_t[:] code):
        """Return the ids, int64 ascending, of one code: uint8 (nbytes,) or bytes."""
        cdef int64_t first = 0, count = 0
        cdef cnp.npy_intp size
        cdef cnp.ndarray ids
        if code.shape[0] != self.arrays.nbytes:
            raise ValueError(f"a code of this index has {self.arrays.nbytes} bytes, not {code.shape[0]}")
        if code.strides[0] != 1:
            code = np.ascontiguousarray(code)
        if find_many(&self.arrays, &code[0], 1, &first, &count):
            self.check(True)
        size = count
        ids = cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT64, 0)
        if copy_ids(&self.arrays, first, count, <int64_t *>cnp.PyArray_DATA(ids)):
            self.check(True)
        return ids

    def next_groups(self, int64_t start, int64_t most):
        """The next groups of items with one code, from position `start`: at most `most` items, or one larger group.

        Returns offsets int64 (G + 1,), ids int64, and the next position.
        """
        cdef const Arrays *a = &self.arrays
        cdef int64_t groups = 0, items = 0, end
        cdef cnp.ndarray[int64_t, ndim=1] first = np.empty(most // 2 + 1, dtype=np.int64)
        cdef cnp.ndarray[int64_t, ndim=1] offsets = np.zeros(most // 2 + 2, dtype=np.int64)
        with nogil:
            while start < a.size:
                end = start + 1
                while end < a.size and compare(a.codes + start * a.nbytes, a.codes + end * a.nbytes, a.nbytes) == 0:
                    end += 1
                if end - start > 1:
                    if groups and items + end - start > most:
                        break
                    first[groups] = start
                    groups += 1
                    items += end - start
                    offsets[groups] = items
                start = end
        return offsets[:groups + 1], self.gather(first[:groups], None, offsets[:groups + 1]), start


cdef int64_t different_pairs(uint64_t *numbers, int64_t n) noexcept nogil:
    cdef int64_t i, j, run = 0, pairs = n * (n - 1) // 2
    cdef uint64_t number
    for i in range(1, n):
        number = numbers[i]
        j = i
        while j > 0 and numbers[j - 1] > number:
            numbers[j] = numbers[j - 1]
            j -= 1
        numbers[j] = number
    for i in range(1, n):
        run = run + 1 if numbers[i] == numbers[i - 1] else 0
        pairs -= run
    return pairs


def count_different_pairs(const int64_t[::1] offsets, uint64_t[::1] numbers):
    """Unordered pairs of different numbers within the groups of a CSR.

    The numbers are sorted by insertion: large groups must be sorted already.
    """
    cdef int64_t i, pairs = 0, n = offsets.shape[0] - 1
    if numbers.shape[0]:
        for i in prange(n, nogil=True, schedule="dynamic", chunksize=256, use_threads_if=n > 256):
            pairs += different_pairs(&numbers[0] + offsets[i], offsets[i + 1] - offsets[i])
    return pairs


# ---- Multi-probing ---------------------------------------------------------------------------------------------------

cdef struct Flips:          # a set of bits to flip; bits are numbered by increasing |z|
    double total            # sum of |z| over the set
    double base             # the same without its last bit
    int last                # the last bit of the set
    int parent              # the probe that this set was made from
    int order               # sets of equal totals come out in the order in which they were made
    bint grown              # the parent's set and one bit more, or the parent's set with its last bit moved on


cdef inline bint before(const Flips *a, const Flips *b) noexcept nogil:
    return a.total < b.total or (a.total == b.total and a.order < b.order)


cdef inline void push(Flips *heap, int size, Flips new) noexcept nogil:
    cdef int i = size
    while i > 0 and before(&new, &heap[(i - 1) // 2]):
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = new


cdef inline void sink(Flips *heap, int size, Flips new) noexcept nogil:
    """Put `new` in the place of the first of the heap."""
    cdef int i = 0, child = 1
    while child < size:
        if child + 1 < size and before(&heap[child + 1], &heap[child]):
            child += 1
        if not before(&heap[child], &new):
            break
        heap[i] = heap[child]
        i = child
        child = 2 * i + 1
    heap[i] = new


cdef inline void flip(uint8_t *code, int bit) noexcept nogil:
    code[bit >> 3] ^= 128 >> (bit & 7)


cdef void probe_one(const float *z, int k, int probes, int nbytes, uint8_t *codes, double *cost, int *bit,
                    Flips *heap) noexcept nogil:
    cdef int i, j, size, made, bits = min(k, max(probes - 1, 1))     # at least b sets come before one with bit b
    cdef double c
    cdef Flips flips, new
    memset(codes, 0, nbytes)
    for i in range(k):      # the sign code, and the bits that may be flipped by increasing |z|, ties by position
        c = z[i]
        if c > 0:
            flip(codes, i)
        c = -c if c < 0 else c
        if i >= bits and c >= cost[bits - 1]:
            continue
        j = min(i, bits - 1)
        while j > 0 and cost[j - 1] > c:
            cost[j] = cost[j - 1]
            bit[j] = bit[j - 1]
            j -= 1
        cost[j] = c
        bit[j] = i
    heap[0] = Flips(total=cost[0], base=0, last=0, parent=0, order=0, grown=True)
    size = made = 1
    for i in range(1, probes):
        flips = heap[0]
        memcpy(codes + i * nbytes, codes + flips.parent * nbytes, nbytes)
        flip(codes + i * nbytes, bit[flips.last])
        if not flips.grown:
            flip(codes + i * nbytes, bit[flips.last - 1])
        if flips.last + 1 < bits:
            new.last = flips.last + 1
            new.parent = i
            new.base = flips.base
            new.total = new.base + cost[new.last]
            new.order = made
            new.grown = False
            sink(heap, size, new)
            new.base = flips.total
            new.total = new.base + cost[new.last]
            new.order = made + 1
            new.grown = True
            push(heap, size, new)
            size += 1
            made += 2
        else:
            size -= 1
            sink(heap, size, heap[size])


def probe(const float[:, ::1] logits, int probes):
    """The `probes` (>= 1) most probable codes of each row of logits: uint8 (Q, probes, ceil(k / 8))."""
    cdef int64_t q, n = logits.shape[0]
    cdef int k = logits.shape[1], nbytes = (k + 7) // 8, threads = omp_get_max_threads(), t
    cdef cnp.ndarray codes = np.empty((n, probes, nbytes), dtype=np.uint8)
    cdef uint8_t *out = <uint8_t *>cnp.PyArray_DATA(codes)
    cdef double[:, ::1] cost = np.empty((threads, k))
    cdef int[:, ::1] bit = np.empty((threads, k), dtype=np.intc)
    cdef size_t heap_size = (probes + 1) * sizeof(Flips)
    cdef uint8_t[:, ::1] heap = np.empty((threads, heap_size), dtype=np.uint8)
    for q in prange(n, nogil=True, schedule="dynamic", chunksize=16, num_threads=threads, use_threads_if=n > 16):
        t = threadid()
        probe_one(&logits[q, 0], k, probes, nbytes, out + q * probes * nbytes, &cost[t, 0], &bit[t, 0],
                  <Flips *>&heap[t, 0])
    return codes
