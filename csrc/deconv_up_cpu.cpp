#include "deconv.h"

#include <algorithm>
#include <vector>

#include "deconv_plain.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// One row of the big image at a time; every tap that reaches it adds its product.
template <class T> void plain(const DeconvUpArgs& args) {
    using Sum = typename SumOf<T>::type;
    const auto [N, C, K, h, w, H, W] = args.shape;
    const T *small = static_cast<const T*>(args.small), *weight = static_cast<const T*>(args.weight), *bias = static_cast<const T*>(args.bias);
    T* big = static_cast<T*>(args.big);
    parallel_for(N * H, 1, [&, C = C, K = K, h = h, w = w, H = H, W = W](int64_t begin, int64_t end) {
        std::vector<Sum> sum(K);
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / H, y = row % H;
            for (int64_t x = 0; x < W; ++x) {
                for (int64_t k = 0; k < K; ++k) sum[k] = bias ? Sum(bias[k]) : Sum(0);
                for (int64_t ky = (y + 1) % 2; ky < 4; ky += 2) {
                    const int64_t i = (y + 1 - ky) / 2;
                    if (y + 1 < ky || i >= h) continue;
                    for (int64_t kx = (x + 1) % 2; kx < 4; kx += 2) {
                        const int64_t j = (x + 1 - kx) / 2;
                        if (x + 1 < kx || j >= w) continue;
                        for (int64_t c = 0; c < C; ++c) {
                            const Sum value = small[((n * h + i) * w + j) * C + c];
                            const T* tap = weight + ((c * 4 + ky) * 4 + kx) * K;
                            for (int64_t k = 0; k < K; ++k) sum[k] += value * Sum(tap[k]);
                        }
                    }
                }
                for (int64_t k = 0; k < K; ++k) big[(row * W + x) * K + k] = T(activated<Sum>(sum[k], args.epilogue, Sum(args.slope)));
            }
        }
    });
}

}  // namespace

bool deconv_up_cpu(const DeconvUpArgs& args) {
    if (args.dtype == Dtype::float32) plain<float>(args);
    else if (args.dtype == Dtype::float64) plain<double>(args);
    else if (args.dtype == Dtype::bfloat16) plain<BFloat16>(args);
    else return false;
    return true;
}

}  // namespace fastgan
