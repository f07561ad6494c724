// The matrix product of deconv: one row a pixel, the tile of sums in registers. Versions for AVX2, AVX-512 and AVX-512 BF16.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "deconv_common.h"
#include "vectorised.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastgan {
namespace {

constexpr int64_t kColumns = 16;  // the columns are a multiple of this

// out[p, m] = sum over s, e of  x[s][p * stride + e] * weight[s * length + e, m].
template <class In> struct PixelProduct {
    using Sum = typename SumOf<In>::type;
    const In* x[4];        // one or four stretches of memory that hold a value for every pixel
    int64_t segments;      // how many of them
    int64_t length;        // how many elements of each belong to one pixel
    int64_t stride;        // elements from one pixel to the next, in each
    const In* weight;      // packed by pack_weight: [segments * length, columns]
    int64_t columns;
    Sum* out;              // [pixels, columns], written
    int64_t pixels;
};

// vdpbf16ps multiplies two neighbouring elements of x at once, so bfloat16 has two rows of the weight interleaved.
template <class In> constexpr int64_t kRowsInOne = std::is_same_v<In, BFloat16> ? 2 : 1;
template <class In> int64_t packed_size(int64_t rows, int64_t columns) { return (rows + rows % kRowsInOne<In>) * columns; }

// packed: of packed_size elements, zero where the weight has none. element(row, column) is the weight.
template <class In, class Element> void pack_weight(In* packed, int64_t rows, int64_t columns, const Element& element) {
    constexpr int64_t side_by_side = kRowsInOne<In>;
    for (int64_t row = 0; row < rows; ++row) {
        In* to = packed + row / side_by_side * side_by_side * columns + row % side_by_side;
        for (int64_t column = 0; column < columns; ++column) to[column * side_by_side] = In(element(row, column));
    }
}

// The version for float64, and for machines without AVX2.
template <class In> struct PlainProduct {
    static FASTGAN_LOOP void run(const PixelProduct<In>* product) {
        const PixelProduct<In>& a = *product;
        for (int64_t pixel = 0; pixel < a.pixels; ++pixel) {
            auto* __restrict out = a.out + pixel * a.columns;
            for (int64_t m = 0; m < a.columns; ++m) out[m] = 0;
            for (int64_t s = 0; s < a.segments; ++s) {
                for (int64_t e = 0; e < a.length; ++e) {
                    const In value = a.x[s][pixel * a.stride + e], *row = a.weight + (s * a.length + e) * a.columns;
                    for (int64_t m = 0; m < a.columns; ++m) out[m] += value * row[m];
                }
            }
        }
    }
};

#if defined(__x86_64__)

// Each tile is a struct with `run<pixels, groups>`: the sums of so many pixels and groups of 16 columns from `pixel` and `column` on.
struct TileAvx2 {
    static constexpr int max_groups = 1;
    static constexpr int pixels(int) { return 4; }  // eight sums: as many multiplications are under way at once

    template <int P, int G> static FASTGAN_AVX2 void run(const PixelProduct<float>& a, int64_t pixel, int64_t column) {
        __m256 sum[P][2];
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[p][0] = sum[p][1] = _mm256_setzero_ps();
        const float* weight = a.weight + column;
        for (int64_t s = 0; s < a.segments; ++s) {
            const float* x = a.x[s] + pixel * a.stride;
            for (int64_t e = 0; e < a.length; ++e, weight += a.columns) {
                const __m256 low = _mm256_loadu_ps(weight), high = _mm256_loadu_ps(weight + 8);
#pragma GCC unroll 16
                for (int p = 0; p < P; ++p) {
                    const __m256 value = _mm256_set1_ps(x[p * a.stride + e]);
                    sum[p][0] = _mm256_fmadd_ps(value, low, sum[p][0]);
                    sum[p][1] = _mm256_fmadd_ps(value, high, sum[p][1]);
                }
            }
        }
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
            for (int half = 0; half < 2; ++half) _mm256_storeu_ps(a.out + (pixel + p) * a.columns + column + 8 * half, sum[p][half]);
        }
    }
};

// At most 24 sums, which leaves room for a row of the weight and one value in 32 registers. Powers of two, as the widths of images are:
// four pixels of 64 columns are as fast as six, and 32 pixels have no rest.
constexpr int pixels_avx512(int groups) { return groups == 4 ? 4 : groups == 1 ? 16 : 8; }

// Not `= {}`, which GCC 12 does by 1.5 kB of memory.
template <int P, int G> FASTGAN_AVX512 FASTGAN_LOOP void clear(__m512 (&sum)[P][G]) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
        for (int g = 0; g < G; ++g) sum[p][g] = _mm512_setzero_ps();
    }
}

template <int P, int G> FASTGAN_AVX512 FASTGAN_LOOP void store_sums(float* out, int64_t columns, const __m512 (&sum)[P][G]) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
        for (int g = 0; g < G; ++g) _mm512_storeu_ps(out + p * columns + g * kColumns, sum[p][g]);
    }
}

struct TileAvx512 {
    static constexpr int max_groups = 4;
    static constexpr int pixels(int groups) { return pixels_avx512(groups); }

    template <int P, int G> static FASTGAN_AVX512 void run(const PixelProduct<float>& a, int64_t pixel, int64_t column) {
        __m512 sum[P][G];
        clear(sum);
        const float* weight = a.weight + column;
        for (int64_t s = 0; s < a.segments; ++s) {
            const float* x = a.x[s] + pixel * a.stride;
            for (int64_t e = 0; e < a.length; ++e, weight += a.columns) {
                __m512 row[G];
#pragma GCC unroll 16
                for (int g = 0; g < G; ++g) row[g] = _mm512_loadu_ps(weight + g * kColumns);
#pragma GCC unroll 16
                for (int p = 0; p < P; ++p) {
                    const __m512 value = _mm512_set1_ps(x[p * a.stride + e]);
#pragma GCC unroll 16
                    for (int g = 0; g < G; ++g) sum[p][g] = _mm512_fmadd_ps(value, row[g], sum[p][g]);
                }
            }
        }
        store_sums(a.out + pixel * a.columns + column, a.columns, sum);
    }
};

struct TileAvx512Bf16 {
    static constexpr int max_groups = 4;
    static constexpr int pixels(int groups) { return pixels_avx512(groups); }

    // sum += two elements of each of P pixels times two rows of the weight; of the second there is none where `last` says so.
    template <int P, int G, bool last>
    static FASTGAN_AVX512_BF16 FASTGAN_LOOP void add(__m512 (&sum)[P][G], const BFloat16* x, int64_t stride, const BFloat16* weight) {
        __m512bh row[G];
#pragma GCC unroll 16
        for (int g = 0; g < G; ++g) row[g] = (__m512bh)_mm512_loadu_si512(weight + g * 2 * kColumns);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
            uint32_t pair = 0;
            std::memcpy(&pair, x + p * stride, last ? 2 : 4);
            const __m512bh values = (__m512bh)_mm512_set1_epi32(int(pair));
#pragma GCC unroll 16
            for (int g = 0; g < G; ++g) sum[p][g] = _mm512_dpbf16_ps(sum[p][g], values, row[g]);
        }
    }

    // The length is even where there is more than one segment.
    template <int P, int G> static FASTGAN_AVX512_BF16 void run(const PixelProduct<BFloat16>& a, int64_t pixel, int64_t column) {
        __m512 sum[P][G];
        clear(sum);
        const BFloat16* weight = a.weight + 2 * column;
        for (int64_t s = 0; s < a.segments; ++s) {
            const BFloat16* x = a.x[s] + pixel * a.stride;
            for (int64_t e = 0; e + 2 <= a.length; e += 2, weight += 2 * a.columns) add<P, G, false>(sum, x + e, a.stride, weight);
            if (a.length % 2) add<P, G, true>(sum, x + a.length - 1, a.stride, weight);
        }
        store_sums(a.out + pixel * a.columns + column, a.columns, sum);
    }
};

// All pixels of G groups of columns: tiles of P pixels, the rest by tiles of half as many. One segment is an image in memory, and the hardware does
// not foresee as many streams as a tile has pixels: asking for the tile after the next takes `up` of 65536 pixels of 64 float32 channels to
// three from 5.2 to 4.1 ms on one core. Four segments are rows that were just written.
template <class Tile, int P, int G, class In> void pixels_of(const PixelProduct<In>& a, int64_t pixel, int64_t column) {
    for (; pixel + P <= a.pixels; pixel += P) {
        const char* ahead = reinterpret_cast<const char*>(a.x[0] + (pixel + 2 * P) * a.stride);
        for (int64_t byte = 0; a.segments == 1 && byte < P * a.stride * int64_t(sizeof(In)); byte += 64) __builtin_prefetch(ahead + byte, 0, 2);
        Tile::template run<P, G>(a, pixel, column);
    }
    if constexpr (P > 1) pixels_of<Tile, P / 2, G>(a, pixel, column);
}

// All columns: as many groups at a time as G, the rest at once.
template <class Tile, int G, class In> void columns_of(const PixelProduct<In>& a, int64_t column) {
    for (; column + G * kColumns <= a.columns; column += G * kColumns) pixels_of<Tile, Tile::pixels(G), G>(a, 0, column);
    if constexpr (G > 1) columns_of<Tile, G - 1>(a, column);
}

#endif

template <class In> void multiply(const PixelProduct<In>& a) {
#if defined(__x86_64__)
    if constexpr (std::is_same_v<In, BFloat16>) return columns_of<TileAvx512Bf16, TileAvx512Bf16::max_groups>(a, 0);
    if constexpr (std::is_same_v<In, float>) {
        if (best_isa() >= Isa::avx512) return columns_of<TileAvx512, TileAvx512::max_groups>(a, 0);
        if (best_isa() >= Isa::avx2) return columns_of<TileAvx2, TileAvx2::max_groups>(a, 0);
    }
#endif
    if constexpr (!std::is_same_v<In, BFloat16>) vectorised<PlainProduct<In>>(&a);  // without vdpbf16ps, bfloat16 comes as float
}

}  // namespace
}  // namespace fastgan
