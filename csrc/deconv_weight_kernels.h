// The vector kernels of deconv_weight, compiled once for each instruction set, hence no include guard. Whoever includes this defines
//     KERNELS          the name of the struct
//     KERNEL_TARGET    the target attribute of every function in it
//     KERNEL_LANES     floats in a vector: 8 or 16
//     KERNEL_VECTORS   vectors of big channels in a block
//     KERNEL_PAIRS     1: vdpbf16ps multiplies bfloat16 values of two images at once; 0: one float of one image at a time
// A `unit` is what one lane multiplies: a float, or the bfloat16 values of images 2p and 2p + 1 at one pixel and channel. Both have four bytes and
// are kept in arrays of float. Pairing images means that no tap and no border ever parts a pair, whatever the sizes of the image.
#define KERNEL_INLINE KERNEL_TARGET static inline __attribute__((always_inline))

struct KERNELS {
    typedef float Vector __attribute__((vector_size(4 * KERNEL_LANES), may_alias));
    typedef float LooseVector __attribute__((vector_size(4 * KERNEL_LANES), aligned(4), may_alias));
    typedef uint32_t Bits __attribute__((vector_size(4 * KERNEL_LANES)));
    typedef uint16_t Halves __attribute__((vector_size(2 * KERNEL_LANES)));
    typedef uint16_t LooseHalves __attribute__((vector_size(2 * KERNEL_LANES), aligned(2), may_alias));

    static constexpr int kLanes = KERNEL_LANES, kVectors = KERNEL_VECTORS;
    static constexpr int kImages = KERNEL_PAIRS ? 2 : 1;  // in a unit
    static constexpr int kRows = 6;                       // small channels in a tile: its 6 x kVectors vectors of sums stay in registers

    // sums [kRows][vectors] = (or, unless `first`, +=) small [depth][kRows] transposed times big [depth][vectors]; vectors is at most kVectors, the
    // strides are floats from one row to the next, and big and sums are aligned to a vector.
    static void multiply(int vectors, const float* small, int64_t small_stride, const float* big, int64_t big_stride, int64_t depth, bool first,
                         float* sums) {
        if (vectors == 1) return multiply<1>(small, small_stride, big, big_stride, depth, first, sums);
        if (vectors == 2) return multiply<2>(small, small_stride, big, big_stride, depth, first, sums);
#if KERNEL_VECTORS == 4
        if (vectors == 3) return multiply<3>(small, small_stride, big, big_stride, depth, first, sums);
        multiply<4>(small, small_stride, big, big_stride, depth, first, sums);
#endif
    }

    // The nine terms of 2 x 2 small pixels: x0, x0 + x1, x1 along either axis. pixels [kImages][2][2] point to `channels` values each;
    // terms [9][whole vectors] are written, with zeros for the channels after the last.
    template <class T> KERNEL_TARGET static void small_terms(const T* const (*pixels)[4], int64_t channels, float* terms, int64_t term_stride) {
        for (int64_t c = 0; c < channels; c += kLanes) {
            Vector image[kImages][9];
            for (int n = 0; n < kImages; ++n) {
                Vector x[2][3];
                for (int a = 0; a < 2; ++a) {
                    x[a][0] = load(pixels[n][2 * a] + c, channels - c);
                    x[a][2] = load(pixels[n][2 * a + 1] + c, channels - c);
                    x[a][1] = x[a][0] + x[a][2];
                }
                for (int q = 0; q < 3; ++q) {
                    image[n][q] = x[0][q];
                    image[n][3 + q] = x[0][q] + x[1][q];
                    image[n][6 + q] = x[1][q];
                }
            }
            store_units(image, terms + c, term_stride);
        }
    }

    // The nine terms of 3 x 3 big pixels: x0 - x1, x1, x2 - x1 along either axis. pixels [kImages][3][3] point to `channels` values each.
    template <class T> KERNEL_TARGET static void big_terms(const T* const (*pixels)[9], int64_t channels, float* terms, int64_t term_stride) {
        for (int64_t k = 0; k < channels; k += kLanes) {
            Vector image[kImages][9];
            for (int n = 0; n < kImages; ++n) {
                Vector x[3][3];
                for (int a = 0; a < 3; ++a) {
                    x[a][1] = load(pixels[n][3 * a + 1] + k, channels - k);
                    x[a][0] = load(pixels[n][3 * a] + k, channels - k) - x[a][1];
                    x[a][2] = load(pixels[n][3 * a + 2] + k, channels - k) - x[a][1];
                }
                for (int q = 0; q < 3; ++q) {
                    image[n][q] = x[0][q] - x[1][q];
                    image[n][3 + q] = x[1][q];
                    image[n][6 + q] = x[2][q] - x[1][q];
                }
            }
            store_units(image, terms + k, term_stride);
        }
    }

    // Nine sums [9][kRows][width], each at `sums` + 9 r's row, to the 2 x 2 taps of one phase: weight [a][b] = sum of terms (a or a + 1, b or b + 1).
    // weight points to tap (0, 0) of the phase, the others lie a_stride and b_stride elements from it; `channels` of the width are written.
    template <class T>
    KERNEL_TARGET static void taps(const float* sums, int64_t term_stride, int64_t channels, T* weight, int64_t a_stride, int64_t b_stride) {
        for (int64_t k = 0; k < channels; k += kLanes) {
            Vector m[9];
            for (int p = 0; p < 9; ++p) m[p] = *reinterpret_cast<const Vector*>(sums + p * term_stride + k);
            for (int a = 0; a < 2; ++a) {
                const Vector middle = m[3 * a + 1] + m[3 * a + 4];
                store(m[3 * a] + m[3 * a + 3] + middle, weight + a * a_stride + k, channels - k);
                store(middle + m[3 * a + 2] + m[3 * a + 5], weight + a * a_stride + b_stride + k, channels - k);
            }
        }
    }

    // `count` consecutive values of each image as units [whole vectors]; a null image counts as zeros.
    template <class T> KERNEL_TARGET static void units(const T* const* images, int64_t count, float* out) {
        for (int64_t e = 0; e < count; e += kLanes) {
            Vector image[kImages];
            for (int n = 0; n < kImages; ++n) image[n] = images[n] ? load(images[n] + e, count - e) : Vector{};
            *reinterpret_cast<LooseVector*>(out + e) = unit(image);
        }
    }

    // What the 4 x 4 taps of `pixels` neighbouring small pixels see, [pixels][4][run] at a distance of `stride` floats: `run` units of each of four
    // rows of units, from 0 for the first pixel and from run / 2 for the next. Up to one vector after each patch is overwritten too.
    KERNEL_TARGET static void patches(const float* const* rows, int64_t run, int64_t pixels, float* out, int64_t stride) {
        for (int64_t j = 0; j < pixels; ++j) {
            for (int ky = 0; ky < 4; ++ky) {
                const float* from = rows[ky] + j * (run / 2);
                float* to = out + j * stride + ky * run;
                for (int64_t e = 0; e < run; e += kLanes) *reinterpret_cast<LooseVector*>(to + e) = *reinterpret_cast<const LooseVector*>(from + e);
            }
        }
    }

    // out [count] = the sum of `parts` rows of sums, which lie part_stride floats apart.
    template <class T> KERNEL_TARGET static void total(const float* sums, int64_t parts, int64_t part_stride, int64_t count, T* out) {
        for (int64_t e = 0; e < count; e += kLanes) {
            Vector sum = {};
            for (int64_t part = 0; part < parts; ++part) sum += *reinterpret_cast<const Vector*>(sums + part * part_stride + e);
            store(sum, out + e, count - e);
        }
    }

  private:
    // Zen 4, V = 4, big in L2: 235 GFLOP/s a core in pairs and 117 in floats, which is all it has.
    template <int V>
    KERNEL_TARGET static void multiply(const float* small, int64_t small_stride, const float* big, int64_t big_stride, int64_t depth, bool first,
                                       float* sums) {
        Vector s[kRows][V];
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) s[r][v] = first ? Vector{} : *reinterpret_cast<const Vector*>(sums + (r * V + v) * kLanes);
        }
        for (int64_t d = 0; d < depth; ++d, small += small_stride, big += big_stride) {
            Vector b[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) b[v] = *reinterpret_cast<const Vector*>(big + v * kLanes);
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const Vector a = broadcast(small[r]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) s[r][v] = multiply_add(a, b[v], s[r][v]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(sums + (r * V + v) * kLanes) = s[r][v];
        }
    }

    KERNEL_INLINE Vector broadcast(float unit) {
#if KERNEL_LANES == 16
        return _mm512_set1_ps(unit);
#else
        return _mm256_set1_ps(unit);
#endif
    }

    KERNEL_INLINE Vector multiply_add(Vector a, Vector b, Vector sum) {
#if KERNEL_PAIRS
        return _mm512_dpbf16_ps(sum, __m512bh(a), __m512bh(b));
#elif KERNEL_LANES == 16
        return _mm512_fmadd_ps(a, b, sum);
#else
        return _mm256_fmadd_ps(a, b, sum);
#endif
    }

    // A vector of which `valid` values are read, the others are zero.
    KERNEL_INLINE Vector load(const float* p, int64_t valid) {
        if (valid >= kLanes) return *reinterpret_cast<const LooseVector*>(p);
#if KERNEL_LANES == 16
        return _mm512_maskz_loadu_ps(__mmask16((1 << valid) - 1), p);
#else
        Vector v = {};
        std::memcpy(&v, p, valid * sizeof *p);
        return v;
#endif
    }

    KERNEL_INLINE Vector load(const BFloat16* p, int64_t valid) {
        Halves v = {};
        if (valid >= kLanes) v = *reinterpret_cast<const LooseHalves*>(p);
#if KERNEL_LANES == 16
        else v = Halves(_mm256_maskz_loadu_epi16(__mmask16((1 << valid) - 1), p));
        return Vector(Bits(_mm512_maskz_cvtepu16_epi32(0xFFFF, __m256i(v))) << 16);
#else
        else std::memcpy(&v, p, valid * sizeof *p);
        return Vector(Bits(_mm256_cvtepu16_epi32(__m128i(v))) << 16);
#endif
    }

    KERNEL_INLINE void store(Vector v, float* p, int64_t valid) {
        if (valid >= kLanes) *reinterpret_cast<LooseVector*>(p) = v;
        else std::memcpy(p, &v, valid * sizeof *p);
    }

    KERNEL_INLINE void store(Vector v, BFloat16* p, int64_t valid) {  // to the nearest, ties to even; a NaN stays one
        const Bits bits = Bits(v), rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, nan = Bits(v != v);
        const Halves halves = __builtin_convertvector((rounded & ~nan) | (nan & 0x7FC0), Halves);
        if (valid >= kLanes) *reinterpret_cast<LooseHalves*>(p) = halves;
        else std::memcpy(p, &halves, valid * sizeof *p);
    }

    KERNEL_INLINE void store_units(const Vector (*image)[9], float* terms, int64_t term_stride) {
        for (int p = 0; p < 9; ++p) {
            Vector term[kImages];
            for (int n = 0; n < kImages; ++n) term[n] = image[n][p];
            *reinterpret_cast<Vector*>(terms + p * term_stride) = unit(term);
        }
    }

    // One vector of units out of one vector of each image.
    KERNEL_INLINE Vector unit(const Vector* image) {
#if KERNEL_PAIRS
        const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                                   23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return Vector(_mm512_permutexvar_epi16(alternate, __m512i(_mm512_cvtne2ps_pbh(image[1], image[0]))));  // image 0 comes in the lower half
#else
        return image[0];
#endif
    }
};

#undef KERNEL_INLINE
#undef KERNELS
#undef KERNEL_TARGET
#undef KERNEL_LANES
#undef KERNEL_VECTORS
#undef KERNEL_PAIRS
