#include "deconv.h"

#include <algorithm>
#include <vector>

#include "deconv_plain.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// One row of the small image at a time.
template <class T> void plain(const DeconvDownArgs& args) {
    using Sum = typename SumOf<T>::type;
    const auto [N, C, K, h, w, H, W] = args.shape;
    const T *big = static_cast<const T*>(args.big), *weight = static_cast<const T*>(args.weight), *bias = static_cast<const T*>(args.bias);
    T* small = static_cast<T*>(args.small);
    parallel_for(N * h, 1, [&, C = C, K = K, h = h, w = w, H = H, W = W](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / h, i = row % h;
            for (int64_t j = 0; j < w; ++j) {
                for (int64_t c = 0; c < C; ++c) {
                    Sum sum = bias ? Sum(bias[c]) : Sum(0);
                    for (int64_t ky = 0; ky < 4; ++ky) {
                        const int64_t y = 2 * i - 1 + ky;
                        if (y < 0 || y >= H) continue;
                        for (int64_t kx = 0; kx < 4; ++kx) {
                            const int64_t x = 2 * j - 1 + kx;
                            if (x < 0 || x >= W) continue;
                            const T *pixel = big + ((n * H + y) * W + x) * K, *tap = weight + ((c * 4 + ky) * 4 + kx) * K;
                            for (int64_t k = 0; k < K; ++k) sum += Sum(pixel[k]) * Sum(tap[k]);
                        }
                    }
                    small[(row * w + j) * C + c] = T(activated<Sum>(sum, args.epilogue, Sum(args.slope)));
                }
            }
        }
    });
}

}  // namespace

bool deconv_down_cpu(const DeconvDownArgs& args) {
    if (args.dtype == Dtype::float32) plain<float>(args);
    else if (args.dtype == Dtype::float64) plain<double>(args);
    else if (args.dtype == Dtype::bfloat16) plain<BFloat16>(args);
    else return false;
    return true;
}

}  // namespace fastgan
