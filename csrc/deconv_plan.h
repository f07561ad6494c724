// Which CUDA kernel computes a deconvolution, in tiles of what size, and into how many parts its longest sum is split.
// Plain C++.
#pragma once
#include <algorithm>
#include <cstdint>

#include "deconv_index.h"

namespace fastgan {

constexpr int kTileDepth = 32;    // of k a tile
constexpr int kFewWindows = 128;  // columns of windows that a CTA of deconv_few.cuh takes: 16 for each of 8 warps

enum class Direction { up, down, weight };

enum class Way {
    tensor_cores,  // 16-bit dtypes, both channel counts multiples of 8
    gathered,      // as above, but the big image's elements are read one by one: any number of big channels
    few_channels,  // `up` onto at most 4 channels
    scalar,        // anything else
};

// A product as the plan sees it; of a kind of call nothing else decides which tile is the fastest.
// few_channels: m counts columns of windows over the batch, n rows of windows, and k_tiles blocks of 32 channels.
struct ProductKind {
    Direction direction;
    Way way;
    Dtype dtype;
    int64_t m, n, k_tiles;  // m: of the largest phase

    int phases() const { return direction == Direction::up && way != Way::few_channels ? 4 : 1; }
};

// How a product is cut: a CTA computes m x n of C, over one of `splits` parts of k. few_channels: m is kFewWindows, n
// rows of windows.
struct Tile {
    int m, n, splits;
};

// One product, as many tiles of it as the grid has, and the split of k: `splits` parts of k_tiles_per_split tiles (the
// last may be shorter).
struct Plan {
    Way way = Way::scalar;
    int tile_m = 0, tile_n = 0;
    uint32_t m_tiles = 0, n_tiles = 0;
    int phases = 0, splits = 1;
    uint32_t k_tiles = 0, k_tiles_per_split = 0;
    int64_t workspace = 0;  // floats: one sum an element of C and a part, where there are several
};

inline bool is_16_bit(Dtype dtype) { return dtype == Dtype::float16 || dtype == Dtype::bfloat16; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sums of nothing, and reading of nothing.
inline bool is_empty(const DeconvShape& s) {
    return s.batch * s.small_height * s.small_width * s.small_channels * s.big_channels == 0;
}

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

// Tiles of k: the channels of every tap are cut on their own, unless taps and channels are counted together.
inline int64_t k_tiles_of(Way way, int taps, int64_t channels) {
    return way == Way::tensor_cores ? taps * ceil_div(channels, kTileDepth) : ceil_div(taps * channels, kTileDepth);
}

inline ProductKind kind_of_up(const DeconvShape& s, Dtype dtype, bool aligned) {
    const Way way = way_of_up(s, dtype, aligned);
    if (way == Way::few_channels) {
        return {Direction::up,
                way,
                dtype,
                s.batch * (s.small_width + 1),
                s.small_height + 1,
                ceil_div(s.small_channels, 32)};
    }
    const int64_t m = s.batch * ((s.big_height + 1) / 2) * ((s.big_width + 1) / 2);
    return {Direction::up, way, dtype, m, s.big_channels, k_tiles_of(way, 4, s.small_channels)};
}
inline ProductKind kind_of_down(const DeconvShape& s, Dtype dtype, bool aligned) {
    const Way way = way_of_patches(s, dtype, aligned);
    return {Direction::down,
            way,
            dtype,
            s.batch * s.small_height * s.small_width,
            s.small_channels,
            k_tiles_of(way, 16, s.big_channels)};
}
inline ProductKind kind_of_weight(const DeconvShape& s, Dtype dtype, bool aligned) {
    const Way way = way_of_patches(s, dtype, aligned);
    return {Direction::weight,
            way,
            dtype,
            s.small_channels,
            16 * s.big_channels,
            ceil_div(s.batch * s.small_height * s.small_width, kTileDepth)};
}
inline ProductKind kind_of(Direction direction, const DeconvShape& s, Dtype dtype, bool aligned) {
    return direction == Direction::up     ? kind_of_up(s, dtype, aligned)
           : direction == Direction::down ? kind_of_down(s, dtype, aligned)
                                          : kind_of_weight(s, dtype, aligned);
}

inline int64_t tiles_of(const ProductKind& kind, const Tile& tile) {
    return ceil_div(kind.m, tile.m) * ceil_div(kind.n, tile.n) * kind.phases();
}

struct Tiles {
    const Tile *first, *last;
    const Tile* begin() const { return first; }
    const Tile* end() const { return last + 1; }
};
// The m x n for which there is a kernel (deconv_launch.cuh), the largest first; few_channels takes any number of rows
// instead.
inline Tiles kernel_tiles(const ProductKind& kind) {
    static constexpr Tile kSizes[] = {{128, 128, 1}, {128, 64, 1}, {64, 64, 1}};
    if (kind.way == Way::tensor_cores) return {kSizes, kSizes + 2};
    const Tile* const only = kSizes + (kind.way == Way::gathered && kind.direction == Direction::down ? 1 : 2);
    return {only, only};
}

// The largest tile of which there is one for every multiprocessor; where there are too few, k is split until there are
// two. Written from the counts alone: no GPU has measured it yet. deconv_tile_table.h keeps what was measured.
inline Tile default_tile(const ProductKind& kind, int multiprocessors) {
    constexpr int kShortestSplit =
        8;  // tiles of k: below, filling the pipeline and adding the parts costs more than it wins
    if (kind.way == Way::few_channels) {  // two CTAs a multiprocessor; a CTA reads one row more than it has windows, so
                                          // it has two at least
        const int64_t row_groups =
            std::max<int64_t>(1, ceil_div(2 * multiprocessors, std::max<int64_t>(1, ceil_div(kind.m, kFewWindows))));
        return {kFewWindows, int(std::max<int64_t>(2, ceil_div(kind.n, row_groups))), 1};
    }
    const Tiles sizes = kernel_tiles(kind);
    const bool long_sum =
        kind.k_tiles >= 4 * multiprocessors;  // splitting is cheap beside it, so the tile that reads least
    Tile tile = *sizes.last;
    for (const Tile& size : sizes) {
        const bool fits = (kind.m > 64 || size.m == 64) && (kind.n % 128 == 0 || kind.n > 256 || size.n == 64);
        if (!fits || (!long_sum && tiles_of(kind, size) < multiprocessors)) continue;
        tile = size;
        break;
    }
    const int64_t tiles = tiles_of(kind, tile);
    if (tiles < multiprocessors && tiles && kind.k_tiles) {
        const int64_t splits =
            std::clamp<int64_t>(2 * multiprocessors / tiles, 1, std::max<int64_t>(1, kind.k_tiles / kShortestSplit));
        tile.splits = int(ceil_div(kind.k_tiles, ceil_div(kind.k_tiles, splits)));  // equally long parts may be fewer
    }
    return tile;
}

// Null where a product of this kind can be cut so, else why not. Any such tile gives the right result.
inline const char* problem_of(const ProductKind& kind, const Tile& tile) {
    constexpr int64_t kMostGrid = 65535, kMostWorkspace = int64_t(1) << 30;  // CTAs in y and z; floats, 4 GiB
    if (kind.way == Way::few_channels) {
        const bool fits = tile.m == kFewWindows && tile.n >= 1 && tile.n <= kind.n && tile.splits == 1 &&
                          ceil_div(kind.n, tile.n) <= kMostGrid;
        return fits ? nullptr
                    : "such a product is cut into 128 columns and at most all rows of windows, of unsplit sums";
    }
    const Tiles sizes = kernel_tiles(kind);
    const bool exists =
        std::any_of(sizes.begin(), sizes.end(), [&](const Tile& size) { return size.m == tile.m && size.n == tile.n; });
    if (!exists) return "no kernel has this tile";
    if (tile.splits < 1 || tile.splits > std::max<int64_t>(1, kind.k_tiles))
        return "its sum cannot be split into so many parts";
    const bool is_short = tile.splits == 1 || kind.m * kind.n * kind.phases() <= kMostWorkspace / tile.splits;
    return is_short && kind.phases() * tile.splits <= kMostGrid ? nullptr
                                                                : "so many parts of its sum take too much memory";
}

// `numel`: elements of C. The tile must have no problem_of.
inline Plan plan_of(const ProductKind& kind, const Tile& tile, int64_t numel) {
    Plan plan;
    plan.way = kind.way, plan.tile_m = tile.m, plan.tile_n = tile.n, plan.phases = kind.phases();
    plan.m_tiles = uint32_t(ceil_div(kind.m, tile.m)), plan.n_tiles = uint32_t(ceil_div(kind.n, tile.n));
    plan.k_tiles = plan.k_tiles_per_split = uint32_t(kind.k_tiles);
    if (tile.splits > 1) {
        plan.k_tiles_per_split = uint32_t(ceil_div(kind.k_tiles, tile.splits));
        plan.splits = int(ceil_div(kind.k_tiles, plan.k_tiles_per_split));
    }
    if (plan.splits > 1) plan.workspace = plan.splits * numel;
    return plan;
}

inline int64_t numel_of(Direction direction, const DeconvShape& s) {
    if (direction == Direction::up) return s.batch * s.big_height * s.big_width * s.big_channels;
    return direction == Direction::down ? s.batch * s.small_height * s.small_width * s.small_channels
                                        : 16 * s.small_channels * s.big_channels;
}

}  // namespace fastgan
