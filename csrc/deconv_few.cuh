// `up` onto at most four channels, bound by memory: the last layer of a generator, with its tanh.
// A window is 2 x 2 small pixels (u - d, v - e), d and e in 0..1, with u in 0..h and v in 0..w; it gives 2 x 2 big pixels
// (2u - 1 + r, 2v - 1 + s) of K channels through the weight's (ky, kx) = (r + 2d, s + 2e). All of them, n = (r, s, channel), are one
// block of 16 columns, so the small image is read once for the four phases. No tile of it lies in shared memory: the order of k is free, so a lane
// loads 8 channels of its pixel at once, and they are its elements of two products.
#pragma once
#include "cuda_core.cuh"
#include "deconv_product.h"
#include "mma_tile.h"

namespace fastgan {
namespace {

constexpr int kFewThreads = 256, kFewWarps = kFewThreads / 32, kFewColumns = 16;  // a warp takes 16 columns of windows, over some rows u
static_assert(kFewWarps * kFewColumns == kFewWindows, "what the plan counts a CTA to take");
constexpr int kFewOutputs = 16;  // n, padded

struct FewProduct {
    const void *small, *weight, *bias;
    void* big;
    int32_t h, w, H, W;
    uint32_t channels, outputs;  // C, K
    PixelGrid columns;           // of windows (n, 0, v), in a batch of "images" of one row
    Divisor by_pair, by_outputs;  // 2K, K
    int32_t rows;                // u of a CTA, those from blockIdx.y * rows
    Activated activated;

    FASTGAN_BOTH uint32_t channel_blocks() const { return (channels + 31) / 32; }
};

inline FewProduct few_product_of(const DeconvUpArgs& args, int rows) {
    const DeconvShape& s = args.shape;
    return {args.small, args.weight, args.bias, args.big,
            int32_t(s.small_height), int32_t(s.small_width), int32_t(s.big_height), int32_t(s.big_width),
            uint32_t(s.small_channels), uint32_t(s.big_channels),
            PixelGrid(s.batch, 1, s.small_width + 1), Divisor(2 * s.big_channels), Divisor(s.big_channels),
            rows, {args.epilogue, float(args.slope)}};
}
inline int few_shared_bytes(const DeconvShape& s) {
    return int(4 * ceil_div(s.small_channels, 32) * 2 * 32 * 16) + kFewWarps * kFewColumns * kFewOutputs * 2;
}

// The weight as the lanes' elements of B: [d, e][block of 32 channels][product of two][lane] chunks, each (b0, b1) of n < 8 and of n >= 8.
// Lane (g, q) = (lane / 4, lane % 4) has column g, and of k the channels 8q + 4 product + {0, 1} in b0, {2, 3} in b1.
__device__ inline void load_few_weights(const FewProduct& p, uint4* chunks) {
    const uint16_t* const weight = static_cast<const uint16_t*>(p.weight);
    const int blocks = int(p.channel_blocks());
    for (int i = threadIdx.x; i < 4 * blocks * 2 * 32; i += kFewThreads) {
        const int lane = i % 32, product = i / 32 % 2, block = i / 64 % blocks, tap = i / 64 / blocks;
        uint32_t words[4] = {};
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const uint32_t n = j / 4 * 8 + lane / 4, channel = block * 32 + lane % 4 * 8 + product * 4 + j % 4;
            if (n >= 4 * p.outputs || channel >= p.channels) continue;
            const uint32_t r = p.by_pair.quotient(n), s = p.by_outputs.quotient(p.by_pair.remainder(n));
            const uint32_t ky = r + 2 * (tap / 2), kx = s + 2 * (tap % 2);
            words[j / 2] |= uint32_t(weight[((int64_t(channel) * 4 + ky) * 4 + kx) * p.outputs + p.by_outputs.remainder(n)]) << (j % 2 * 16);
        }
        chunks[i] = uint4{words[0], words[1], words[2], words[3]};
    }
}

// Where an element of a column's row of two big pixels lies in the big image, -1 if nowhere.
struct FewRow {
    const FewProduct& p;
    uint32_t first_column;
    int32_t y;

    __device__ int64_t offset(uint32_t element) const {
        const uint32_t ahead = p.by_pair.quotient(element), within_pair = element - ahead * p.by_pair.value;
        if (first_column + ahead >= p.columns.count) return -1;
        const Pixel window = p.columns.at(first_column + ahead);
        const int32_t x = 2 * window.x - 1 + int32_t(within_pair >= p.outputs);
        return within(x, p.W) ? address(window) + within_pair : -1;
    }
    // Of the first of the two pixels, even if that one is outside.
    __device__ int64_t address(Pixel window) const { return ((int64_t(window.n) * p.H + y) * p.W + 2 * window.x - 1) * int64_t(p.outputs); }
};

// Writes 16 windows (u, v): sum[n / 8] is two blocks of 16 windows x 8 n. `staging`: [16 windows][16 n] of this warp.
template <class T>
__device__ void write_few(const FewProduct& p, const float (&sum)[2][4], const float (&bias)[2][2], uint32_t first_column, int32_t u, T* staging) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int block = 0; block < 2; ++block) {
#pragma unroll
        for (int half = 0; half < 4; half += 2) {
            const int place = sum_row(lane, half) * kFewOutputs + block * 8 + sum_column(lane, half);
            *reinterpret_cast<uint32_t*>(staging + place) =
                packed<T>(p.activated(sum[block][half] + bias[block][0]), p.activated(sum[block][half + 1] + bias[block][1]));
        }
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const FewRow row{p, first_column, 2 * u - 1 + r};
        if (!within(row.y, p.H)) continue;
        // The columns of an image follow one another in memory. Two neighbours at a time, the first of them at an even address.
        const int odd = int(row.address(p.columns.at(first_column)) & 1), elements = kFewColumns * int(p.by_pair.value);
        auto value = [&](int e) { return staging[p.by_pair.quotient(e) * kFewOutputs + r * p.by_pair.value + p.by_pair.remainder(e)]; };
        T* const big = static_cast<T*>(p.big);
        for (int e = 2 * lane - odd; e < elements; e += 64) {
            const int64_t low = e >= 0 ? row.offset(e) : -1, high = e + 1 < elements ? row.offset(e + 1) : -1;
            if (low >= 0 && high == low + 1 && low % 2 == 0) {
                const T pair[2] = {value(e), value(e + 1)};
                *reinterpret_cast<uint32_t*>(big + low) =
                    uint32_t(reinterpret_cast<const uint16_t&>(pair[0])) | uint32_t(reinterpret_cast<const uint16_t&>(pair[1])) << 16;
            } else {
                if (low >= 0) big[low] = value(e);
                if (high >= 0) big[high] = value(e + 1);
            }
        }
    }
    __syncwarp();  // before the next row of windows takes the place of this one
}

// Grid: (groups of 16 columns for every warp, rows of windows).
template <class T> __global__ void __launch_bounds__(kFewThreads) few_kernel(const __grid_constant__ FewProduct p) {
    uint4* const weights = dynamic_shared<uint4>();
    const int blocks = int(p.channel_blocks()), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    T* const staging = reinterpret_cast<T*>(weights + 4 * blocks * 2 * 32) + warp * kFewColumns * kFewOutputs;
    load_few_weights(p, weights);
    __syncthreads();
    const uint32_t first_column = (blockIdx.x * kFewWarps + warp) * kFewColumns;
    if (first_column >= p.columns.count) return;  // all of the warp, and nothing waits for it any more

    // The two windows of this lane: the pixel (0, v) of each, at the lane's channels, and whether v and v - 1 are columns of the image.
    const uint16_t *const image = static_cast<const uint16_t*>(p.small), *pixel[2];
    bool inside[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t column = first_column + lane / 4 + 8 * i;
        const Pixel window = p.columns.at(column);
        pixel[i] = image + (int64_t(window.n) * p.h * p.w + window.x) * p.channels + lane % 4 * 8;
#pragma unroll
        for (int e = 0; e < 2; ++e) inside[i][e] = column < p.columns.count && within(window.x - e, p.w);
    }
    float bias[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint32_t n = i / 2 * 8 + sum_column(lane, i % 2);
        bias[i / 2][i % 2] = p.bias && n < 4 * p.outputs ? float(static_cast<const T*>(p.bias)[p.by_outputs.remainder(n)]) : 0.0f;
    }

    // A row i of small pixels is row d = 0 of window u = i and row d = 1 of window u = i + 1: both are summed while it is here.
    float sum[2][2][4] = {};  // [d][block of n]
    const int32_t first_u = int32_t(blockIdx.y) * p.rows, end_u = first_u + p.rows < p.h + 1 ? first_u + p.rows : p.h + 1;
    for (int32_t i = first_u - 1; i < end_u; ++i) {
        for (int e = 0; within(i, p.h) && e < 2; ++e) {
            const int64_t offset = (int64_t(i) * p.w - e) * p.channels;
#pragma unroll 2
            for (int block = 0; block < blocks; ++block) {
                const bool valid = uint32_t(block * 32 + lane % 4 * 8) < p.channels;
                uint4 loaded[2];
#pragma unroll
                for (int k = 0; k < 2; ++k) {
                    loaded[k] = valid && inside[k][e] ? *reinterpret_cast<const uint4*>(pixel[k] + offset + block * 32) : uint4{0, 0, 0, 0};
                }
#pragma unroll
                for (int product = 0; product < 2; ++product) {
                    const uint32_t a[4] = {product ? loaded[0].z : loaded[0].x, product ? loaded[1].z : loaded[1].x,
                                           product ? loaded[0].w : loaded[0].y, product ? loaded[1].w : loaded[1].y};
#pragma unroll
                    for (int d = 0; d < 2; ++d) {
                        const uint4 b = weights[(((d * 2 + e) * blocks + block) * 2 + product) * 32 + lane];
                        multiply_add<T>(sum[d][0], a, b.x, b.y);
                        multiply_add<T>(sum[d][1], a, b.z, b.w);
                    }
                }
            }
        }
        if (i >= first_u) write_few<T>(p, sum[0], bias, first_column, i, staging);
#pragma unroll
        for (int block = 0; block < 2; ++block) {
#pragma unroll
            for (int k = 0; k < 4; ++k) sum[0][block][k] = sum[1][block][k], sum[1][block][k] = 0.0f;
        }
    }
}

}  // namespace
}  // namespace fastgan
