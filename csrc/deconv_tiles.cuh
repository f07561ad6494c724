// Copying tiles of A and B from memory to shared memory: what each of the kThreads threads of a CTA copies.
#pragma once
#include "cuda_core.cuh"
#include "deconv_product.h"
#include "mma_tile.h"

namespace fastgan {
namespace {

constexpr int kThreads = 128;
constexpr int kVector = 8;                         // elements of 16 bits in 16 bytes
constexpr int kDepthChunks = kTileDepth / kVector;  // chunks of a row of k

using Bits = uint16_t;  // an element, of whichever dtype

// The chunks of a tile of kRows x kChunks that a thread copies: the same column of it in several rows.
template <int kRowCount, int kChunkCount> struct Share {
    static constexpr int kChunks = kChunkCount, kRowStep = kThreads / kChunks, kCopies = kRowCount / kRowStep;
    static_assert(kThreads % kChunks == 0 && kRowCount % kRowStep == 0, "every thread copies equally much");
    int first_row, chunk;

    __device__ explicit Share(int thread) : first_row(thread / kChunks), chunk(thread % kChunks) {}
    __device__ int row(int copy) const { return first_row + copy * kRowStep; }
    __device__ uint4* place(uint4* tile, int copy) const { return tile + swizzled<kChunks>(row(copy), chunk); }
};

// A of `up` and `down`: kRows pixels x 32 channels of one tap, or 32 elements of (tap, channel) where they are gathered.
template <class Index, bool kGathered, int kRows> struct WindowTile {
    using Shared = Share<kRows, kDepthChunks>;
    const Index& index;
    const Shared share;
    const Bits* const image;
    const Bits* window[Shared::kCopies];  // tap 0, channel 0 of each row's pixel
    uint32_t inside[Shared::kCopies];     // bit t: tap t lies in the image

    __device__ WindowTile(const Product<Index>& product, int phase, uint32_t first_m, int thread)
        : index(product.index), share(thread), image(static_cast<const Bits*>(product.a)) {
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            const uint32_t m = first_m + share.row(copy);
            window[copy] = image, inside[copy] = 0;
            if (m >= index.m(phase)) continue;
            const Pixel at = index.pixel(phase, m);
            window[copy] += index.origin(phase, at);
#pragma unroll
            for (int tap = 0; tap < Index::kTaps; ++tap) inside[copy] |= uint32_t(index.inside(phase, at, tap)) << tap;
        }
    }

    // k: the first of the tile's 32 channels (of the 32 elements, where gathered: then tap is 0).
    __device__ void copy(uint4* tile, uint32_t tap, uint32_t k) const {
        const uint32_t channel = k + share.chunk * kVector;
        if constexpr (kGathered) {
            gather(tile, channel);
        } else {
            const int64_t offset = index.step(tap) + channel;
#pragma unroll
            for (int copy = 0; copy < Shared::kCopies; ++copy) {
                const bool valid = channel < index.channels && (inside[copy] >> tap & 1);
                copy_async<true>(share.place(tile, copy), valid ? window[copy] + offset : image, valid);
            }
        }
    }

    __device__ void gather(uint4* tile, uint32_t first) const {
        uint32_t words[Shared::kCopies][4] = {};
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
            if (first + e >= index.k()) break;
            const int tap = int(index.patch.by_channels.quotient(first + e));
            const int64_t offset = index.step(tap) + (first + e - tap * index.channels);
#pragma unroll
            for (int copy = 0; copy < Shared::kCopies; ++copy) {
                if (inside[copy] >> tap & 1) words[copy][e / 2] |= uint32_t(window[copy][offset]) << (e % 2 * 16);
            }
        }
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            *share.place(tile, copy) = uint4{words[copy][0], words[copy][1], words[copy][2], words[copy][3]};
        }
    }
};

// B of `up`: 32 small channels x kColumns big channels of one tap of the weight.
template <int kColumns> struct UpWeightTile {
    using Shared = Share<kTileDepth, kColumns / kVector>;
    const UpIndex& index;
    const Shared share;
    const Bits* const weight;
    const int phase;
    const uint32_t column;

    __device__ UpWeightTile(const Product<UpIndex>& product, int phase, uint32_t first_n, int thread)
        : index(product.index), share(thread), weight(static_cast<const Bits*>(product.b)), phase(phase), column(first_n + share.chunk * kVector) {}

    __device__ void copy(uint4* tile, uint32_t tap, uint32_t k) const {
        const Bits* const row = weight + index.weight_row(phase, tap, k + share.first_row) + column;
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            const bool valid = k + share.row(copy) < index.channels && column < index.n;
            copy_async<false>(share.place(tile, copy), valid ? row + copy * Shared::kRowStep * (int64_t(16) * index.n) : weight, valid);
        }
    }
};

// B of `down`: kColumns small channels x 32 big channels of one tap of the weight (or 32 of (tap, channel): they lie side by side).
template <bool kGathered, int kColumns> struct DownWeightTile {
    using Shared = Share<kColumns, kDepthChunks>;
    const DownIndex& index;
    const Shared share;
    const Bits* const weight;
    const uint32_t first_n;

    __device__ DownWeightTile(const Product<DownIndex>& product, int, uint32_t first_n, int thread)
        : index(product.index), share(thread), weight(static_cast<const Bits*>(product.b)), first_n(first_n) {}

    __device__ void copy(uint4* tile, uint32_t tap, uint32_t k) const {
        const uint32_t channel = k + share.chunk * kVector, channels = kGathered ? index.k() : index.channels;
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            const uint32_t n = first_n + share.row(copy);
            const bool valid = n < index.n && channel < channels;
            copy_async<false>(share.place(tile, copy), valid ? weight + index.b_offset(0, tap * index.channels + channel, n) : weight, valid);
        }
    }
};

// A of `weight`: 32 small pixels x kRows small channels.
template <int kRows> struct SmallTile {
    using Shared = Share<kTileDepth, kRows / kVector>;
    const WeightIndex& index;
    const Shared share;
    const Bits* const small;
    const uint32_t m;

    __device__ SmallTile(const Product<WeightIndex>& product, int, uint32_t first_m, int thread)
        : index(product.index), share(thread), small(static_cast<const Bits*>(product.a)), m(first_m + share.chunk * kVector) {}

    __device__ void copy(uint4* tile, uint32_t, uint32_t k) const {
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            const uint32_t pixel = k + share.row(copy);
            const bool valid = m < index.rows && pixel < index.k();
            copy_async<false>(share.place(tile, copy), valid ? small + index.a_offset(0, m, pixel) : small, valid);
        }
    }
};

// B of `weight`: 32 small pixels x kColumns elements (tap, channel) of their patches.
template <bool kGathered, int kColumns> struct PatchTile {
    using Shared = Share<kTileDepth, kColumns / kVector>;
    const WeightIndex& index;
    const Shared share;
    const Bits* const big;
    const uint32_t column;
    const int tap;         // of `column`: a thread keeps its columns
    const int64_t offset;  // from a patch's origin to it

    __device__ PatchTile(const Product<WeightIndex>& product, int, uint32_t first_n, int thread)
        : index(product.index), share(thread), big(static_cast<const Bits*>(product.b)), column(first_n + share.chunk * kVector),
          tap(int(index.patch.by_channels.quotient(column))), offset(index.patch.step(tap) + (column - tap * index.patch.channels)) {}

    __device__ void copy(uint4* tile, uint32_t, uint32_t k) const {
#pragma unroll
        for (int copy = 0; copy < Shared::kCopies; ++copy) {
            const uint32_t pixel = k + share.row(copy);
            const bool wanted = column < index.n && pixel < index.k();
            const Pixel at = index.patch.pixels.at(pixel);
            if constexpr (kGathered) {
                *share.place(tile, copy) = wanted ? gathered(at) : uint4{0, 0, 0, 0};
            } else {
                const bool valid = wanted && index.patch.inside(at, tap);
                copy_async<false>(share.place(tile, copy), valid ? big + index.patch.origin(at) + offset : big, valid);
            }
        }
    }

    __device__ uint4 gathered(Pixel at) const {  // column + 7 is below n: both are multiples of 8
        const Bits* const patch = big + index.patch.origin(at);
        uint32_t words[4] = {};
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
            const int tap = int(index.patch.by_channels.quotient(column + e));
            const int64_t offset = index.patch.step(tap) + (column + e - tap * index.patch.channels);
            if (index.patch.inside(at, tap)) words[e / 2] |= uint32_t(patch[offset]) << (e % 2 * 16);
        }
        return {words[0], words[1], words[2], words[3]};
    }
};

// The tiles of A and B of each product. The taps take turns at the same channels, so that what their windows share is read again while it is
// in the L1 cache. Where all of k is one stretch, it is the only tap.
template <class Index, bool kGathered, int kM, int kN> struct Tiles;

template <bool kGathered, int kM, int kN> struct Tiles<UpIndex, kGathered, kM, kN> {
    static_assert(!kGathered, "`up` gathers nothing");
    using A = WindowTile<UpIndex, false, kM>;
    using B = UpWeightTile<kN>;
    static constexpr uint32_t kTaps = UpIndex::kTaps;
};
template <bool kGathered, int kM, int kN> struct Tiles<DownIndex, kGathered, kM, kN> {
    using A = WindowTile<DownIndex, kGathered, kM>;
    using B = DownWeightTile<kGathered, kN>;
    static constexpr uint32_t kTaps = kGathered ? 1 : DownIndex::kTaps;
};
template <bool kGathered, int kM, int kN> struct Tiles<WeightIndex, kGathered, kM, kN> {
    using A = SmallTile<kM>;
    using B = PatchTile<kGathered, kN>;
    static constexpr uint32_t kTaps = 1;
};

}  // namespace
}  // namespace fastgan
