#include "deconv.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu_features.h"
#include "deconv_common.h"
#include "torch_abi.h"
#if defined(__x86_64__)
#include <immintrin.h>

#include "deconv_weight_patches.h"
#include "deconv_weight_terms.h"
#endif

namespace fastgan {
namespace {

#if defined(__x86_64__)
#define KERNELS Avx2
#define KERNEL_TARGET __attribute__((target("avx2,fma")))
#define KERNEL_LANES 8
#define KERNEL_VECTORS 2
#define KERNEL_PAIRS 0
#include "deconv_weight_kernels.h"

#define KERNELS Avx512
#define KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define KERNEL_LANES 16
#define KERNEL_VECTORS 4
#define KERNEL_PAIRS 0
#include "deconv_weight_kernels.h"

#define KERNELS Avx512Bf16
#define KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define KERNEL_LANES 16
#define KERNEL_VECTORS 4
#define KERNEL_PAIRS 1
#include "deconv_weight_kernels.h"
#endif

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

#if defined(__x86_64__)
// A small pixel costs 16 K lanes by patches and 9 times K, rounded up to whole vectors, by terms: the less of the two.
template <class Kernels, class T> void fast(const DeconvWeightArgs& args) {
    if (2 * args.shape.big_channels <= Kernels::kLanes) WeightByPatches<Kernels, T>(args).run();
    else WeightByTerms<Kernels, T>(args).run();
}
#endif

template <class T> void best(const DeconvWeightArgs& args) {
#if defined(__x86_64__)
    const bool no_pixels = args.shape.batch == 0 || args.shape.small_height == 0 || args.shape.small_width == 0;
    const Isa isa = no_pixels ? Isa::generic : best_isa();
    if constexpr (std::is_same_v<T, BFloat16>) {
        if (isa == Isa::avx512_bf16) return fast<Avx512Bf16, T>(args);
    }
    if (isa >= Isa::avx512) return fast<Avx512, T>(args);
    if (isa == Isa::avx2) return fast<Avx2, T>(args);
#endif
    plain<T>(args);
}

}  // namespace

bool deconv_weight_cpu(const DeconvWeightArgs& args) {
    if (args.dtype == Dtype::float32) best<float>(args);
    else if (args.dtype == Dtype::float64) plain<double>(args);
    else if (args.dtype == Dtype::bfloat16) best<BFloat16>(args);
    else return false;
    return true;
}

}  // namespace fastgan
