# cython: boundscheck=False, wraparound=False, cdivision=True
"""First layer of MnistMosaicCNN on the CPU: convolution of one channel, 2 x 2 max-pooling and ReLU in one go.

The convolution's output is 16 times the size of its input, and three quarters of it are dropped by the pooling. Here it
never leaves the registers. What is kept may be stored as bfloat16; the sums of batch norm are taken on the way.
Channels are the fastest axis of all arrays; 8 of them make a vector, or 16 on a processor with AVX-512. `evaluate`
computes no more than a trained network needs.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #define SIDE 5                         /* of the kernel */
    #define VECTORS 3
    #define CHANNELS (8 * VECTORS)
    #define LARGEST 512                    /* width of the convolution's output */
    #define NONE 4                         /* ReLU has dropped all four */

    typedef float vector __attribute__((vector_size(32), aligned(4)));
    typedef int32_t mask __attribute__((vector_size(32), aligned(4)));
    typedef uint32_t words __attribute__((vector_size(32), aligned(4)));
    typedef uint16_t halves __attribute__((vector_size(16), aligned(2)));
    typedef uint8_t bytes8 __attribute__((vector_size(8), aligned(1)));

    #if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
    #define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
    #else
    #define FOR_EACH_PROCESSOR
    #endif

    /* For each of the 8 channels the one of four numbers (there twice, in lanes) that its place, 0 to 3, says. */
    #if defined(__clang__)
    #define PICK(four, place)                                                                           \
        (((vector){0} + (four)[0]) * -__builtin_convertvector((place) == 0, vector) +                   \
         ((vector){0} + (four)[1]) * -__builtin_convertvector((place) == 1, vector) +                   \
         ((vector){0} + (four)[2]) * -__builtin_convertvector((place) == 2, vector) +                   \
         ((vector){0} + (four)[3]) * -__builtin_convertvector((place) == 3, vector))
    #else
    #define PICK(four, place) __builtin_shuffle(four, place)
    #endif

    /* Vector number i of an array of floats, or of bfloat16 (the upper half of a float, rounded to even). */
    #define LOAD(array, i, bfloat16)                                                                    \\
        ((bfloat16) ? (vector)(__builtin_convertvector(((const halves *)(array))[i], words) << 16)      \\
                    : ((const vector *)(array))[i])
    #define STORE(array, i, bfloat16, value)                                                            \\
        do {                                                                                            \\
            if (bfloat16) {                                                                             \\
                words bits = (words)(value);                                                            \\
                bits += 0x7fff + ((bits >> 16) & 1);                                                    \\
                ((halves *)(array))[i] = __builtin_convertvector(bits >> 16, halves);                   \\
            } else                                                                                      \\
                ((vector *)(array))[i] = (value);                                                       \\
        } while (0)

    /* One image. weight: (SIDE, SIDE, CHANNELS); pooled, kept: (rows / 2, columns / 2, CHANNELS), of the convolution's
       rows and columns; kept: which of the four the maximum is (0 1 / 2 3), or NONE; sums: of pooled and its square. */
    FOR_EACH_PROCESSOR
    static void conv_pool(const float *image, const float *weight, const float *bias, int rows, int columns,
                          int bfloat16, void *pooled, uint8_t *kept, float *sums) {
        const int stride = columns + SIDE - 1;
        vector total[VECTORS] = {{0}}, squares[VECTORS] = {{0}};
        int number = 0;
        for (int y = 0; y < rows / 2; y++)
            for (int x = 0; x < columns / 2; x++) {
                const float *corner = image + 2 * y * stride + 2 * x;
                vector results[4][VECTORS];
                for (int place = 0; place < 4; place++) memcpy(results[place], bias, sizeof results[place]);
                for (int i = 0; i < SIDE; i++)
                    for (int j = 0; j < SIDE; j++) {
                        const vector *w = (const vector *)(weight + (i * SIDE + j) * CHANNELS);
                        for (int place = 0; place < 4; place++) {
                            const float pixel = corner[(i + place / 2) * stride + j + place % 2];
                            for (int v = 0; v < VECTORS; v++) results[place][v] += pixel * w[v];
                        }
                    }
                for (int v = 0; v < VECTORS; v++, number++) {
                    vector best = results[0][v];
                    mask which = {0};
                    for (int place = 1; place < 4; place++) {
                        mask larger = results[place][v] > best;
                        best = (vector)((larger & (mask)results[place][v]) | (~larger & (mask)best));
                        which = (larger & place) | (~larger & which);
                    }
                    mask dropped = best <= 0;
                    best = (vector)(~dropped & (mask)best);
                    STORE(pooled, number, bfloat16, best);
                    ((bytes8 *)kept)[number] = __builtin_convertvector((dropped & NONE) | (~dropped & which), bytes8);
                    total[v] += best;
                    squares[v] += best * best;
                }
            }
        memcpy(sums, total, sizeof total);
        memcpy(sums + CHANNELS, squares, sizeof squares);
    }

    /* output = scale * input + shift, for nb_rows of CHANNELS. */
    FOR_EACH_PROCESSOR
    static void scale_and_shift(const void *input, const float *scale, const float *shift, int nb_rows, int bfloat16,
                                void *output) {
        for (int number = 0; number < nb_rows * VECTORS; number += VECTORS)
            for (int v = 0; v < VECTORS; v++) {
                vector result = ((const vector *)shift)[v];
                result += ((const vector *)scale)[v] * LOAD(input, number + v, bfloat16);
                STORE(output, number + v, bfloat16, result);
            }
    }

    /* Sums of the gradient, and of its product with pooled. */
    FOR_EACH_PROCESSOR
    static void gradient_sums(const void *gradient, const void *pooled, int nb_rows, int bfloat16, float *sums) {
        vector total[VECTORS] = {{0}}, products[VECTORS] = {{0}};
        for (int number = 0; number < nb_rows * VECTORS; number += VECTORS)
            for (int v = 0; v < VECTORS; v++) {
                vector slope = LOAD(gradient, number + v, bfloat16);
                total[v] += slope;
                products[v] += slope * LOAD(pooled, number + v, bfloat16);
            }
        memcpy(sums, total, sizeof total);
        memcpy(sums + CHANNELS, products, sizeof products);
    }

    /* One image's part of the gradient of weight and bias; that of pooled is a * gradient + b * pooled + c, (a, b, c)
       being the rows of `factors`. */
    FOR_EACH_PROCESSOR
    static void conv_pool_backward(const float *image, const void *gradient, const void *pooled, const uint8_t *kept,
                                   const float *factors, int rows, int columns, int bfloat16, float *weight,
                                   float *bias) {
        const int stride = columns + SIDE - 1;
        const vector *a = (const vector *)factors, *b = a + VECTORS, *c = b + VECTORS;
        vector slopes[VECTORS][LARGEST / 2], squares[LARGEST + SIDE];
        mask places[VECTORS][LARGEST / 2];
        vector bias_sums[VECTORS] = {{0}};
        int number = 0;
        memset(weight, 0, SIDE * SIDE * CHANNELS * sizeof *weight);
        for (int y = 0; y < rows / 2; y++) {
            for (int x = 0; x < columns / 2; x++)
                for (int v = 0; v < VECTORS; v++, number++) {
                    vector slope = LOAD(gradient, number, bfloat16);
                    slope = a[v] * slope + b[v] * LOAD(pooled, number, bfloat16) + c[v];
                    places[v][x] = __builtin_convertvector(((const bytes8 *)kept)[number], mask);
                    slopes[v][x] = (vector)((places[v][x] != NONE) & (mask)slope);
                    places[v][x] &= 3;
                    bias_sums[v] += slopes[v][x];
                }
            for (int i = 0; i < SIDE; i++) {
                const float *upper = image + (2 * y + i) * stride, *lower = upper + stride;
                for (int x = 0; x < stride - 1; x++)
                    squares[x] = (vector){upper[x], upper[x + 1], lower[x], lower[x + 1],
                                          upper[x], upper[x + 1], lower[x], lower[x + 1]};
                for (int v = 0; v < VECTORS; v++) {
                    vector sums[SIDE] = {{0}};
                    for (int x = 0; x < columns / 2; x++)
                        for (int j = 0; j < SIDE; j++) sums[j] += slopes[v][x] * PICK(squares[2 * x + j], places[v][x]);
                    for (int j = 0; j < SIDE; j++) ((vector *)(weight + (i * SIDE + j) * CHANNELS))[v] += sums[j];
                }
            }
        }
        memcpy(bias, bias_sums, sizeof bias_sums);
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    #define PADDED 32                      /* channels, in two vectors */
    #define UNROLL _Pragma("GCC unroll 8")

    static int has_avx512(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }

    /* The 48 channels of two neighbours of the output are three vectors of 16. */
    #define WIDE 3

    __attribute__((target("avx512f,avx512dq")))
    static inline __m512 load16(const void *array, int i, int bfloat16) {
        if (!bfloat16) return _mm512_loadu_ps((const float *)array + 16 * i);
        __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)array + 16 * i));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }

    __attribute__((target("avx512f,avx512dq")))
    static inline void store16(void *array, int i, int bfloat16, __m512 value) {
        if (!bfloat16) {
            _mm512_storeu_ps((float *)array + 16 * i, value);
            return;
        }
        __m512i bits = _mm512_castps_si512(value);
        __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        bits = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
        __m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
        _mm256_storeu_si256((__m256i *)((uint16_t *)array + 16 * i), halves);
    }

    /* Sums of the channels of both neighbours. */
    static void fold(const float *both, float *sums) {
        for (int c = 0; c < CHANNELS; c++) sums[c] = both[c] + both[c + CHANNELS];
    }

    /* conv_pool, two neighbours at once. In `results` each channel is there twice, for the columns of a square. */
    __attribute__((target("avx512f,avx512dq")))
    static void conv_pool_wide(const float *image, const float *weight, const float *bias, int rows, int columns,
                               int bfloat16, void *pooled, uint8_t *kept, float *sums) {
        const int stride = columns + SIDE - 1;
        const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
        const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        __m512 weights[SIDE * SIDE][VECTORS], offsets[VECTORS], total[2][WIDE];
        for (int v = 0; v < VECTORS; v++) {
            for (int n = 0; n < SIDE * SIDE; n++)
                weights[n][v] = _mm512_permutexvar_ps(
                    twice, _mm512_castps256_ps512(_mm256_loadu_ps(weight + n * CHANNELS + 8 * v)));
            offsets[v] = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(bias + 8 * v)));
            total[0][v] = total[1][v] = _mm512_setzero_ps();
        }
        int number = 0;
        for (int y = 0; y < rows / 2; y++)
            for (int x = 0; x < columns / 2; x += 2) {
                const float *corner = image + 2 * y * stride + 2 * x;
                __m512 results[2][2][VECTORS];                                      /* row, neighbour, channels */
                UNROLL for (int n = 0; n < 4; n++)
                    UNROLL for (int v = 0; v < VECTORS; v++) results[n / 2][n % 2][v] = offsets[v];
                UNROLL for (int i = 0; i < SIDE; i++)
                    UNROLL for (int j = 0; j < SIDE; j++)
                        UNROLL for (int n = 0; n < 4; n++) {
                            double columns_of_square;
                            memcpy(&columns_of_square, corner + (i + n / 2) * stride + j + n % 2 * 2, sizeof(double));
                            const __m512 pixels = _mm512_castpd_ps(_mm512_set1_pd(columns_of_square));
                            UNROLL for (int v = 0; v < VECTORS; v++)
                                results[n / 2][n % 2][v] =
                                    _mm512_fmadd_ps(pixels, weights[i * SIDE + j][v], results[n / 2][n % 2][v]);
                        }
                UNROLL for (int k = 0; k < WIDE; k++, number++) {
                    const int a = 2 * k, b = 2 * k + 1;
                    __m512 best = _mm512_setzero_ps();
                    __m512i which = _mm512_setzero_si512();
                    UNROLL for (int place = 0; place < 4; place++) {
                        const __m512 *row = results[place / 2][0];                  /* of both neighbours */
                        __m512 next = _mm512_permutex2var_ps(row[a], place % 2 ? odd : even, row[b]);
                        __mmask16 larger = place ? _mm512_cmp_ps_mask(next, best, _CMP_GT_OQ) : 0xffff;
                        best = _mm512_mask_mov_ps(best, larger, next);
                        which = _mm512_mask_mov_epi32(which, larger, _mm512_set1_epi32(place));
                    }
                    __mmask16 dropped = _mm512_cmp_ps_mask(best, _mm512_setzero_ps(), _CMP_LE_OQ);
                    best = _mm512_maskz_mov_ps(~dropped, best);
                    which = _mm512_mask_mov_epi32(which, dropped, _mm512_set1_epi32(NONE));
                    store16(pooled, number, bfloat16, best);
                    _mm_storeu_si128((__m128i *)kept + number, _mm512_cvtepi32_epi8(which));
                    total[0][k] = _mm512_add_ps(total[0][k], best);
                    total[1][k] = _mm512_fmadd_ps(best, best, total[1][k]);
                }
            }
        fold((const float *)total[0], sums);
        fold((const float *)total[1], sums + CHANNELS);
    }

    /* conv_pool_backward, two neighbours at once. */
    __attribute__((target("avx512f,avx512dq")))
    static void conv_pool_backward_wide(const float *image, const void *gradient, const void *pooled,
                                        const uint8_t *kept, const float *factors, int rows, int columns,
                                        int bfloat16, float *weight, float *bias) {
        const int stride = columns + SIDE - 1;
        float abc[3][2 * CHANNELS], sums[2 * CHANNELS];
        __m512 slopes[LARGEST / 4][WIDE], bias_sums[WIDE];
        __m512i places[LARGEST / 4][WIDE];                                          /* in the 2 x 4 pixels of both */
        for (int n = 0; n < 6; n++) memcpy(abc[n / 2] + n % 2 * CHANNELS, factors + n / 2 * CHANNELS, 4 * CHANNELS);
        for (int k = 0; k < WIDE; k++) bias_sums[k] = _mm512_setzero_ps();
        memset(weight, 0, SIDE * SIDE * CHANNELS * sizeof *weight);
        int number = 0;
        for (int y = 0; y < rows / 2; y++) {
            for (int x = 0; x < columns / 4; x++)
                UNROLL for (int k = 0; k < WIDE; k++, number++) {
                    __m512 slope = load16(pooled, number, bfloat16);
                    slope = _mm512_fmadd_ps(slope, _mm512_loadu_ps(abc[1] + 16 * k), _mm512_loadu_ps(abc[2] + 16 * k));
                    slope = _mm512_fmadd_ps(load16(gradient, number, bfloat16), _mm512_loadu_ps(abc[0] + 16 * k), slope);
                    __m512i place = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)kept + number));
                    __mmask16 is_kept = _mm512_cmpneq_epi32_mask(place, _mm512_set1_epi32(NONE));
                    slopes[x][k] = _mm512_maskz_mov_ps(is_kept, slope);
                    bias_sums[k] = _mm512_add_ps(bias_sums[k], slopes[x][k]);
                    /* row 4, neighbour 2, column 1 */
                    __m512i lower = _mm512_slli_epi32(_mm512_and_si512(place, _mm512_set1_epi32(2)), 1);
                    __m512i right = _mm512_and_si512(place, _mm512_set1_epi32(1));
                    const __mmask16 second = k == 0 ? 0 : k == 1 ? 0xff00 : 0xffff;
                    places[x][k] = _mm512_add_epi32(_mm512_add_epi32(lower, right),
                                                    _mm512_maskz_set1_epi32(second, 2));
                }
            for (int i = 0; i < SIDE; i++) {
                const float *upper = image + (2 * y + i) * stride, *lower = upper + stride;
                __m512 products[SIDE][WIDE];
                UNROLL for (int j = 0; j < SIDE; j++)
                    UNROLL for (int k = 0; k < WIDE; k++) products[j][k] = _mm512_setzero_ps();
                for (int x = 0; x < columns / 4; x++)
                    UNROLL for (int j = 0; j < SIDE; j++) {
                        __m256 pixels = _mm256_castps128_ps256(_mm_loadu_ps(upper + 4 * x + j));
                        pixels = _mm256_insertf128_ps(pixels, _mm_loadu_ps(lower + 4 * x + j), 1);
                        UNROLL for (int k = 0; k < WIDE; k++) {
                            __m512 pixel = _mm512_permutexvar_ps(places[x][k], _mm512_castps256_ps512(pixels));
                            products[j][k] = _mm512_fmadd_ps(slopes[x][k], pixel, products[j][k]);
                        }
                    }
                for (int j = 0; j < SIDE; j++) {
                    fold((const float *)products[j], sums);
                    for (int c = 0; c < CHANNELS; c++) weight[(i * SIDE + j) * CHANNELS + c] += sums[c];
                }
            }
        }
        fold((const float *)bias_sums, bias);
    }

    /* One image: scale * ReLU(max_pool(conv(image))) + shift. constants: (SIDE * SIDE + 3, PADDED), the weight as above,
       bias, scale and shift. Two neighbours of the output at once, so that each weight that is loaded is used 8 times. */
    __attribute__((target("avx512f,avx512dq")))
    static void conv_pool_scale(const float *image, const float *constants, int rows, int columns, int bfloat16,
                                void *output) {
        const int stride = columns + SIDE - 1;
        const float *bias = constants + SIDE * SIDE * PADDED, *scale = bias + PADDED, *shift = scale + PADDED;
        int number = 0;                    /* of the vectors of 8 channels that are stored */
        for (int y = 0; y < rows / 2; y++)
            for (int x = 0; x < columns / 2; x += 2) {
                const float *corner = image + 2 * y * stride + 2 * x;
                __m512 results[8][2];      /* the convolution: 2 rows, 4 columns */
                UNROLL for (int place = 0; place < 8; place++)
                    UNROLL for (int v = 0; v < 2; v++) results[place][v] = _mm512_loadu_ps(bias + 16 * v);
                UNROLL for (int i = 0; i < SIDE; i++)
                    UNROLL for (int j = 0; j < SIDE; j++) {
                        const float *w = constants + (i * SIDE + j) * PADDED;
                        const __m512 weights[2] = {_mm512_loadu_ps(w), _mm512_loadu_ps(w + 16)};
                        UNROLL for (int place = 0; place < 8; place++) {
                            const __m512 pixel = _mm512_set1_ps(corner[(i + place / 4) * stride + j + place % 4]);
                            UNROLL for (int v = 0; v < 2; v++)
                                results[place][v] = _mm512_fmadd_ps(pixel, weights[v], results[place][v]);
                        }
                    }
                UNROLL for (int side = 0; side < 4; side += 2) {
                    float best[PADDED];
                    UNROLL for (int v = 0; v < 2; v++) {
                        __m512 upper = _mm512_max_ps(results[side][v], results[side + 1][v]);
                        __m512 lower = _mm512_max_ps(results[side + 4][v], results[side + 5][v]);
                        __m512 largest = _mm512_max_ps(_mm512_setzero_ps(), _mm512_max_ps(upper, lower));  /* or NaN */
                        __m512 s = _mm512_loadu_ps(scale + 16 * v), t = _mm512_loadu_ps(shift + 16 * v);
                        _mm512_storeu_ps(best + 16 * v, _mm512_fmadd_ps(largest, s, t));
                    }
                    for (int v = 0; v < VECTORS; v++, number++)
                        STORE(output, number, bfloat16, ((const vector *)best)[v]);
                }
            }
    }
    #else
    static int has_avx512(void) { return 0; }
    static void conv_pool_wide(const float *image, const float *weight, const float *bias, int rows, int columns,
                               int bfloat16, void *pooled, uint8_t *kept, float *sums) {}
    static void conv_pool_backward_wide(const float *image, const void *gradient, const void *pooled,
                                        const uint8_t *kept, const float *factors, int rows, int columns,
                                        int bfloat16, float *weight, float *bias) {}
    static void conv_pool_scale(const float *image, const float *constants, int rows, int columns, int bfloat16,
                                void *output) {}
    #endif
    """
    int KERNEL_SIDE "SIDE"
    int NB_CHANNELS "CHANNELS"
    int LARGEST
    void conv_pool(const float *image, const float *weight, const float *bias, int rows, int columns, int bfloat16,
                   void *pooled, uint8_t *kept, float *sums) noexcept nogil
    void c_scale_and_shift "scale_and_shift"(const void *input, const float *scale, const float *shift, int nb_rows,
                                             int bfloat16, void *output) noexcept nogil
    void c_gradient_sums "gradient_sums"(const void *gradient, const void *pooled, int nb_rows, int bfloat16,
                                         float *sums) noexcept nogil
    void conv_pool_backward(const float *image, const void *gradient, const void *pooled, const uint8_t *kept,
                            const float *factors, int rows, int columns, int bfloat16, float *weight,
                            float *bias) noexcept nogil
    bint has_avx512() noexcept nogil
    void conv_pool_wide(const float *image, const float *weight, const float *bias, int rows, int columns,
                        int bfloat16, void *pooled, uint8_t *kept, float *sums) noexcept nogil
    void conv_pool_backward_wide(const float *image, const void *gradient, const void *pooled, const uint8_t *kept,
                                 const float *factors, int rows, int columns, int bfloat16, float *weight,
                                 float *bias) noexcept nogil
    void conv_pool_scale(const float *image, const float *constants, int rows, int columns, int bfloat16,
                         void *output) noexcept nogil

ctypedef fused number:
    float
    short                                  # the bits of a bfloat16


cdef bint can_be_wide(int columns) noexcept:
    """Whether two neighbours of the output can be computed at once, with the vectors of this processor."""
    return has_avx512() and columns % 4 == 0


def takes(tuple weight_shape, tuple image_shape):
    """Whether there is code for a weight (channels, 1, side, side) and images (n, height, width)."""
    rows, columns = (side - KERNEL_SIDE + 1 for side in image_shape[1:])
    fits = rows > 0 and rows % 2 == 0 and 0 < columns <= LARGEST and columns % 2 == 0
    return fits and image_shape[0] > 0 and weight_shape == (NB_CHANNELS, 1, KERNEL_SIDE, KERNEL_SIDE)


def forward(const float[:, :, ::1] images, const float[:, :, ::1] weight, const float[::1] bias,
            number[:, :, :, ::1] pooled, uint8_t[:, :, :, ::1] kept, float[:, :, ::1] sums):
    """Fill `pooled` and `kept` (n, rows / 2, columns / 2, channels), and `sums` (n, 2, channels).

    Parameters
    ----------
    images : (n, height, width)
    weight : (side, side, channels)
    bias : (channels,)
    """
    cdef Py_ssize_t n
    cdef int rows = 2 * pooled.shape[1], columns = 2 * pooled.shape[2], bfloat16 = number is short
    cdef bint wide = can_be_wide(columns)
    for n in prange(images.shape[0], nogil=True, schedule="static"):
        if wide:
            conv_pool_wide(&images[n, 0, 0], &weight[0, 0, 0], &bias[0], rows, columns, bfloat16,
                           &pooled[n, 0, 0, 0], &kept[n, 0, 0, 0], &sums[n, 0, 0])
        else:
            conv_pool(&images[n, 0, 0], &weight[0, 0, 0], &bias[0], rows, columns, bfloat16, &pooled[n, 0, 0, 0],
                      &kept[n, 0, 0, 0], &sums[n, 0, 0])


def scale_and_shift(const number[:, :, :, ::1] pooled, const float[::1] scale, const float[::1] shift,
                    number[:, :, :, ::1] output):
    """Set `output` to scale * pooled + shift, channel by channel."""
    cdef Py_ssize_t n
    cdef int nb_rows = pooled.shape[1] * pooled.shape[2], bfloat16 = number is short
    for n in prange(pooled.shape[0], nogil=True, schedule="static"):
        c_scale_and_shift(&pooled[n, 0, 0, 0], &scale[0], &shift[0], nb_rows, bfloat16, &output[n, 0, 0, 0])


def gradient_sums(const number[:, :, :, ::1] gradient, const number[:, :, :, ::1] pooled, float[:, :, ::1] sums):
    """Fill `sums` (n, 2, channels) with each image's sums of the gradient, and of its product with `pooled`."""
    cdef Py_ssize_t n
    cdef int nb_rows = pooled.shape[1] * pooled.shape[2], bfloat16 = number is short
    for n in prange(pooled.shape[0], nogil=True, schedule="static"):
        c_gradient_sums(&gradient[n, 0, 0, 0], &pooled[n, 0, 0, 0], nb_rows, bfloat16, &sums[n, 0, 0])


def backward(const float[:, :, ::1] images, const number[:, :, :, ::1] gradient, const number[:, :, :, ::1] pooled,
             const uint8_t[:, :, :, ::1] kept, const float[:, ::1] factors, float[:, :, :, ::1] weight,
             float[:, ::1] bias):
    """Fill `weight` (n, side, side, channels) and `bias` (n, channels) with each image's part of their gradients.

    The gradient of `pooled` is factors[0] * gradient + factors[1] * pooled + factors[2].
    """
    cdef Py_ssize_t n
    cdef int rows = 2 * pooled.shape[1], columns = 2 * pooled.shape[2], bfloat16 = number is short
    cdef bint wide = can_be_wide(columns)
    for n in prange(images.shape[0], nogil=True, schedule="static"):
        if wide:
            conv_pool_backward_wide(&images[n, 0, 0], &gradient[n, 0, 0, 0], &pooled[n, 0, 0, 0],
                                    &kept[n, 0, 0, 0], &factors[0, 0], rows, columns, bfloat16,
                                    &weight[n, 0, 0, 0], &bias[n, 0])
        else:
            conv_pool_backward(&images[n, 0, 0], &gradient[n, 0, 0, 0], &pooled[n, 0, 0, 0], &kept[n, 0, 0, 0],
                               &factors[0, 0], rows, columns, bfloat16, &weight[n, 0, 0, 0], &bias[n, 0])


def can_evaluate(tuple image_shape):
    """Whether `evaluate` runs on this processor, on images (n, height, width) that the code `takes`."""
    return can_be_wide(image_shape[2] - KERNEL_SIDE + 1)


def evaluate(const float[:, :, ::1] images, const float[:, ::1] constants, number[:, :, :, ::1] output):
    """Fill `output` (n, rows / 2, columns / 2, channels) with scale * ReLU(max_pool(conv(images))) + shift.

    Parameters
    ----------
    images : (n, height, width)
    constants : (side * side + 3, 32)
        Weight (side * side, channels), bias, scale and shift, the channels padded to 32.
    """
    cdef Py_ssize_t n
    cdef int rows = 2 * output.shape[1], columns = 2 * output.shape[2], bfloat16 = number is short
    for n in prange(images.shape[0], nogil=True, schedule="static"):
        conv_pool_scale(&images[n, 0, 0], &constants[0, 0], rows, columns, bfloat16, &output[n, 0, 0, 0])
