#include "deconv.h"

#include <algorithm>

#include "deconv_common.h"
#include "deconv_deep.h"
#include "pixel_product.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// The weight in memory is a matrix [C, 4 * 4 * K], so what a small pixel gives to the big image, before it is added up, is one row of a matrix
// product: small [pixels, C] x weight. With those rows of two neighbouring small rows r and r + 1 at hand ("top" and "bottom"), the big rows
// 2r + 1 and 2r + 2 can be summed and finished while all of it is still in the first-level cache.

// One big row, from x = -1 to 2w. In it the two pixels 2j + 1 and 2j + 2 lie side by side, and get taps 2 and 3 of small pixel j and taps 0 and 1
// of small pixel j + 1: four stretches of 2K numbers to add.
template <class Sum, int lanes> struct AddTaps {
    // top, bottom: the tap row (ky) that counts of [w + 2, 4, 4K] products, whose first and last pixel are zero. line: [w + 1, 2K], written.
    // `lanes` is a whole vector of at least 2K, or 0 for a loop of 2K. What is read and written too far, the next pixel overwrites.
    static FASTGAN_LOOP void run(const Sum* __restrict top, const Sum* __restrict bottom, Sum* __restrict line, int64_t w, int64_t K) {
        for (int64_t j = 0; j <= w; ++j, top += 16 * K, bottom += 16 * K, line += 2 * K) {
            const int64_t size = lanes ? lanes : 2 * K;
            for (int64_t e = 0; e < size; ++e) line[e] = (top[2 * K + e] + top[16 * K + e]) + (bottom[2 * K + e] + bottom[16 * K + e]);
        }
    }
};

template <class Sum> void add_taps(const Sum* top, const Sum* bottom, Sum* line, int64_t w, int64_t K) {
    if (2 * K <= 4) vectorised<AddTaps<Sum, 4>>(top, bottom, line, w, K);
    else if (2 * K <= 8) vectorised<AddTaps<Sum, 8>>(top, bottom, line, w, K);
    else if (2 * K <= 16) vectorised<AddTaps<Sum, 16>>(top, bottom, line, w, K);
    else vectorised<AddTaps<Sum, 0>>(top, bottom, line, w, K);
}

// What all threads read. T is the dtype of the images, In that of the matrix product: T, or float for bfloat16 without instructions for it.
template <class T, class In> struct Shared {
    using Sum = typename SumOf<In>::type;
    const DeconvUpArgs& args;
    Scratch<In> weight;     // packed
    Scratch<Sum> bias;      // [W, K]: for a whole row, so that the loop over it is a plain one

    explicit Shared(const DeconvUpArgs& a)
        : args(a), weight(packed_size<In>(a.shape.small_channels, 16 * a.shape.big_channels)), bias(a.shape.big_width * a.shape.big_channels) {
        const int64_t C = a.shape.small_channels, K = a.shape.big_channels;
        const T *from = static_cast<const T*>(a.weight), *b = static_cast<const T*>(a.bias);
        pack_weight(weight.get(), C, 16 * K, [=](int64_t c, int64_t column) { return from[c * 16 * K + column]; });
        for (int64_t i = 0; b && i < a.shape.big_width * K; ++i) bias.get()[i] = b[i % K];
    }
};

// One thread's memory and its work.
template <class T, class In> class Rows {
    using Sum = typename SumOf<In>::type;
    static constexpr int64_t kBeyond = 16;  // what AddTaps may touch after the end

  public:
    explicit Rows(const Shared<T, In>& shared)
        : shared_(shared), s_(shared.args.shape), row_(16 * s_.big_channels * (s_.small_width + 2)), products_(3 * row_ + kBeyond),
          line_(2 * s_.big_channels * (s_.small_width + 1) + kBeyond), widened_(s_.small_width * s_.small_channels) {}

    // Block b of image n is the big rows 2r + 1 and 2r + 2 with r = b - 1: there are h + 1 blocks, of which the first and the last are halves.
    void run(int64_t begin, int64_t end) {
        const int64_t h = s_.small_height;
        for (int64_t block = begin; block < end; ++block) {
            const int64_t n = block / (h + 1), r = block % (h + 1) - 1;
            if (block == begin && r >= 0) multiply_row(n, r);
            if (r + 1 < h) multiply_row(n, r + 1);
            for (int64_t odd = 0; odd < 2; ++odd) write_row(n, r, odd);
        }
    }

  private:
    // The products of small row r: two are kept, and a row of zeros stands for what is outside the image.
    Sum* products(int64_t r) { return products_.get() + (0 <= r && r < s_.small_height ? r % 2 : 2) * row_; }

    void multiply_row(int64_t n, int64_t r) {
        const int64_t C = s_.small_channels, K = s_.big_channels, w = s_.small_width;
        const T* small = static_cast<const T*>(shared_.args.small) + (n * s_.small_height + r) * w * C;
        PixelProduct<In> product{{}, 1, C, C, shared_.weight.get(), 16 * K, products(r) + 16 * K, w};
        if constexpr (std::is_same_v<T, In>) {
            product.x[0] = small;
        } else {
            vectorised<Convert<T, In>>(small, widened_.get(), w * C);
            product.x[0] = widened_.get();
        }
        multiply(product);
    }

    void write_row(int64_t n, int64_t r, int64_t odd) {
        const int64_t K = s_.big_channels, y = 2 * r + 1 + odd;
        if (y < 0 || y >= s_.big_height) return;
        add_taps<Sum>(products(r) + (2 + odd) * 4 * K, products(r + 1) + odd * 4 * K, line_.get(), s_.small_width, K);
        T* big = static_cast<T*>(shared_.args.big) + (n * s_.big_height + y) * s_.big_width * K;
        const Sum *sums = line_.get() + K, *bias = shared_.bias.get();
        vectorised<Finish<Sum, T>>(sums, bias, big, s_.big_width * K, shared_.args.epilogue, Sum(shared_.args.slope));
    }

    const Shared<T, In>& shared_;
    const DeconvShape s_;
    const int64_t row_;  // elements in the products of a small row: [w + 2, 4, 4, K], the first and the last pixel zero
    Scratch<Sum> products_, line_;
    Scratch<In> widened_;
};

template <class T, class In = T> void run(const DeconvUpArgs& args) {
    const DeconvShape& s = args.shape;
    const Shared<T, In> shared(args);
    const int64_t work = 16 * s.big_channels * s.small_channels * s.small_width + 1;
    const auto blocks = [&](int64_t begin, int64_t end) { Rows<T, In>(shared).run(begin, end); };
    parallel_for(s.batch * (s.small_height + 1), std::max<int64_t>(1, kGrain / work), blocks);
}

}  // namespace

bool deconv_up_cpu(const DeconvUpArgs& args) {
    if (deconv_up_deep(args)) return true;
    if (args.dtype == Dtype::float32) run<float>(args);
    else if (args.dtype == Dtype::float64) run<double>(args);
    else if (args.dtype != Dtype::bfloat16) return false;
    else if (best_isa() >= Isa::avx512_bf16) run<BFloat16>(args);
    else run<BFloat16, float>(args);
    return true;
}

}  // namespace fastgan
