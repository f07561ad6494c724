// The order of work of the fast deconv_weight; the arithmetic is in deconv_weight_kernels.h.
//
// The 4 x 4 taps fall into four phases of 2 x 2: tap (ky, kx) sees the big pixels whose row + 1 has the parity of ky and whose column + 1 has that
// of kx. Along either axis a phase is two taps over neighbouring pixels,
//     w0 = s0 b0 + s1 b1,  w1 = s0 b1 + s1 b2,
// four products, of which three suffice (Winograd's F(2, 2)):
//     m0 = s0 (b0 - b1),  m1 = (s0 + s1) b1,  m2 = s1 (b2 - b1);   w0 = m0 + m1,  w1 = m1 + m2.
// So a window of 2 x 2 small pixels and 3 x 3 big ones takes 9 products instead of 16, and each of the nine is a matrix product over the windows of
// all images:  sums [term] [C, K] = sum over windows of small_terms [term] [window, C] * big_terms [phase, term] [window, K],  in float32.
// In bfloat16 the terms are rounded to it. That is an error like that of rounding the images once more: for random images 4.6e-3 of the root mean
// square of the result, where rounding the result alone is 1.7e-3. An infinity becomes a NaN, in the taps of its neighbours too.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "deconv.h"
#include "deconv_weight_memory.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

constexpr int kTerms = 9, kPhases = 4;

// A channels_last image, zero everywhere outside.
template <class T> struct Pixels {
    const T* data;  // [count, height, width, channels]
    int64_t count, height, width, channels;
    const T* zeros;  // as many as are read at a time

    const T* at(int64_t n, int64_t y, int64_t x, int64_t channel) const {
        const bool inside = n < count && uint64_t(y) < uint64_t(height) && uint64_t(x) < uint64_t(width);
        return inside ? data + ((n * height + y) * width + x) * channels + channel : zeros;
    }
};

template <class Kernels, class T> class WeightByTerms {
    static constexpr int64_t kRows = Kernels::kRows, kWidth = Kernels::kLanes * Kernels::kVectors, kImages = Kernels::kImages;
    static constexpr int64_t kChunk = 128;                      // windows of big terms at a time: 9 x 128 x 256 bytes stay in L2
    static constexpr int64_t kBigPanel = kChunk * kWidth + 80;  // floats from one term to the next: the nine do not share the same cache sets
    static constexpr int64_t kSmallFloats = 1 << 19;            // of small terms at a time (or kChunk windows): 2 MB stay in the caches
    static constexpr int64_t kSegment = 32;                     // windows of small terms that a thread packs at a time
    static constexpr int64_t kGroup = 48;                       // and their channels: whole vectors and whole tiles
    static constexpr int64_t kAhead = 4;                        // windows between the prefetch of their pixels and their use: saves 1.5 ms of 15

  public:
    explicit WeightByTerms(const DeconvWeightArgs& args)
        : shape_(args.shape),
          small_{static_cast<const T*>(args.small), shape_.batch, shape_.small_height, shape_.small_width, shape_.small_channels, kZeros},
          big_{static_cast<const T*>(args.big), shape_.batch, shape_.big_height, shape_.big_width, shape_.big_channels, kZeros},
          weight_(static_cast<T*>(args.weight)) {}

    void run() {
        const int64_t small_block = std::min(depth_, std::max(kChunk, kSmallFloats / (kTerms * tiles_ * kRows) / kChunk * kChunk));
        panel_ = (divide_up(small_block * kRows, 16) | 1) * 16;  // an odd number of cache lines, so that panels do not share the same few sets
        static thread_local KeptMemory small_scratch, sums_scratch;
        small_terms_ = small_scratch.floats(tiles_ * kTerms * panel_);
        sums_ = depth_ > kChunk ? sums_scratch.floats(kPhases * blocks_ * tiles_ * kTileSums) : nullptr;
        for (int64_t begin = 0; begin < depth_; begin += small_block) {
            const int64_t end = std::min(depth_, begin + small_block);
            pack_small(begin, end);
            parallel_for(kPhases * blocks_ * tiles_, 1, [&](int64_t task, int64_t stop) {
                while (task < stop) {  // neighbouring tasks share their big terms
                    const int64_t tile = task % tiles_, tile_end = std::min(tiles_, tile + stop - task);
                    multiply(task / tiles_, tile, tile_end, begin, end);
                    task += tile_end - tile;
                }
            });
        }
    }

  private:
    static constexpr int64_t kTileSums = kTerms * kRows * kWidth;
    alignas(64) static constexpr T kZeros[64] = {};

    struct Window {
        int64_t n, i, j;  // first image, and the small pixel at the corner
    };
    Window window(int64_t d) const { return {d / (rows_ * columns_) * kImages, d / columns_ % rows_ * 2, d % columns_ * 2}; }

    void pack_small(int64_t begin, int64_t end) {
        const int64_t groups = divide_up(shape_.small_channels, kGroup), segments = divide_up(end - begin, kSegment);
        parallel_for(segments * groups, 1, [&](int64_t task, int64_t stop) {
            for (; task < stop; ++task) {
                const int64_t from = begin + task / groups * kSegment;
                pack_small_group(task % groups * kGroup, begin, from, std::min(end, from + kSegment));
            }
        });
    }

    // Small terms of windows [from, to), for up to kGroup channels: [tile][term][window - begin][kRows].
    void pack_small_group(int64_t channel, int64_t begin, int64_t from, int64_t to) {
        const T* pixels[kAhead + 1][kImages][4];  // of the windows being fetched, in a ring
        alignas(64) float terms[kTerms * kGroup];
        const int64_t channels = std::min(kGroup, shape_.small_channels - channel), first = channel / kRows;
        std::fill(terms, terms + kTerms * kGroup, 0.0f);
        for (int64_t next = from; next < to + kAhead; ++next) {
            if (next < to) find_small(channel, channels, next, pixels[next % (kAhead + 1)]);
            const int64_t d = next - kAhead;
            if (d < from) continue;
            Kernels::small_terms(pixels[d % (kAhead + 1)], channels, terms, kGroup);
            for (int64_t tile = 0; tile * kRows < channels; ++tile) {
                for (int64_t p = 0; p < kTerms; ++p) {
                    std::memcpy(small_panel(first + tile, p) + (d - begin) * kRows, terms + p * kGroup + tile * kRows, kRows * sizeof(float));
                }
            }
        }
    }

    // Where the four pixels of a window are in each image, on their way into the cache from now on.
    void find_small(int64_t channel, int64_t channels, int64_t d, const T* (*pixels)[4]) const {
        const Window at = window(d);
        for (int64_t e = 0; e < kImages * 4; ++e) {
            const T* p = pixels[e / 4][e % 4] = small_.at(at.n + e / 4, at.i + e / 2 % 2, at.j + e % 2, channel);
            prefetch(p, channels);
        }
    }

    float* small_panel(int64_t tile, int64_t term) const { return small_terms_ + (tile * kTerms + term) * panel_; }

    // Adds the windows [begin, end) to the sums of some tiles of one phase and block of big channels.
    void multiply(int64_t phase_block, int64_t tile, int64_t tile_end, int64_t begin, int64_t end) {
        static thread_local KeptMemory scratch;
        float *big_terms = scratch.floats(kTerms * kBigPanel + kTileSums), *passing_sums = big_terms + kTerms * kBigPanel;
        const int64_t k = phase_block % blocks_ * kWidth, channels = std::min(kWidth, shape_.big_channels - k);
        const int vectors = int(divide_up(channels, Kernels::kLanes));
        const int64_t width = vectors * Kernels::kLanes;
        for (int64_t from = begin; from < end; from += kChunk) {
            const int64_t to = std::min(end, from + kChunk);
            pack_big(phase_block / blocks_, k, channels, width, from, to, big_terms);
            for (int64_t t = tile; t < tile_end; ++t) {
                float* sums = sums_ ? sums_ + (phase_block * tiles_ + t) * kTileSums : passing_sums;
                if (to == depth_) prefetch_weight(phase_block / blocks_, k, channels, t);
                for (int64_t p = 0; p < kTerms; ++p) {
                    Kernels::multiply(vectors, small_panel(t, p) + (from - begin) * kRows, kRows, big_terms + p * kBigPanel, width, to - from,
                                      from == 0, sums + p * kRows * width);
                }
                if (to == depth_) write(phase_block / blocks_, k, channels, width, t, sums);
            }
        }
    }

    // Big terms of windows [from, to): [term][kChunk][width].
    void pack_big(int64_t phase, int64_t k, int64_t channels, int64_t width, int64_t from, int64_t to, float* terms) {
        const T* pixels[kAhead + 1][kImages][9];  // of the windows being fetched, in a ring
        for (int64_t d = from; d < to + kAhead; ++d) {
            if (d < to) find_big(phase, k, channels, d, pixels[d % (kAhead + 1)]);
            if (d >= from + kAhead) Kernels::big_terms(pixels[(d - kAhead) % (kAhead + 1)], channels, terms + (d - kAhead - from) * width, kBigPanel);
        }
    }

    // Where the nine pixels of a window are in each image, on their way into the cache from now on.
    void find_big(int64_t phase, int64_t k, int64_t channels, int64_t d, const T* (*pixels)[9]) const {
        const Window at = window(d);
        const int64_t y = 2 * at.i - 1 + phase / 2, x = 2 * at.j - 1 + phase % 2;
        for (int64_t n = 0; n < kImages; ++n) {
            for (int64_t a = 0; a < 3; ++a) {
                for (int64_t b = 0; b < 3; ++b) {
                    const T* p = pixels[n][a * 3 + b] = big_.at(at.n + n, y + 2 * a, x + 2 * b, k);
                    prefetch(p, channels);
                }
            }
        }
    }

    T* weight_of(int64_t channel, int64_t phase, int64_t tap, int64_t k) const {
        const int64_t ky = tap / 2 * 2 + phase / 2, kx = tap % 2 * 2 + phase % 2;
        return weight_ + ((channel * 4 + ky) * 4 + kx) * shape_.big_channels + k;
    }

    int64_t rows(int64_t tile) const { return std::min(kRows, shape_.small_channels - tile * kRows); }

    void prefetch_weight(int64_t phase, int64_t k, int64_t channels, int64_t tile) const {
        for (int64_t r = 0; r < rows(tile); ++r) {
            for (int64_t tap = 0; tap < 4; ++tap) prefetch(weight_of(tile * kRows + r, phase, tap, k), channels);
        }
    }

    // The four taps of a phase, of one tile of small channels and one block of big ones.
    void write(int64_t phase, int64_t k, int64_t channels, int64_t width, int64_t tile, const float* sums) const {
        const int64_t K = shape_.big_channels;
        for (int64_t r = 0; r < rows(tile); ++r) {
            Kernels::taps(sums + r * width, kRows * width, channels, weight_of(tile * kRows + r, phase, 0, k), 8 * K, 2 * K);
        }
    }

    static void prefetch(const T* p, int64_t count) {
        for (int64_t e = 0; e < count; e += 64 / int64_t(sizeof(T))) __builtin_prefetch(p + e);
    }

    const DeconvShape shape_;
    const Pixels<T> small_, big_;
    T* const weight_;  // [C, 4, 4, K]
    const int64_t rows_ = divide_up(shape_.small_height, 2), columns_ = divide_up(shape_.small_width, 2);  // of windows in an image
    const int64_t depth_ = divide_up(shape_.batch, kImages) * rows_ * columns_;  // windows of units
    const int64_t tiles_ = divide_up(shape_.small_channels, kRows), blocks_ = divide_up(shape_.big_channels, kWidth);
    int64_t panel_ = 0;             // floats from one panel of small terms to the next
    float* small_terms_ = nullptr;  // [tile][term][windows of this block][kRows]
    float* sums_ = nullptr;         // [phase][block][tile][term][kRows][width]; null where every sum is finished in one go
};

}  // namespace
}  // namespace fastgan
