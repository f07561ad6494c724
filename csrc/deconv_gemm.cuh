// The product on tensor cores, for 16-bit dtypes: a pipeline of kStages tiles of A and B in shared memory, filled in the background while
// four warps, two by two, multiply the oldest. Sums in float32.
#pragma once
#include "cuda_core.cuh"
#include "deconv_tiles.cuh"

namespace fastgan {
namespace {

constexpr int kStages = 4;

template <int kM, int kN> constexpr int kStageChunks = (kM + kN) * kDepthChunks;
template <int kM, int kN> constexpr int kGemmSharedBytes = kStages * kStageChunks<kM, kN> * 16;  // 64, 48 and 32 KiB for the three tiles
// CTAs on a multiprocessor: what the registers of their sums leave room for. Gathering the patches of `weight` takes 32 more.
template <int kM, int kN, bool kGathered> constexpr int kResident = kM * kN > 128 * 64 ? 2 : kM * kN > 64 * 64 || kGathered ? 3 : 4;

// The sums of one warp: (kM / 2) x (kN / 2) of C.
template <class T, class Index, int kM, int kN> struct WarpTile {
    static constexpr int kRows = kM / 2, kColumns = kN / 2, kBlocksM = kRows / 16, kBlocksN = kColumns / 8, kRowChunks = kColumns / kVector;
    const int warp, lane, row, column;  // of the tile's first element in the CTA's
    float sum[kBlocksM][kBlocksN][4] = {};

    __device__ explicit WarpTile(int thread)
        : warp(thread / 32), lane(thread % 32), row(warp / 2 * kRows), column(warp % 2 * kColumns) {}

    // Rows of the tile of A are m or k, of that of B n or k: see mma_tile.h.
    __device__ void multiply(const uint4* a_tile, const uint4* b_tile) {
#pragma unroll
        for (int k = 0; k < kTileDepth; k += 16) {
            uint32_t a[kBlocksM][4], b[kBlocksN / 2][4];
#pragma unroll
            for (int i = 0; i < kBlocksM; ++i) load_a(a[i], a_tile, row + 16 * i, k);
#pragma unroll
            for (int j = 0; j < kBlocksN / 2; ++j) load_b(b[j], b_tile, column + 16 * j, k);
#pragma unroll
            for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
                for (int j = 0; j < kBlocksN; ++j) multiply_add<T>(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
            }
        }
    }
    __device__ void load_a(uint32_t (&block)[4], const uint4* tile, int m, int k) const {
        if constexpr (Index::kAContiguousInK) {
            const TilePlace at = down_first(lane, m, k / kVector);
            load_blocks<false>(block, tile + swizzled<kDepthChunks>(at.row, at.chunk));
        } else {
            const TilePlace at = along_first(lane, k, m / kVector);
            load_blocks<true>(block, tile + swizzled<kM / kVector>(at.row, at.chunk));
        }
    }
    __device__ void load_b(uint32_t (&block)[4], const uint4* tile, int n, int k) const {
        if constexpr (Index::kBContiguousInK) {
            const TilePlace at = along_first(lane, n, k / kVector);
            load_blocks<false>(block, tile + swizzled<kDepthChunks>(at.row, at.chunk));
        } else {
            const TilePlace at = down_first(lane, k, n / kVector);
            load_blocks<true>(block, tile + swizzled<kN / kVector>(at.row, at.chunk));
        }
    }

    // As they are, into one part's sums [elements of C].
    __device__ void write_partial(const Product<Index>& product, int phase, uint32_t first_m, uint32_t first_n, float* partial) const {
#pragma unroll
        for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
            for (int half = 0; half < 4; half += 2) {
                const uint32_t m = first_m + row + 16 * i + sum_row(lane, half);
                if (m >= product.index.m(phase)) continue;
                float* const out = partial + product.index.c_offset(phase, m);
#pragma unroll
                for (int j = 0; j < kBlocksN; ++j) {
                    const uint32_t n = first_n + column + 8 * j + sum_column(lane, half);
                    if (n < product.index.n) *reinterpret_cast<float2*>(out + n) = float2{sum[i][j][half], sum[i][j][half + 1]};
                }
            }
        }
    }

    // The rows before end_m, with bias and activation, by way of shared memory (`staging`: this warp's kRows x kRowChunks chunks), so that
    // the lanes write 16 bytes each, side by side.
    __device__ void write(const Product<Index>& product, int phase, uint32_t first_m, uint32_t end_m, uint32_t first_n, uint4* staging) const {
        stage(product, first_n, staging);
        __syncwarp();
        const uint32_t n = first_n + column + lane % kRowChunks * kVector;
#pragma unroll 4
        for (int r = lane / kRowChunks; r < kRows; r += 32 / kRowChunks) {
            const uint32_t m = first_m + row + r;
            if (m >= end_m || n >= product.index.n) continue;
            T* const out = static_cast<T*>(product.c) + product.index.c_offset(phase, m) + n;
            *reinterpret_cast<uint4*>(out) = staging[swizzled<kRowChunks>(r, lane % kRowChunks)];
        }
    }
    __device__ void stage(const Product<Index>& product, uint32_t first_n, uint4* staging) const {
#pragma unroll
        for (int j = 0; j < kBlocksN; ++j) {  // a block of 8 columns is a chunk
            const uint32_t n = first_n + column + 8 * j + sum_column(lane, 0);
            const bool biased = product.bias && n < product.index.n;
            const float bias0 = biased ? float(static_cast<const T*>(product.bias)[n]) : 0.0f;
            const float bias1 = biased ? float(static_cast<const T*>(product.bias)[n + 1]) : 0.0f;
#pragma unroll
            for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
                for (int half = 0; half < 4; half += 2) {
                    uint4* const chunk = staging + swizzled<kRowChunks>(16 * i + sum_row(lane, half), j);
                    reinterpret_cast<uint32_t*>(chunk)[lane % 4] =
                        packed<T>(product.activated(sum[i][j][half] + bias0), product.activated(sum[i][j][half + 1] + bias1));
                }
            }
        }
    }
};

// Sums the CTA's tile of C from (first_m, first_n) on over one split of k. Other warps may still read `shared` when it returns.
template <class T, class Index, bool kGathered, int kM, int kN>
__device__ __forceinline__ void multiply_tile(const Product<Index>& product, int phase, int split, uint32_t first_m, uint32_t first_n, uint4* shared,
                                              WarpTile<T, Index, kM, kN>& warp) {
    using TileOf = Tiles<Index, kGathered, kM, kN>;
    constexpr int kChunksA = kM * kDepthChunks;
    const typename TileOf::A a(product, phase, first_m, threadIdx.x);
    const typename TileOf::B b(product, phase, first_n, threadIdx.x);
    const uint32_t first = product.first_k_tile(split), end = product.end_k_tile(split);
    uint32_t copied = first;
    // One group of copies an iteration, if an empty one, so that the groups under way are always the same number.
    auto copy_next = [&] {
        if (copied < end) {
            uint4* const stage = shared + (copied - first) % kStages * kStageChunks<kM, kN>;
            const uint32_t tap = copied % TileOf::kTaps, k = copied / TileOf::kTaps * kTileDepth;
            a.copy(stage, tap, k);
            b.copy(stage + kChunksA, tap, k);
        }
        ++copied;
        commit_copies();
    };

    for (int i = 0; i < kStages - 1; ++i) copy_next();
    for (uint32_t k_tile = first; k_tile < end; ++k_tile) {
        wait_for_copies<kStages - 2>();  // this tile's, of this thread;
        __syncthreads();                 // and of all threads, and all are done with the tile before, whose place the next copy takes
        copy_next();
        const uint4* const stage = shared + (k_tile - first) % kStages * kStageChunks<kM, kN>;
        warp.multiply(stage, stage + kChunksA);
    }
}

// n and the other contiguous extents are multiples of 8, and all matrices start at a multiple of 16 bytes (deconv_plan.h).
template <class T, class Index, bool kGathered, int kM, int kN>
__global__ void __launch_bounds__(kThreads, (kResident<kM, kN, kGathered>)) gemm_kernel(const __grid_constant__ Product<Index> product) {
    const int phase = int(blockIdx.z) / product.splits, split = int(blockIdx.z) % product.splits;
    const uint32_t first_m = blockIdx.x * kM, first_n = blockIdx.y * kN;
    if (first_m >= product.index.m(phase)) return;  // the phases of an odd size are not equally large

    uint4* const shared = dynamic_shared<uint4>();
    WarpTile<T, Index, kM, kN> warp(threadIdx.x);
    multiply_tile<T, Index, kGathered>(product, phase, split, first_m, first_n, shared, warp);
    if (product.splits > 1) {
        warp.write_partial(product, phase, first_m, first_n, product.partial + split * product.numel);
    } else {
        __syncthreads();  // all tiles have been read: their place is free, for the groups of copies that are left are empty
        warp.write(product, phase, first_m, product.index.m(phase), first_n, shared + warp.warp * warp.kRows * warp.kRowChunks);
    }
}

}  // namespace
}  // namespace fastgan
