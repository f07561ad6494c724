// The vector kernels of the deep `up` and `down`, compiled once for each dtype, hence no include guard. Whoever includes this defines
//     KERNELS          the name of the struct
//     KERNEL_TARGET    the target attribute of every function in it
//     KERNEL_PAIRS     1: vdpbf16ps multiplies bfloat16 values of two neighbouring summed channels at once; 0: a float of one channel at a time
// A `unit` is what one lane multiplies: a float, or the bfloat16 values of channels 2u and 2u + 1. Both have four bytes and are kept in arrays of
// float. A `term` is one of the nine products of a tile (deconv_deep_tiles.h), the product of terms
// (term / 3, term % 3) along the two axes.
#define KERNEL_INLINE KERNEL_TARGET static inline __attribute__((always_inline))

struct KERNELS {
    typedef float Vector __attribute__((vector_size(64), may_alias));
    typedef int32_t Indices __attribute__((vector_size(64)));
    typedef uint32_t Bits __attribute__((vector_size(64)));
    typedef float LooseVector __attribute__((vector_size(64), aligned(4), may_alias));

    static constexpr int kLanes = 16, kVectors = 4, kRows = 6;  // a 6 x 4 tile of sums stays in registers
    static constexpr int kChannels = KERNEL_PAIRS ? 2 : 1;      // in a unit
    static constexpr int64_t kChain = 128;
    using T = std::conditional_t<KERNEL_PAIRS, BFloat16, float>;

    // The terms of 3 x 3 pixels: x0 - x1, x1, x2 - x1 along either axis. pixels [3][3] point to `channels` values each, a multiple of a vector
    // of units; terms [9][channels / kChannels] are written, term_stride floats from one to the next.
    KERNEL_TARGET static void image_terms(const T* const* pixels, int64_t channels, float* terms, int64_t term_stride) {
        for (int64_t c = 0; c < channels; c += kLanes * kChannels, terms += kLanes) {
            Vector term[9][kChannels];
            for (int e = 0; e < kChannels; ++e) {
                Vector x[3][3];
                for (int a = 0; a < 3; ++a) {
                    for (int b = 0; b < 3; ++b) x[a][b] = load(pixels[3 * a + b] + c + e * kLanes);
                    x[a][0] -= x[a][1];
                    x[a][2] -= x[a][1];
                }
                for (int b = 0; b < 3; ++b) {
                    term[b][e] = x[0][b] - x[1][b];
                    term[3 + b][e] = x[1][b];
                    term[6 + b][e] = x[2][b] - x[1][b];
                }
            }
            for (int p = 0; p < 9; ++p) *reinterpret_cast<Vector*>(terms + p * term_stride) = neighbours(term[p]);
        }
    }

    // The terms of 2 x 2 taps, x0, x0 + x1, x1 along either axis, where a row of the weight in memory is a summed channel (`up`). taps
    // [kChannels][2][2] point to kLanes columns each; terms [9][kLanes] are written, term_stride floats from one to the next.
    KERNEL_TARGET static void weight_terms_of_rows(const T* const (*taps)[4], float* terms, int64_t term_stride) {
        Vector term[9][kChannels];
        for (int e = 0; e < kChannels; ++e) {
            Vector one[9];
            weight_terms(taps[e], 0, one);
            for (int p = 0; p < 9; ++p) term[p][e] = one[p];
        }
        for (int p = 0; p < 9; ++p) *reinterpret_cast<Vector*>(terms + p * term_stride) = interleaved(term[p]);
    }

    // The same where a row in memory is a column (`down`). taps [2][2] point to kLanes * kChannels summed channels of the first of kLanes columns,
    // `stride` elements lie from one column to the next; terms [9][kLanes units][kLanes columns] are written, unit_stride floats from one unit to
    // the next.
    KERNEL_TARGET static void weight_terms_of_columns(const T* const* taps, int64_t stride, float* terms, int64_t term_stride, int64_t unit_stride) {
        Vector columns[9][kLanes];
        for (int column = 0; column < kLanes; ++column) {
            Vector term[9][kChannels];
            for (int e = 0; e < kChannels; ++e) {
                Vector one[9];
                weight_terms(taps, column * stride + e * kLanes, one);
                for (int p = 0; p < 9; ++p) term[p][e] = one[p];
            }
            for (int p = 0; p < 9; ++p) columns[p][column] = neighbours(term[p]);
        }
        for (int p = 0; p < 9; ++p) {
            transpose(columns[p]);
            for (int u = 0; u < kLanes; ++u) *reinterpret_cast<Vector*>(terms + p * term_stride + u * unit_stride) = columns[p][u];
        }
    }

    // sums [count][vectors] = image [count][units] times weight [units][vectors], of 2 or 4 vectors; the rows of image lie image_stride floats apart.
    static void multiply(int64_t vectors, int64_t count, const float* image, int64_t image_stride, const float* weight, int64_t units, float* sums) {
        if (vectors == 4) multiply_rows<kRows, 4>(count, image, image_stride, weight, units, sums);
        else multiply_rows<kRows, 2>(count, image, image_stride, weight, units, sums);
    }

    // The 2 x 2 pixels of a tile: pixel (a, b) = act(sum of terms (a or a + 1, b or b + 1) + bias), `width` channels each; act is not tanh. sums
    // [9][width] lie term_stride floats apart; a null pixel is not written.
    static void pixels(const float* sums, int64_t term_stride, int64_t width, const float* bias, Epilogue epilogue, float slope, T* const* pixel) {
        if (epilogue == Epilogue::linear) pixels_as<Epilogue::linear>(sums, term_stride, width, bias, slope, pixel);
        else if (epilogue == Epilogue::relu) pixels_as<Epilogue::relu>(sums, term_stride, width, bias, slope, pixel);
        else pixels_as<Epilogue::leaky_relu>(sums, term_stride, width, bias, slope, pixel);
    }

  private:
    template <Epilogue epilogue>
    KERNEL_TARGET static void pixels_as(const float* sums, int64_t term_stride, int64_t width, const float* bias, float slope, T* const* pixel) {
        for (int64_t k = 0; k < width; k += kLanes) {
            Vector m[9];
            for (int p = 0; p < 9; ++p) m[p] = load(sums + p * term_stride + k);
            for (int a = 0; a < 2; ++a) {
                const Vector middle = m[3 * a + 1] + m[3 * a + 4] + load(bias + k);
                const Vector left = m[3 * a] + m[3 * a + 3] + middle, right = middle + m[3 * a + 2] + m[3 * a + 5];
                if (pixel[2 * a]) store(act_of<epilogue>(left, slope), pixel[2 * a] + k);
                if (pixel[2 * a + 1]) store(act_of<epilogue>(right, slope), pixel[2 * a + 1] + k);
            }
        }
    }

    template <Epilogue epilogue> KERNEL_INLINE Vector act_of(Vector v, float slope) {
        if constexpr (epilogue == Epilogue::relu) return v < 0.0f ? Vector{} : v;
        if constexpr (epilogue == Epilogue::leaky_relu) return v < 0.0f ? v * slope : v;
        return v;
    }

    // As many tiles of R rows as there are, the rest by a smaller one.
    template <int R, int V>
    static void multiply_rows(int64_t count, const float* image, int64_t image_stride, const float* weight, int64_t units, float* sums) {
        for (; count >= R; count -= R, image += R * image_stride, sums += R * V * kLanes) {
            multiply_tile<R, V>(image, image_stride, weight, units, sums);
        }
        if constexpr (R > 1) multiply_rows<R - 1, V>(count, image, image_stride, weight, units, sums);
    }

    // Sums of kChain units are added up, for the error of a sum grows with its length: in float32, that of 512 units is 4.5e-7 of the root mean
    // square instead of 8.7e-7 (the library's is 4.1e-7). It costs nothing that can be measured.
    template <int R, int V>
    KERNEL_TARGET static void multiply_tile(const float* image, int64_t image_stride, const float* weight, int64_t units, float* sums) {
        for (int64_t from = 0; from < units; from += kChain) {
            const int64_t length = units - from < kChain ? units - from : kChain;
            add_chain<R, V>(image + from, image_stride, weight + from * V * kLanes, length, from == 0, sums);
        }
    }

    // Zen 4, R = 6, V = 4: 215 of the 235 GFLOP/s that a core has in pairs.
    template <int R, int V>
    KERNEL_INLINE void add_chain(const float* image, int64_t image_stride, const float* weight, int64_t length, bool first, float* sums) {
        Vector s[R][V];
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) s[r][v] = Vector{};
        }
        for (int64_t u = 0; u < length; ++u, weight += V * kLanes) {
            Vector b[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) b[v] = load(weight + v * kLanes);
#pragma GCC unroll 6
            for (int r = 0; r < R; ++r) {
                const Vector a = _mm512_set1_ps(image[r * image_stride + u]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) s[r][v] = multiply_add(a, b[v], s[r][v]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                Vector* sum = reinterpret_cast<Vector*>(sums + (r * V + v) * kLanes);
                *sum = first ? s[r][v] : *sum + s[r][v];
            }
        }
    }

    KERNEL_INLINE Vector multiply_add(Vector a, Vector b, Vector sum) {
#if KERNEL_PAIRS
        return _mm512_dpbf16_ps(sum, __m512bh(a), __m512bh(b));
#else
        return _mm512_fmadd_ps(a, b, sum);
#endif
    }

    KERNEL_INLINE Vector load(const float* p) { return *reinterpret_cast<const LooseVector*>(p); }

#if KERNEL_PAIRS
    KERNEL_INLINE Vector load(const BFloat16* p) {
        const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return Vector(Bits(_mm512_maskz_cvtepu16_epi32(0xFFFF, halves)) << 16);  // without a mask, GCC 12 warns of its own header
    }
    KERNEL_INLINE void store(Vector v, BFloat16* p) {  // to the nearest, ties to even; a NaN stays one
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), __m256i(_mm512_cvtneps_pbh(v)));
    }
#else
    KERNEL_INLINE void store(Vector v, float* p) { *reinterpret_cast<LooseVector*>(p) = v; }
#endif

    KERNEL_INLINE void weight_terms(const T* const* taps, int64_t offset, Vector* terms) {
        Vector x[2][3];
        for (int a = 0; a < 2; ++a) {
            x[a][0] = load(taps[2 * a] + offset);
            x[a][2] = load(taps[2 * a + 1] + offset);
            x[a][1] = x[a][0] + x[a][2];
        }
        for (int b = 0; b < 3; ++b) {
            terms[b] = x[0][b];
            terms[3 + b] = x[0][b] + x[1][b];
            terms[6 + b] = x[1][b];
        }
    }

    // A vector of units of neighbouring channels, of kChannels vectors: lane l of vector e is channel 16 e + l.
    KERNEL_INLINE Vector neighbours(const Vector* channels) {
#if KERNEL_PAIRS
        return Vector(_mm512_cvtne2ps_pbh(channels[1], channels[0]));
#else
        return channels[0];
#endif
    }

    // A vector of units whose lanes are 16 columns: vector e is summed channel e of the unit.
    KERNEL_INLINE Vector interleaved(const Vector* channels) {
#if KERNEL_PAIRS
        const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                                   23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return Vector(_mm512_permutexvar_epi16(alternate, __m512i(neighbours(channels))));
#else
        return channels[0];
#endif
    }

    // 16 x 16 lanes. A step interleaves rows i and i + 8 to rows 2 i and 2 i + 1: in the index of a lane, row and column in a row, it moves the first
    // bit to the end. Four steps exchange row and column.
    KERNEL_INLINE void transpose(Vector* m) {
        const Indices low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}, high = low + 8;
        for (int step = 0; step < 4; ++step) {
            Vector next[kLanes];
            for (int i = 0; i < 8; ++i) {
                next[2 * i] = __builtin_shuffle(m[i], m[i + 8], low);
                next[2 * i + 1] = __builtin_shuffle(m[i], m[i + 8], high);
            }
            for (int i = 0; i < kLanes; ++i) m[i] = next[i];
        }
    }
};

#undef KERNEL_INLINE
#undef KERNELS
#undef KERNEL_TARGET
#undef KERNEL_PAIRS
