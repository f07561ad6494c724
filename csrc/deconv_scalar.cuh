// The product in float32, element by element: for float32, and for channels that do not come in vectors. 64 x 64 of C a CTA.
#pragma once
#include "cuda_core.cuh"
#include "deconv_product.h"

namespace fastgan {
namespace {

constexpr int kScalarThreads = 256, kScalarTile = 64, kEach = kScalarTile / 16;  // each thread sums kEach x kEach elements, 16 apart
constexpr int kScalarStride = kScalarTile + 1;                                    // of the tiles in shared memory: no two k in the same bank
constexpr int kScalarSharedBytes = 2 * kTileDepth * kScalarStride * int(sizeof(float));

// Copies a tile of kTileDepth k x 64 rows (of A) or columns (of B) to tile[k][row]. kAlongK: neighbouring threads take neighbouring k.
template <bool kAlongK, class Load> __device__ __forceinline__ void copy_tile(float* tile, int thread, const Load& load) {
    constexpr int kAcross = kAlongK ? kTileDepth : kScalarTile;
#pragma unroll
    for (int i = 0; i < kTileDepth * kScalarTile / kScalarThreads; ++i) {
        const int along = thread % kAcross, other = thread / kAcross + i * (kScalarThreads / kAcross);
        const int k = kAlongK ? along : other, row = kAlongK ? other : along;
        tile[k * kScalarStride + row] = load(uint32_t(k), uint32_t(row));
    }
}

template <class T, class Index>
__global__ void __launch_bounds__(kScalarThreads) scalar_kernel(const __grid_constant__ Product<Index> product) {
    const Index& index = product.index;
    const T *const matrix_a = static_cast<const T*>(product.a), *const matrix_b = static_cast<const T*>(product.b);
    const int phase = int(blockIdx.z) / product.splits, split = int(blockIdx.z) % product.splits;
    const uint32_t first_m = blockIdx.x * kScalarTile, first_n = blockIdx.y * kScalarTile;
    float *const a_tile = dynamic_shared<float>(), *const b_tile = a_tile + kTileDepth * kScalarStride;
    const int thread = threadIdx.x, x = thread % 16, y = thread / 16;

    float sum[kEach][kEach] = {};
    for (uint32_t k_tile = product.first_k_tile(split); k_tile < product.end_k_tile(split); ++k_tile) {
        const uint32_t first_k = k_tile * kTileDepth;
        copy_tile<Index::kAContiguousInK>(a_tile, thread, [&](uint32_t k, uint32_t row) {
            if (first_m + row >= index.m(phase) || first_k + k >= index.k()) return 0.0f;
            const int64_t offset = index.a_offset(phase, first_m + row, first_k + k);
            return offset < 0 ? 0.0f : float(matrix_a[offset]);
        });
        copy_tile<Index::kBContiguousInK>(b_tile, thread, [&](uint32_t k, uint32_t column) {
            if (first_n + column >= index.n || first_k + k >= index.k()) return 0.0f;
            const int64_t offset = index.b_offset(phase, first_k + k, first_n + column);
            return offset < 0 ? 0.0f : float(matrix_b[offset]);
        });
        __syncthreads();
        float tile_sum[kEach][kEach] = {};  // summed on its own: the rounding of a long sum grows with the square root of its length
        for (int k = 0; k < kTileDepth; ++k) {
            float a[kEach], b[kEach];
#pragma unroll
            for (int i = 0; i < kEach; ++i) a[i] = a_tile[k * kScalarStride + y + 16 * i], b[i] = b_tile[k * kScalarStride + x + 16 * i];
#pragma unroll
            for (int i = 0; i < kEach; ++i) {
#pragma unroll
                for (int j = 0; j < kEach; ++j) tile_sum[i][j] = fmaf(a[i], b[j], tile_sum[i][j]);
            }
        }
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
            for (int j = 0; j < kEach; ++j) sum[i][j] += tile_sum[i][j];
        }
        __syncthreads();  // before the next tile overwrites this one
    }

#pragma unroll
    for (int i = 0; i < kEach; ++i) {
        const uint32_t m = first_m + y + 16 * i;
        if (m >= index.m(phase)) continue;
        const int64_t row = index.c_offset(phase, m);
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
            const uint32_t n = first_n + x + 16 * j;
            if (n >= index.n) continue;
            if (product.splits > 1) {
                product.partial[split * product.numel + row + n] = sum[i][j];
            } else {
                const float bias = product.bias ? float(static_cast<const T*>(product.bias)[n]) : 0.0f;
                static_cast<T*>(product.c)[row + n] = T(product.activated(sum[i][j] + bias));
            }
        }
    }
}

}  // namespace
}  // namespace fastgan
