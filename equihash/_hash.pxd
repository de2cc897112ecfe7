"""The hash of codes, for the extensions: inline C, without the GIL."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t mix(uint64_t h) noexcept nogil:
    """The 64-bit finalizer of MurmurHash3: a bijection whose every output bit depends on every input bit."""
    h = (h ^ (h >> 33)) * <uint64_t>0xff51afd7ed558ccd
    h = (h ^ (h >> 33)) * <uint64_t>0xc4ceb9fe1a85ec53
    return h ^ (h >> 33)


cdef inline uint64_t load8(const uint8_t *code) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, code, 8)
    return word


cdef inline uint64_t hash_code(const uint8_t *code, int nbytes) noexcept nogil:
    """Hash of the code's little-endian 8-byte words, the last one padded with zeros."""
    cdef uint64_t h = 0, tail = 0
    cdef int i
    if nbytes == 8:
        return mix(load8(code))
    while nbytes >= 8:
        h = mix(h ^ load8(code))
        code += 8
        nbytes -= 8
    if nbytes:
        for i in range(nbytes):
            tail |= <uint64_t>code[i] << (8 * i)
        h = mix(h ^ tail)
    return h
