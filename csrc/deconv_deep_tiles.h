// The order of work of the deep `up` and `down`; the arithmetic is in deconv_deep_kernels.h.
//
// The 4 x 4 taps fall into four phases of 2 x 2. `down` adds up four convolutions of 2 x 2 taps and stride 1, one of each phase of the big image;
// `up` makes each phase of the big image by one such convolution of the small image. Along either axis, two of its outputs are
//     y0 = x0 w0 + x1 w1,  y1 = x1 w0 + x2 w1,
// four products, of which three suffice (Winograd's F(2, 2)):
//     m0 = (x0 - x1) w0,  m1 = x1 (w0 + w1),  m2 = (x2 - x1) w1;   y0 = m0 + m1,  y1 = m1 + m2.
// So a tile of 2 x 2 outputs takes 9 products instead of 16, and each of the nine is a matrix product over the tiles of all images, in float32:
//     sums [term] [tile, columns] = image terms [term] [tile, summed channels] * weight terms [term] [summed channels, columns].
// In bfloat16 the terms are rounded to it. That is an error like that of rounding the images once more: for random images 4.6e-3 of the root mean
// square of the result, where rounding the result alone is 1.7e-3. A NaN reaches the pixels that see it and no others; an infinity becomes a NaN.
#pragma once
#include <algorithm>
#include <cstdint>

#include "deconv.h"
#include "deconv_common.h"
#include "deconv_weight_memory.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// One axis of one phase of an image: position i is pixel step * i + first.
struct Axis {
    int64_t step, first;
    int64_t at(int64_t i) const { return step * i + first; }
};

// `up` (small to big) or `down` (big to small): one image is read, the other written.
template <class T> struct DeepProblem {
    bool up;
    const T *in, *weight, *bias;  // [N, in_height, in_width, in_channels], [C, 4, 4, K], and [out_channels] or null
    T* out;                       // [N, out_height, out_width, out_channels]
    int64_t batch, in_channels, in_height, in_width, out_channels, out_height, out_width;
    Epilogue epilogue;  // not tanh
    float slope;

    // A phase is 2 * (that of the rows) + (that of the columns): taps 2 t + phase along either axis.
    int64_t in_phases() const { return up ? 1 : 4; }
    int64_t out_phases() const { return up ? 4 : 1; }
    // Along one axis, output i of a phase sees positions i and i + 1 of the phase that is read.
    Axis in_axis(int64_t in_phase, int64_t out_phase) const { return up ? Axis{1, -out_phase} : Axis{2, in_phase - 1}; }
    Axis out_axis(int64_t out_phase) const { return up ? Axis{2, 1 - out_phase} : Axis{1, 0}; }
    int64_t tiles(int64_t out_length) const { return divide_up(out_length, up ? 4 : 2); }  // along an axis of that length
};

// Every calling thread keeps 2.25 times the bytes of the weight for the weight terms, and every thread it runs on 0.7 MB
// (more than that above 1024 units).
template <class Kernels> class DeepProduct {
    using T = typename Kernels::T;
    static constexpr int64_t kLanes = Kernels::kLanes, kWidth = kLanes * Kernels::kVectors, kStep = kLanes * Kernels::kChannels;
    static constexpr int64_t kTermUnits = 1 << 14;  // of one image term at a time, about: 9 x 64 KB stay in L2, beside a panel of the weight
    static constexpr int64_t kFewestTiles = 12, kMostTiles = 128;  // at a time

  public:
    explicit DeepProduct(const DeepProblem<T>& problem) : p_(problem) {}

    void run() {
        static thread_local KeptMemory scratch;
        weight_terms_ = scratch.floats(p_.out_phases() * columns_ * kTerms * units_ + columns_);
        bias_ = weight_terms_ + p_.out_phases() * columns_ * kTerms * units_;
        for (int64_t k = 0; k < columns_; ++k) bias_[k] = p_.bias ? float(p_.bias[k]) : 0.0f;
        pack_weight();
        parallel_for(blocks_ * p_.out_phases() * panels_, 1, [&](int64_t task, int64_t end) { multiply(task, end); });
    }

  private:
    static constexpr int kTerms = 9;

    void pack_weight() const {
        parallel_for(p_.up ? p_.in_channels / Kernels::kChannels : 4 * panels_, 1, [&](int64_t task, int64_t end) {
            for (; task < end; ++task) p_.up ? pack_weight_up(task) : pack_weight_down(task / 4 * kWidth, task % 4);
        });
    }

    // The weight terms of a panel, which is kWidth columns (or what is left of them) of an output phase: [term][units_][width(column)].
    float* panel(int64_t out_phase, int64_t column) const { return weight_terms_ + (out_phase * columns_ + column) * kTerms * units_; }
    int64_t width(int64_t column) const { return std::min(kWidth, columns_ - column); }

    // Tap (2 t + phase / 2, 2 u + phase % 2) of small channel c, from big channel k on.
    const T* tap(int64_t c, int64_t phase, int64_t t, int64_t u, int64_t k) const {
        const int64_t ky = 2 * t + phase / 2, kx = 2 * u + phase % 2, K = p_.up ? p_.out_channels : p_.in_channels;
        return p_.weight + ((c * 4 + ky) * 4 + kx) * K + k;
    }

    // One unit of small channels, all columns.
    void pack_weight_up(int64_t unit) const {
        for (int64_t phase = 0; phase < 4; ++phase) {
            for (int64_t column = 0; column < columns_; column += kLanes) {
                const T* taps[Kernels::kChannels][4];
                for (int e = 0; e < 4 * Kernels::kChannels; ++e) {  // the first small pixel gets the last tap
                    taps[e / 4][e % 4] = tap(unit * Kernels::kChannels + e / 4, phase, 1 - e / 2 % 2, 1 - e % 2, column);
                }
                const int64_t in_panel = column % kWidth, panel_width = width(column - in_panel);
                Kernels::weight_terms_of_rows(taps, panel(phase, column - in_panel) + unit * panel_width + in_panel, units_ * panel_width);
            }
        }
    }

    // One phase of the big channels, one panel of columns. The 16 columns of a step lie 8 KB apart for 256 big channels, which no hardware
    // foresees: asking for the next ones takes 0.5 ms of 13 off `down` to 512 from 256 channels (batch 64, 4 x 4 pixels, one core).
    void pack_weight_down(int64_t column, int64_t phase) const {
        const int64_t K = p_.in_channels, panel_width = width(column);
        for (int64_t k = 0; k < K; k += kStep) {
            float* terms = panel(0, column) + (phase * K + k) / Kernels::kChannels * panel_width;
            for (int64_t c = 0; c < panel_width; c += kLanes) {
                const bool last = c + kLanes == panel_width;
                prefetch_taps(last ? column : column + c + kLanes, phase, last ? k + kStep : k);
                const T* taps[4];
                for (int e = 0; e < 4; ++e) taps[e] = tap(column + c, phase, e / 2, e % 2, k);
                Kernels::weight_terms_of_columns(taps, 16 * K, terms + c, units_ * panel_width, panel_width);
            }
        }
    }

    void prefetch_taps(int64_t column, int64_t phase, int64_t k) const {
        if (k >= p_.in_channels) return;
        for (int64_t c = column; c < column + kLanes; ++c) {
            for (int e = 0; e < 4; ++e) __builtin_prefetch(tap(c, phase, e / 2, e % 2, k), 0, 2);  // to L2: in L1 they would share few sets
        }
    }

    struct Tile {
        int64_t n, i, j;  // image, and the first of its outputs
    };
    Tile tile(int64_t t) const { return {t / (rows_ * row_tiles_), t / row_tiles_ % rows_ * 2, t % row_tiles_ * 2}; }

    // A task is a panel of an output phase of a block of tiles. Neighbours share their image terms.
    void multiply(int64_t task, int64_t end) const {
        static thread_local KeptMemory scratch;
        float *terms = scratch.floats(kTerms * (term_stride_ + block_ * kWidth)), *sums = terms + kTerms * term_stride_;
        for (int64_t packed = -1; task < end; ++task) {
            const int64_t phase_block = task / panels_, phase = phase_block % p_.out_phases(), column = task % panels_ * kWidth;
            const int64_t first = phase_block / p_.out_phases() * block_, count = std::min(block_, tiles_ - first), panel_width = width(column);
            if (packed != phase_block) pack_image(phase, first, count, terms);
            packed = phase_block;
            for (int64_t term = 0; term < kTerms; ++term) {
                const float *image = terms + term * term_stride_, *weight = panel(phase, column) + term * units_ * panel_width;
                Kernels::multiply(panel_width / kLanes, count, image, image_stride_, weight, units_, sums + term * block_ * panel_width);
            }
            for (int64_t t = 0; t < count; ++t) write(phase, tile(first + t), column, sums + t * panel_width);
        }
    }

    // The image terms of tiles first ... first + count - 1: [term][tile][in phase][units].
    void pack_image(int64_t out_phase, int64_t first, int64_t count, float* terms) const {
        for (int64_t t = 0; t < count; ++t) {
            const Tile at = tile(first + t);
            for (int64_t phase = 0; phase < p_.in_phases(); ++phase) {
                const Axis y = p_.in_axis(phase / 2, out_phase / 2), x = p_.in_axis(phase % 2, out_phase % 2);
                const T* pixels[9];
                for (int e = 0; e < 9; ++e) pixels[e] = in_pixel(at.n, y.at(at.i + e / 3), x.at(at.j + e % 3));
                Kernels::image_terms(pixels, p_.in_channels, terms + t * image_stride_ + phase * (units_ / p_.in_phases()), term_stride_);
            }
        }
    }

    const T* in_pixel(int64_t n, int64_t y, int64_t x) const {
        const bool inside = uint64_t(y) < uint64_t(p_.in_height) && uint64_t(x) < uint64_t(p_.in_width);
        return inside ? p_.in + ((n * p_.in_height + y) * p_.in_width + x) * p_.in_channels : zeros_.get();
    }

    // The outputs of a tile, a panel of columns. sums: [term][block_][width(column)], at that tile.
    void write(int64_t phase, const Tile& at, int64_t column, const float* sums) const {
        const Axis y = p_.out_axis(phase / 2), x = p_.out_axis(phase % 2);
        T* pixels[4];
        for (int e = 0; e < 4; ++e) {
            const int64_t row = y.at(at.i + e / 2), pixel = x.at(at.j + e % 2);
            const bool inside = row < p_.out_height && pixel < p_.out_width;
            pixels[e] = inside ? p_.out + ((at.n * p_.out_height + row) * p_.out_width + pixel) * p_.out_channels + column : nullptr;
        }
        Kernels::pixels(sums, block_ * width(column), width(column), bias_ + column, p_.epilogue, p_.slope, pixels);
    }

    const DeepProblem<T> p_;
    const Scratch<T> zeros_{p_.in_channels};  // a pixel outside the image
    const int64_t columns_ = p_.out_channels, panels_ = divide_up(columns_, kWidth);
    const int64_t units_ = p_.in_phases() * p_.in_channels / Kernels::kChannels;  // of what is summed, in each term
    const int64_t rows_ = p_.tiles(p_.out_height), row_tiles_ = p_.tiles(p_.out_width), tiles_ = p_.batch * rows_ * row_tiles_;
    const int64_t block_ = std::min(tiles_, std::clamp(kTermUnits / units_, kFewestTiles, kMostTiles)), blocks_ = divide_up(tiles_, block_);
    const int64_t image_stride_ = units_ + 16, term_stride_ = block_ * image_stride_ + 16;  // not powers of two, which would share cache sets
    float *weight_terms_ = nullptr, *bias_ = nullptr;  // [out phase][panel], and [columns_]
};

}  // namespace
}  // namespace fastgan
