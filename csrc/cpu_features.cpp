#include "cpu_features.h"

#include <algorithm>
#include <atomic>

namespace fastgan {
namespace {

Isa detect() {
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (avx512 && __builtin_cpu_supports("avx512bf16")) return Isa::avx512_bf16;
    if (avx512) return Isa::avx512;
    if (avx2) return Isa::avx2;
#endif
    return Isa::generic;
}

std::atomic<int> limit{int(Isa::avx512_bf16)};

}  // namespace

Isa best_isa() {
    static const Isa found = detect();
    return std::min(found, Isa(limit.load(std::memory_order_relaxed)));
}

}  // namespace fastgan

// For tests: no version above this one (an Isa as a number) is chosen from now on. Returns the one that will be.
extern "C" int fastgan_limit_isa(int isa) {
    fastgan::limit.store(isa);
    return int(fastgan::best_isa());
}
