// Which CUDA kernel computes a deconvolution, in tiles of what size, and into how many parts its longest sum is split. Plain C++.
#pragma once
#include <algorithm>
#include <cstdint>

#include "deconv_index.h"

namespace fastgan {

constexpr int kTileDepth = 32;  // of k a tile

enum class Way {
    tensor_cores,  // 16-bit dtypes, both channel counts multiples of 8
    gathered,      // as above, but the big image's elements are read one by one: any number of big channels
    few_channels,  // `up` onto at most 4 channels
    scalar,        // anything else
};

// One product, as many tiles of it as the grid has, and the split of k: `splits` parts of k_tiles_per_split tiles (the last may be shorter).
struct Plan {
    Way way;
    int tile_m, tile_n;
    uint32_t m_tiles, n_tiles;
    int phases, splits;
    uint32_t k_tiles, k_tiles_per_split;
    int64_t workspace;  // floats: one sum an element of C and a part, where there are several
};

inline bool is_16_bit(Dtype dtype) { return dtype == Dtype::float16 || dtype == Dtype::bfloat16; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sums of nothing, and reading of nothing.
inline bool is_empty(const DeconvShape& s) { return s.batch * s.small_height * s.small_width * s.small_channels * s.big_channels == 0; }

// `aligned`: all tensors start at a multiple of 16 bytes.
inline Way way_of_up(const DeconvShape& s, Dtype dtype, bool aligned) {
    constexpr int64_t kMostSmallChannels = 320;  // their weights lie in shared memory: 128 bytes each
    if (!is_16_bit(dtype) || !aligned || s.small_channels % 8 || is_empty(s)) return Way::scalar;
    if (s.big_channels % 8 == 0) return Way::tensor_cores;
    return s.big_channels <= 4 && s.small_channels <= kMostSmallChannels ? Way::few_channels : Way::scalar;
}
// Of `down` and `weight`.
inline Way way_of_patches(const DeconvShape& s, Dtype dtype, bool aligned) {
    if (!is_16_bit(dtype) || !aligned || s.small_channels % 8 || is_empty(s)) return Way::scalar;
    return s.big_channels % 8 == 0 ? Way::tensor_cores : Way::gathered;
}

// The largest tile of which there is one for every multiprocessor; where there are too few, k is split until there are two.
// Written from the counts alone: no GPU has measured it yet. `tile_m`: of the ways that have one size of tile (few_channels has none).
inline Plan plan_product(Way way, int64_t m, int64_t n, int phases, int64_t k_tiles, int64_t numel, int multiprocessors, int tile_m = 64) {
    constexpr int kShortestSplit = 8;  // tiles of k: below, filling the pipeline and adding the parts costs more than it wins
    constexpr int kSizes[3][2] = {{128, 128}, {128, 64}, {64, 64}};
    Plan plan{way, tile_m, 64, 0, 0, phases, 1, uint32_t(k_tiles), uint32_t(k_tiles), 0};
    if (way == Way::tensor_cores) {
        const bool long_sum = k_tiles >= 4 * multiprocessors;  // splitting is cheap beside it, so the tile that reads least
        for (const auto& size : kSizes) {
            const bool fits = (m > 64 || size[0] == 64) && (n % 128 == 0 || n > 256 || size[1] == 64);
            if (!fits || (!long_sum && ceil_div(m, size[0]) * ceil_div(n, size[1]) * phases < multiprocessors)) continue;
            plan.tile_m = size[0], plan.tile_n = size[1];
            break;
        }
    }
    plan.m_tiles = uint32_t(ceil_div(m, plan.tile_m)), plan.n_tiles = uint32_t(ceil_div(n, plan.tile_n));
    const int64_t tiles = int64_t(plan.m_tiles) * plan.n_tiles * phases;
    if (tiles < multiprocessors && k_tiles && way != Way::few_channels) {
        const int64_t splits = std::clamp<int64_t>(2 * multiprocessors / tiles, 1, std::max<int64_t>(1, k_tiles / kShortestSplit));
        plan.k_tiles_per_split = uint32_t(ceil_div(k_tiles, splits));
        plan.splits = int(ceil_div(k_tiles, plan.k_tiles_per_split));
    }
    if (plan.splits > 1) plan.workspace = plan.splits * numel;
    return plan;
}

// Tiles of k: the channels of every tap are cut on their own, unless taps and channels are counted together.
inline int64_t k_tiles_of(Way way, int taps, int64_t channels) {
    return way == Way::tensor_cores ? taps * ceil_div(channels, kTileDepth) : ceil_div(taps * channels, kTileDepth);
}

inline Plan plan_up(const DeconvShape& s, Dtype dtype, bool aligned, int multiprocessors) {
    const Way way = way_of_up(s, dtype, aligned);
    const int64_t m = s.batch * ((s.big_height + 1) / 2) * ((s.big_width + 1) / 2);  // of the largest phase
    const int64_t numel = s.batch * s.big_height * s.big_width * s.big_channels;
    return plan_product(way, m, s.big_channels, 4, k_tiles_of(way, 4, s.small_channels), numel, multiprocessors);
}
inline Plan plan_down(const DeconvShape& s, Dtype dtype, bool aligned, int multiprocessors) {
    const Way way = way_of_patches(s, dtype, aligned);
    const int64_t m = s.batch * s.small_height * s.small_width;
    const int tile_m = way == Way::gathered ? 128 : 64;
    return plan_product(way, m, s.small_channels, 1, k_tiles_of(way, 16, s.big_channels), m * s.small_channels, multiprocessors, tile_m);
}
inline Plan plan_weight(const DeconvShape& s, Dtype dtype, bool aligned, int multiprocessors) {
    const Way way = way_of_patches(s, dtype, aligned);
    const int64_t pixels = s.batch * s.small_height * s.small_width, n = 16 * s.big_channels;
    return plan_product(way, s.small_channels, n, 1, ceil_div(pixels, kTileDepth), s.small_channels * n, multiprocessors);
}

}  // namespace fastgan
