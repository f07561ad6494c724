// The order of work of deconv_weight for an image of few big channels (red, green, blue), which would fill a fraction of a vector.
//
// The pixels 2j - 1 ... 2j + 2 of a row of the big image are 4 K neighbouring values in memory, so what the sixteen taps see of it from one small
// pixel is four runs, together a patch [4, 4, K] in the order of the weight:  weight [C, 16 K] = sum over small pixels of small [C] * patch [16 K].
// Nothing is rounded on the way. Rows of the small image are divided into parts, so that the sums are the same for any number of threads.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "deconv.h"
#include "deconv_weight_memory.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

template <class Kernels, class T> class WeightByPatches {
    static constexpr int64_t kRows = Kernels::kRows, kLanes = Kernels::kLanes, kWidth = kLanes * Kernels::kVectors, kImages = Kernels::kImages;
    static constexpr int64_t kParts = 32;  // at most
    static constexpr int64_t kChunk = 64;  // small pixels at a time, at least: 64 patches of 48 units are 12 KB

  public:
    explicit WeightByPatches(const DeconvWeightArgs& args)
        : shape_(args.shape),
          small_(static_cast<const T*>(args.small)),
          big_(static_cast<const T*>(args.big)),
          weight_(static_cast<T*>(args.weight)) {}

    void run() {
        static thread_local KeptMemory scratch;
        sums_ = scratch.floats(parts_ * part_sums_);
        parallel_for(parts_, 1, [&](int64_t part, int64_t end) {
            for (; part < end; ++part) sum_part(sums_ + part * part_sums_, part * rows_ / parts_, (part + 1) * rows_ / parts_);
        });
        parallel_for(shape_.small_channels, 16, [&](int64_t c, int64_t end) {
            for (; c < end; ++c) write(c);
        });
    }

  private:
    // The sums of small rows [begin, end), of all images in order.
    void sum_part(float* sums, int64_t begin, int64_t end) const {
        static thread_local KeptMemory scratch;
        const int64_t chunk_rows = divide_up(kChunk, shape_.small_width), pixels = chunk_rows * shape_.small_width;
        float* patches = scratch.floats(pixels * (stride_ + small_stride_) + kLanes + 4 * big_row_);
        float *small = patches + pixels * stride_ + kLanes, *big_rows = small + pixels * small_stride_;
        for (int64_t row = begin; row < end; row += chunk_rows) {
            const int64_t rows = std::min(chunk_rows, end - row), depth = rows * shape_.small_width;
            for (int64_t r = 0; r < rows; ++r) {
                pack_big(row + r, big_rows, patches + r * shape_.small_width * stride_);
                pack_small(row + r, small + r * shape_.small_width * small_stride_);
            }
            for (int64_t tile = 0; tile < tiles_; ++tile) {
                for (int64_t k = 0; k < stride_; k += kWidth) {
                    const int64_t width = std::min(kWidth, stride_ - k);
                    Kernels::multiply(int(width / kLanes), small + tile * kRows, small_stride_, patches + k, stride_, depth, row == begin,
                                      sums + (tile * stride_ + k) * kRows);
                }
            }
        }
    }

    // The patches of one row of the small image, [small_width][stride_]. rows [4][big_row_] are overwritten.
    void pack_big(int64_t row, float* rows, float* patches) const {
        const int64_t n = row / shape_.small_height * kImages, i = row % shape_.small_height;
        const int64_t K = shape_.big_channels, row_size = shape_.big_width * K;
        const float* taps[4];
        for (int64_t ky = 0; ky < 4; ++ky) {
            const int64_t y = 2 * i - 1 + ky;
            const bool inside = y >= 0 && y < shape_.big_height;
            const T* images[kImages];
            for (int64_t e = 0; e < kImages; ++e) {
                images[e] = inside && n + e < shape_.batch ? big_ + ((n + e) * shape_.big_height + y) * row_size : nullptr;
            }
            float* units = rows + ky * big_row_;
            std::fill(units, units + K, 0.0f);  // left of the image
            Kernels::units(images, row_size, units + K);
            std::fill(units + K + row_size, units + big_row_, 0.0f);  // right of it
            taps[ky] = units;
        }
        Kernels::patches(taps, 4 * K, shape_.small_width, patches, stride_);
    }

    // One row of the small image as units, [small_width][small_stride_].
    void pack_small(int64_t row, float* units) const {
        const int64_t h = shape_.small_height, w = shape_.small_width, C = shape_.small_channels, n = row / h * kImages;
        for (int64_t j = 0; j < w; ++j) {
            const T* images[kImages];
            for (int64_t e = 0; e < kImages; ++e) images[e] = n + e < shape_.batch ? small_ + (((n + e) * h + row % h) * w + j) * C : nullptr;
            Kernels::units(images, C, units + j * small_stride_);
        }
    }

    void write(int64_t c) const {
        const int64_t size = 16 * shape_.big_channels;
        for (int64_t k = 0; k < size; k += kWidth) {
            const int64_t width = std::min(kWidth, stride_ - k);
            const float* sums = sums_ + (c / kRows * stride_ + k) * kRows + c % kRows * width;
            Kernels::total(sums, parts_, part_sums_, std::min(width, size - k), weight_ + c * size + k);
        }
    }

    const DeconvShape shape_;
    const T *const small_, *const big_;
    T* const weight_;  // [C, 4, 4, K]
    const int64_t rows_ = divide_up(shape_.batch, kImages) * shape_.small_height, parts_ = std::min(rows_, kParts);
    const int64_t tiles_ = divide_up(shape_.small_channels, kRows);
    const int64_t stride_ = divide_up(16 * shape_.big_channels, kLanes) * kLanes;              // from one patch to the next
    const int64_t part_sums_ = tiles_ * kRows * stride_;                                       // [tile][block of kWidth][kRows][width]
    const int64_t big_row_ = (shape_.big_width + 2) * shape_.big_channels + 2 * kLanes;        // a row of units, with room for whole vectors
    const int64_t small_stride_ = divide_up(shape_.small_channels, kLanes) * kLanes + kLanes;  // from one small pixel to the next
    float* sums_ = nullptr;                                                                    // [part] as above
};

}  // namespace
}  // namespace fastgan
