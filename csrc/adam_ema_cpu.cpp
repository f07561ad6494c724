#include "adam_ema.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_features.h"
#include "torch_abi.h"

namespace fastgan {
namespace {

constexpr int64_t kGrain = 16384;  // elements a thread takes at least, 6 us of work: less is not worth waking one

inline __attribute__((always_inline)) float to_float(float x) { return x; }

struct BFloat16 {
    uint16_t bits;
};

inline __attribute__((always_inline)) float to_float(BFloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The elements [begin, end) of one tensor. Inlined into every version below, where the compiler vectorises it for the instructions of that version.
template <class Gradient, bool averaged>
inline __attribute__((always_inline)) void update(const AdamEmaTensor& tensor, const AdamEmaFactors& factors, int64_t begin, int64_t end) {
    float *__restrict p = tensor.parameter, *__restrict m = tensor.exp_avg, *__restrict v = tensor.exp_avg_sq, *__restrict a = tensor.average;
    const Gradient* __restrict gradient = static_cast<const Gradient*>(tensor.gradient);
    const AdamEmaFactors f = factors;
    for (int64_t i = begin; i < end; ++i) {
        const float g = to_float(gradient[i]);
        m[i] = f.beta1 * m[i] + (1 - f.beta1) * g;
        v[i] = f.beta2 * v[i] + (1 - f.beta2) * (g * g);
        p[i] -= f.step_size * (m[i] / (__builtin_sqrtf(v[i]) + f.eps));
        if (averaged) a[i] = f.ema_beta * a[i] + (1 - f.ema_beta) * p[i];
    }
}

inline __attribute__((always_inline)) void update_any(const AdamEmaTensor& tensor, const AdamEmaFactors& factors, int64_t begin, int64_t end) {
    const bool is_float = tensor.gradient_dtype == Dtype::float32;
    if (tensor.average) is_float ? update<float, true>(tensor, factors, begin, end) : update<BFloat16, true>(tensor, factors, begin, end);
    else is_float ? update<float, false>(tensor, factors, begin, end) : update<BFloat16, false>(tensor, factors, begin, end);
}

using Update = void (*)(const AdamEmaTensor&, const AdamEmaFactors&, int64_t begin, int64_t end);

void update_generic(const AdamEmaTensor& tensor, const AdamEmaFactors& factors, int64_t begin, int64_t end) {
    update_any(tensor, factors, begin, end);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void update_avx2(const AdamEmaTensor& tensor, const AdamEmaFactors& factors, int64_t begin, int64_t end) {
    update_any(tensor, factors, begin, end);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512"))) void update_avx512(
    const AdamEmaTensor& tensor, const AdamEmaFactors& factors, int64_t begin, int64_t end) {
    update_any(tensor, factors, begin, end);
}
#endif

Update best_update() {
#if defined(__x86_64__)
    if (best_isa() >= Isa::avx512) return update_avx512;
    if (best_isa() >= Isa::avx2) return update_avx2;
#endif
    return update_generic;
}

}  // namespace

bool adam_ema_cpu(const std::vector<AdamEmaTensor>& tensors, const AdamEmaFactors& factors) {
    std::vector<int64_t> ends;  // of each tensor, in the row of all elements
    for (const AdamEmaTensor& tensor : tensors) {
        if (tensor.gradient_dtype != Dtype::float32 && tensor.gradient_dtype != Dtype::bfloat16) return false;
        ends.push_back((ends.empty() ? 0 : ends.back()) + tensor.numel);
    }
    const Update update = best_update();
    parallel_for(ends.back(), kGrain, [&](int64_t begin, int64_t end) {
        size_t i = std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin();
        for (; begin < end; begin = ends[i++]) {
            const int64_t start = ends[i] - tensors[i].numel;
            update(tensors[i], factors, begin - start, std::min(end, ends[i]) - start);
        }
    });
    return true;
}

}  // namespace fastgan
