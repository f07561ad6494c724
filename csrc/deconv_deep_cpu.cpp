#include "deconv_deep.h"

#include <type_traits>

#include "cpu_features.h"
#if defined(__x86_64__)
#include <immintrin.h>

#include "deconv_deep_tiles.h"
#endif

namespace fastgan {
namespace {

#if defined(__x86_64__)
#define KERNELS DeepAvx512
#define KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define KERNEL_PAIRS 0
#include "deconv_deep_kernels.h"

#define KERNELS DeepAvx512Bf16
#define KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define KERNEL_PAIRS 1
#include "deconv_deep_kernels.h"

template <class T> DeepProblem<T> problem_of(const DeconvUpArgs& a) {
    const auto [N, C, K, h, w, H, W] = a.shape;
    const T *in = static_cast<const T*>(a.small), *weight = static_cast<const T*>(a.weight), *bias = static_cast<const T*>(a.bias);
    return {true, in, weight, bias, static_cast<T*>(a.big), N, C, h, w, K, H, W, a.epilogue, float(a.slope)};
}

template <class T> DeepProblem<T> problem_of(const DeconvDownArgs& a) {
    const auto [N, C, K, h, w, H, W] = a.shape;
    const T *in = static_cast<const T*>(a.big), *weight = static_cast<const T*>(a.weight), *bias = static_cast<const T*>(a.bias);
    return {false, in, weight, bias, static_cast<T*>(a.small), N, K, H, W, C, h, w, a.epilogue, float(a.slope)};
}

template <class Kernels, class Args> bool run(const Args& args) {
    DeepProduct<Kernels>(problem_of<typename Kernels::T>(args)).run();
    return true;
}
#endif

template <class Args> bool run_if_deep(const Args& args) {
#if defined(__x86_64__)
    const int64_t C = args.shape.small_channels, K = args.shape.big_channels;
    if (C == 0 || K == 0 || C % 32 != 0 || K % 32 != 0 || args.epilogue == Epilogue::tanh) return false;
    if (args.dtype == Dtype::bfloat16 && best_isa() >= Isa::avx512_bf16) return run<DeepAvx512Bf16>(args);
    if (args.dtype == Dtype::float32 && best_isa() >= Isa::avx512) return run<DeepAvx512>(args);
#endif
    return false;
}

}  // namespace

bool deconv_up_deep(const DeconvUpArgs& args) { return run_if_deep(args); }
bool deconv_down_deep(const DeconvDownArgs& args) { return run_if_deep(args); }

}  // namespace fastgan
