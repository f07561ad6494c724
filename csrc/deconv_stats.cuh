// The product on tensor cores whose epilogue also sums up what it writes: deconv_stats.h says what, deconv_gemm.cuh has
// the rest.
#pragma once
#include "deconv_gemm.cuh"
#include "deconv_stats.h"
#include "moments.h"

namespace fastgan {
namespace {

// A CTA's place in the grid is (part, tile of m within the part; tile of n; phase): no tile holds rows of two parts.
template <class Index> struct StatsProduct {
    Product<Index> product;  // of one split
    float2* partial;         // [parts, phases * blocks_a_phase, n] of (mean, sum of squared deviations)
    uint32_t parts, tiles_a_part, blocks_a_phase;
};

// Over the lanes that hold the same columns of a block of sums (mma_tile.h): every lane gets the same bits.
__device__ __forceinline__ float over_rows(float value) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
    return value;
}

// Rounds the sums to what will be written, and returns the moments of two columns over this warp's first `count` rows:
// those of block j of 8 columns in the lanes (j, any), as they lie beside one another.
template <class T, class Index, int kM, int kN>
__device__ __forceinline__ void round_and_sum(WarpTile<T, Index, kM, kN>& warp, int count, Moments (&own)[2]) {
    const float weight = 1.0f / float(count > 0 ? count : 1);
#pragma unroll
    for (int j = 0; j < warp.kBlocksN; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            float total = 0.0f, squares = 0.0f;
#pragma unroll
            for (int i = 0; i < 2 * warp.kBlocksM; ++i) {
                float& sum = warp.sum[i / 2][j][i % 2 * 2 + c];
                sum = float(T(sum));
                if (i / 2 * 16 + sum_row(warp.lane, i % 2 * 2) < count) total += sum;
            }
            const float mean = over_rows(total) * weight;
#pragma unroll
            for (int i = 0; i < 2 * warp.kBlocksM; ++i) {
                const float away = warp.sum[i / 2][j][i % 2 * 2 + c] - mean;
                if (i / 2 * 16 + sum_row(warp.lane, i % 2 * 2) < count) squares = fmaf(away, away, squares);
            }
            squares = over_rows(squares);
            if (warp.lane / 4 == j) own[c] = {float(count), mean, squares};
        }
    }
}

template <class T, class Index, int kM, int kN> __global__ void __launch_bounds__(kThreads, (kResident<kM, kN, false>))
    stats_kernel(const __grid_constant__ StatsProduct<Index> p) {
    const Product<Index>& product = p.product;
    const int phase = int(blockIdx.z);
    const uint32_t part = blockIdx.x / p.tiles_a_part, tile = blockIdx.x % p.tiles_a_part,
                   rows = product.index.m(phase) / p.parts;
    const uint32_t first_m = part * rows + tile * kM, end_m = (part + 1) * rows, first_n = blockIdx.y * kN;
    if (first_m >= end_m) return;  // the phases of an odd size are not equally large

    uint4* const shared = dynamic_shared<uint4>();
    WarpTile<T, Index, kM, kN> warp(threadIdx.x);
    multiply_tile<T, Index, false>(product, phase, 0, first_m, first_n, shared, warp);
    __syncthreads();  // all tiles have been read: their place is free

    const uint32_t first_row = first_m + warp.row, left = first_row < end_m ? end_m - first_row : 0;
    const int count = int(left < uint32_t(warp.kRows) ? left : warp.kRows);
    Moments own[2];
    round_and_sum(warp, count, own);
    const int column =
        warp.column + warp.lane / 4 * 8 + sum_column(warp.lane, 0);  // of the first of the two, in the tile
    const bool has_columns = warp.lane / 4 < warp.kBlocksN && first_n + column < product.index.n;
    bool is_whole = true;                     // whether these are the moments of a whole block
    if constexpr (warp.kRows < kBlockRows) {  // the upper two warps have its first half, the lower two its second
        float4* const exchange =
            reinterpret_cast<float4*>(shared + kM * kN / kVector) + column / 2;  // behind what write() stages
        is_whole = warp.row == 0;
        if (has_columns && !is_whole) *exchange = float4{own[0].mean, own[0].m2, own[1].mean, own[1].m2};
        __syncthreads();
        if (has_columns && is_whole) {
            const float others = float(left <= uint32_t(warp.kRows)      ? 0
                                       : left < 2 * uint32_t(warp.kRows) ? left - warp.kRows
                                                                         : warp.kRows);
            own[0] = united(own[0], {others, exchange->x, exchange->y});
            own[1] = united(own[1], {others, exchange->z, exchange->w});
        }
    }
    if (has_columns && is_whole && count > 0) {
        const uint32_t block = phase * p.blocks_a_phase + (first_row - part * rows) / kBlockRows;
        float2* const out = p.partial +
                            (int64_t(part) * product.index.kPhases * p.blocks_a_phase + block) * product.index.n +
                            first_n + column;
        *reinterpret_cast<float4*>(out) = float4{own[0].mean, own[0].m2, own[1].mean, own[1].m2};
    }
    warp.write(product, phase, first_m, end_m, first_n, shared + warp.warp * warp.kRows * warp.kRowChunks);
}

}  // namespace
}  // namespace fastgan
