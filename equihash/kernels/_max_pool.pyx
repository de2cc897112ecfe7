# cython: boundscheck=False, wraparound=False, cdivision=True
"""Max-pooling of 2 x 2 and ReLU in one pass over memory on the CPU, and so its gradient.

For a network that is evaluated, the pass also scales and shifts each channel, as batch norm does.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
    #define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
    #else
    #define FOR_EACH_PROCESSOR
    #endif

    #define LANES 8                        /* of a vector: channels that are computed together */
    #define NONE 4                         /* ReLU has dropped all four */

    typedef float vector __attribute__((vector_size(4 * LANES), aligned(4)));
    typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
    typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));
    typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1)));

    /* bfloat16 is the upper half of a float, rounded to even. */
    #define LOAD_FLOAT32(from) (*(const vector *)(from))
    #define LOAD_BFLOAT16(from) ((vector)(__builtin_convertvector(*(const halves *)(from), words) << 16))
    #define STORE_FLOAT32(to, value) (*(vector *)(to) = (value))
    #define STORE_BFLOAT16(to, value)                                                                          \\
        do {                                                                                                   \\
            words bits = (words)(value);                                                                       \\
            bits += 0x7fff + ((bits >> 16) & 1);                                                               \\
            *(halves *)(to) = __builtin_convertvector(bits >> 16, halves);                                     \\
        } while (0)
    #define larger(a, b) larger_or_second(a, b, (words)((a) > (b)))
    #define larger_or_second(a, b, is_first) ((vector)((is_first & (words)(a)) | (~is_first & (words)(b))))

    /* One image: input (2 rows, 2 columns, channels), output (rows, columns, channels). */
    #define POOL(NAME, TYPE, LOAD, STORE)                                                                       \\
        FOR_EACH_PROCESSOR                                                                                      \\
        static void NAME(const float *scale, const float *shift, int rows, int columns, int channels,           \\
                         const TYPE *input, TYPE *output) {                                                     \\
            for (int y = 0; y < rows; y++)                                                                      \\
                for (int x = 0; x < columns; x++)                                                               \\
                    for (int c = 0; c < channels; c += LANES, output += LANES) {                                \\
                        const TYPE *upper = input + (2 * y * 2 * columns + 2 * x) * channels + c;               \\
                        const TYPE *lower = upper + 2 * columns * channels;                                     \\
                        vector left = larger(LOAD(upper), LOAD(lower));                                         \\
                        vector right = larger(LOAD(upper + channels), LOAD(lower + channels));                  \\
                        vector best = larger((vector){0}, larger(left, right));                                 \\
                        STORE(output, *(const vector *)(scale + c) * best + *(const vector *)(shift + c));      \\
                    }                                                                                           \\
        }

    POOL(pool_float32, float, LOAD_FLOAT32, STORE_FLOAT32)
    POOL(pool_bfloat16, uint16_t, LOAD_BFLOAT16, STORE_BFLOAT16)

    /* One image, for training: kept (rows, columns, channels) says which of the four is the maximum (0 1 / 2 3; the
       first of equals), or NONE. */
    #define KEEP(NAME, TYPE, LOAD, STORE)                                                                       \\
        FOR_EACH_PROCESSOR                                                                                      \\
        static void NAME(int rows, int columns, int channels, const TYPE *input, TYPE *output, uint8_t *kept) { \\
            for (int y = 0; y < rows; y++)                                                                      \\
                for (int x = 0; x < columns; x++)                                                               \\
                    for (int c = 0; c < channels; c += LANES, output += LANES, kept += LANES) {                 \\
                        const TYPE *upper = input + (2 * y * 2 * columns + 2 * x) * channels + c;               \\
                        vector best = LOAD(upper);                                                              \\
                        words which = {0};                                                                      \\
                        for (uint32_t place = 1; place < 4; place++) {                                          \\
                            vector next = LOAD(upper + (place / 2 * 2 * columns + place % 2) * channels);       \\
                            words is_larger = (words)(next > best);                                             \\
                            best = larger_or_second(next, best, is_larger);                                     \\
                            which = (is_larger & place) | (~is_larger & which);                                 \\
                        }                                                                                       \\
                        words dropped = (words)(best <= 0);                                                     \\
                        STORE(output, (vector)(~dropped & (words)best));                                        \\
                        *(bytes *)kept = __builtin_convertvector((dropped & NONE) | (~dropped & which), bytes); \\
                    }                                                                                           \\
        }

    KEEP(keep_float32, float, LOAD_FLOAT32, STORE_FLOAT32)
    KEEP(keep_bfloat16, uint16_t, LOAD_BFLOAT16, STORE_BFLOAT16)

    /* One image: `images`, the gradient of the input, is `gradient` where `kept` says so, and 0 elsewhere. */
    #define SPREAD(NAME, TYPE, VECTOR)                                                                          \\
        FOR_EACH_PROCESSOR                                                                                      \\
        static void NAME(int rows, int columns, int channels, const TYPE *gradient, const uint8_t *kept,        \\
                         TYPE *images) {                                                                        \\
            for (int y = 0; y < rows; y++)                                                                      \\
                for (int x = 0; x < columns; x++)                                                               \\
                    for (int c = 0; c < channels; c += LANES, gradient += LANES, kept += LANES) {               \\
                        TYPE *upper = images + (2 * y * 2 * columns + 2 * x) * channels + c;                    \\
                        const VECTOR slope = *(const VECTOR *)gradient;                                         \\
                        const VECTOR which = __builtin_convertvector(*(const bytes *)kept, VECTOR);             \\
                        for (int place = 0; place < 4; place++) {                                               \\
                            VECTOR *to = (VECTOR *)(upper + (place / 2 * 2 * columns + place % 2) * channels);  \\
                            *to = slope & (VECTOR)(which == (TYPE)place);                                       \\
                        }                                                                                       \\
                    }                                                                                           \\
        }

    SPREAD(spread_float32, uint32_t, words)
    SPREAD(spread_bfloat16, uint16_t, halves)
    """
    int LANES
    void pool_float32(const float *scale, const float *shift, int rows, int columns, int channels,
                      const float *input, float *output) noexcept nogil
    void pool_bfloat16(const float *scale, const float *shift, int rows, int columns, int channels,
                       const unsigned short *input, unsigned short *output) noexcept nogil
    void keep_float32(int rows, int columns, int channels, const float *input, float *output,
                      uint8_t *kept) noexcept nogil
    void keep_bfloat16(int rows, int columns, int channels, const unsigned short *input, unsigned short *output,
                       uint8_t *kept) noexcept nogil
    void spread_float32(int rows, int columns, int channels, const unsigned int *gradient, const uint8_t *kept,
                        unsigned int *images) noexcept nogil
    void spread_bfloat16(int rows, int columns, int channels, const unsigned short *gradient, const uint8_t *kept,
                         unsigned short *images) noexcept nogil

ctypedef fused number:
    float
    short                                  # the bits of a bfloat16


def takes(tuple shape):
    """Whether there is code for images (n, channels, height, width)."""
    return shape[0] > 0 and shape[1] % LANES == 0 and shape[2] % 2 == 0 and shape[3] % 2 == 0


def pool(const number[:, :, :, ::1] images, const float[::1] scale, const float[::1] shift,
         number[:, :, :, ::1] output):
    """Fill `output` (n, rows, columns, channels) from `images` (n, 2 rows, 2 columns, channels)."""
    cdef Py_ssize_t n
    cdef int rows = output.shape[1], columns = output.shape[2], channels = output.shape[3]
    for n in prange(images.shape[0], nogil=True, schedule="static"):
        if number is float:
            pool_float32(&scale[0], &shift[0], rows, columns, channels, &images[n, 0, 0, 0], &output[n, 0, 0, 0])
        else:
            pool_bfloat16(&scale[0], &shift[0], rows, columns, channels, <unsigned short *>&images[n, 0, 0, 0],
                          <unsigned short *>&output[n, 0, 0, 0])


def keep(const number[:, :, :, ::1] images, number[:, :, :, ::1] output, uint8_t[:, :, :, ::1] kept):
    """Fill `output` and `kept` (n, rows, columns, channels) from `images` (n, 2 rows, 2 columns, channels)."""
    cdef Py_ssize_t n
    cdef int rows = output.shape[1], columns = output.shape[2], channels = output.shape[3]
    for n in prange(images.shape[0], nogil=True, schedule="static"):
        if number is float:
            keep_float32(rows, columns, channels, &images[n, 0, 0, 0], &output[n, 0, 0, 0], &kept[n, 0, 0, 0])
        else:
            keep_bfloat16(rows, columns, channels, <unsigned short *>&images[n, 0, 0, 0],
                          <unsigned short *>&output[n, 0, 0, 0], &kept[n, 0, 0, 0])


def spread(const number[:, :, :, ::1] gradient, const uint8_t[:, :, :, ::1] kept, number[:, :, :, ::1] images):
    """Fill `images` (n, 2 rows, 2 columns, channels) from `gradient` (n, rows, columns, channels)."""
    cdef Py_ssize_t n
    cdef int rows = gradient.shape[1], columns = gradient.shape[2], channels = gradient.shape[3]
    for n in prange(gradient.shape[0], nogil=True, schedule="static"):
        if number is float:
            spread_float32(rows, columns, channels, <unsigned int *>&gradient[n, 0, 0, 0], &kept[n, 0, 0, 0],
                           <unsigned int *>&images[n, 0, 0, 0])
        else:
            spread_bfloat16(rows, columns, channels, <unsigned short *>&gradient[n, 0, 0, 0], &kept[n, 0, 0, 0],
                            <unsigned short *>&images[n, 0, 0, 0])
