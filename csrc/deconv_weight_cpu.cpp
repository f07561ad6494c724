#include "deconv.h"

#include <algorithm>
#include <vector>

#include "deconv_plain.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

// One channel of the small image at a time: [4, 4, K] sums over all of its pixels.
template <class T> void plain(const DeconvWeightArgs& args) {
    using Sum = typename SumOf<T>::type;
    const auto [N, C, K, h, w, H, W] = args.shape;
    const T *small = static_cast<const T*>(args.small), *big = static_cast<const T*>(args.big);
    T* weight = static_cast<T*>(args.weight);
    parallel_for(C, 1, [&, N = N, C = C, K = K, h = h, w = w, H = H, W = W](int64_t begin, int64_t end) {
        std::vector<Sum> sum(16 * K);
        for (int64_t c = begin; c < end; ++c) {
            std::fill(sum.begin(), sum.end(), Sum(0));
            for (int64_t pixel = 0; pixel < N * h * w; ++pixel) {
                const int64_t n = pixel / (h * w), i = pixel / w % h, j = pixel % w;
                const Sum value = small[pixel * C + c];
                for (int64_t ky = 0; ky < 4; ++ky) {
                    const int64_t y = 2 * i - 1 + ky;
                    if (y < 0 || y >= H) continue;
                    for (int64_t kx = 0; kx < 4; ++kx) {
                        const int64_t x = 2 * j - 1 + kx;
                        if (x < 0 || x >= W) continue;
                        const T* other = big + ((n * H + y) * W + x) * K;
                        for (int64_t k = 0; k < K; ++k) sum[(ky * 4 + kx) * K + k] += value * Sum(other[k]);
                    }
                }
            }
            for (int64_t e = 0; e < 16 * K; ++e) weight[c * 16 * K + e] = T(sum[e]);
        }
    });
}

}  // namespace

bool deconv_weight_cpu(const DeconvWeightArgs& args) {
    if (args.dtype == Dtype::float32) plain<float>(args);
    else if (args.dtype == Dtype::float64) plain<double>(args);
    else if (args.dtype == Dtype::bfloat16) plain<BFloat16>(args);
    else return false;
    return true;
}

}  // namespace fastgan
