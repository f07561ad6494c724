#include "deconv.h"

#include <algorithm>

#include "deconv_common.h"
#include "deconv_deep.h"
#include "pixel_product.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// A small pixel sees four stretches of 4K numbers, one in each of four big rows. So a small row is a matrix product whose rows overlap in memory,
// [w, 4 * 4K] x [4 * 4K, C], of big rows with a pixel of zeros before and after them; no patch is ever copied.

// Small pixels finished at a time. A whole row's stores in one go have to wait for memory: 5.4 instead of 4.5 ms for 64 channels of 65536 pixels
// in float32 (one core).
constexpr int64_t kPiece = 8;

// What all threads read. T is the dtype of the images, In that of the matrix product: T, or float for bfloat16 without instructions for it.
template <class T, class In> struct Shared {
    using Sum = typename SumOf<In>::type;
    const DeconvDownArgs& args;
    const int64_t columns;  // C, rounded up
    Scratch<In> weight;     // packed: [16 K, columns], and zero in the columns after C
    Scratch<Sum> bias;      // [kPiece, columns]: for a whole piece, so that the loop over it is a plain one

    explicit Shared(const DeconvDownArgs& a)
        : args(a), columns((a.shape.small_channels + kColumns - 1) / kColumns * kColumns),
          weight(packed_size<In>(16 * a.shape.big_channels, columns)), bias(kPiece * columns) {
        const int64_t C = a.shape.small_channels, K = a.shape.big_channels;
        const T *from = static_cast<const T*>(a.weight), *b = static_cast<const T*>(a.bias);
        pack_weight(weight.get(), 16 * K, columns, [=](int64_t tap, int64_t c) { return c < C ? from[c * 16 * K + tap] : T(0.0f); });
        for (int64_t i = 0; b && i < kPiece * columns; ++i) bias.get()[i] = i % columns < C ? b[i % columns] : T(0.0f);
    }
};

// One thread's memory and its work.
template <class T, class In> class Rows {
    using Sum = typename SumOf<In>::type;

  public:
    explicit Rows(const Shared<T, In>& shared)
        : shared_(shared), s_(shared.args.shape), line_(2 * (s_.small_width + 1) * s_.big_channels), lines_(5 * line_),
          sums_(kPiece * shared.columns) {}

    // Small rows, of all images in turn.
    void run(int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / s_.small_height, i = row % s_.small_height;
            for (int64_t y = row == begin || i == 0 ? 2 * i - 1 : 2 * i + 1; y <= 2 * i + 2; ++y) read_row(n, y);
            write_row(row, i);
        }
    }

  private:
    // Big row y, [2w + 2, K] from x = -1 on: four are kept, and a row of zeros stands for what is outside the image.
    In* line(int64_t y) { return lines_.get() + (0 <= y && y < s_.big_height ? y % 4 : 4) * line_; }

    void read_row(int64_t n, int64_t y) {
        if (y < 0 || y >= s_.big_height) return;
        const int64_t K = s_.big_channels, W = s_.big_width;
        vectorised<Convert<T, In>>(static_cast<const T*>(shared_.args.big) + (n * s_.big_height + y) * W * K, line(y) + K, W * K);
    }

    void write_row(int64_t row, int64_t i) {
        const int64_t C = s_.small_channels, w = s_.small_width;
        T* small = static_cast<T*>(shared_.args.small) + row * w * C;
        for (int64_t j = 0; j < w; j += kPiece) write_piece(small + j * C, i, j, std::min(kPiece, w - j));
    }

    // small: [pixels, C], small pixels j and on of row i, written.
    void write_piece(T* small, int64_t i, int64_t j, int64_t pixels) {
        const int64_t C = s_.small_channels, K = s_.big_channels, columns = shared_.columns, first = 2 * j * K;
        PixelProduct<In> product{{}, 4, 4 * K, 2 * K, shared_.weight.get(), columns, sums_.get(), pixels};
        for (int64_t ky = 0; ky < 4; ++ky) product.x[ky] = line(2 * i - 1 + ky) + first;
        multiply(product);
        const int64_t together = C == columns ? pixels : 1;  // without columns of padding, all pixels are one loop
        for (int64_t pixel = 0; pixel < pixels; pixel += together) {
            const Sum *sums = sums_.get() + pixel * columns, *bias = shared_.bias.get();
            vectorised<Finish<Sum, T>>(sums, bias, small + pixel * C, together * C, shared_.args.epilogue, Sum(shared_.args.slope));
        }
    }

    const Shared<T, In>& shared_;
    const DeconvShape s_;
    const int64_t line_;  // elements of a big row with a pixel before and one after: [2w + 2, K]
    Scratch<In> lines_;
    Scratch<Sum> sums_;  // [kPiece, columns]
};

template <class T, class In = T> void run(const DeconvDownArgs& args) {
    const DeconvShape& s = args.shape;
    const Shared<T, In> shared(args);
    const int64_t work = 16 * s.big_channels * s.small_channels * s.small_width + 1;
    const auto rows = [&](int64_t begin, int64_t end) { Rows<T, In>(shared).run(begin, end); };
    parallel_for(s.batch * s.small_height, std::max<int64_t>(1, kGrain / work), rows);
}

}  // namespace

bool deconv_down_cpu(const DeconvDownArgs& args) {
    if (deconv_down_deep(args)) return true;
    if (args.dtype == Dtype::float32) run<float>(args);
    else if (args.dtype == Dtype::float64) run<double>(args);
    else if (args.dtype != Dtype::bfloat16) return false;
    else if (best_isa() >= Isa::avx512_bf16) run<BFloat16>(args);
    else run<BFloat16, float>(args);
    return true;
}

}  // namespace fastgan
