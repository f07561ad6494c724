// Launching the kernels of the three deconvolutions: what deconv_cuda_up.cu, _down.cu and _weight.cu share.
#pragma once
#include <type_traits>

#include "cuda_device.h"
#include "deconv_gemm.cuh"
#include "deconv_partials.cuh"
#include "deconv_scalar.cuh"
#include "deconv_tile_table.h"

namespace fastgan {

cudaError_t add_partials(const Partials&, Dtype dtype, cudaStream_t stream);

namespace {

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }
inline const char* message_of(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

inline int multiprocessors(int device) {
    int count = 0;
    const bool known = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess && count > 0;
    return known ? count : 1;
}

// Null where the kernels can run, else why not.
inline const char* problem_of(Dtype dtype, const DeconvShape& shape) {
    if (dtype != Dtype::float32 && !is_16_bit(dtype)) return "fastgan: the CUDA kernels of deconv take float32, float16 and bfloat16";
    return fits_index(shape) ? nullptr : "fastgan: the CUDA kernels of deconv take fewer than 2^31 pixels in all, and at most 262140 channels";
}

// What every call of a direction runs with; an empty plan where problem_of says why there is none.
template <class Args> Plan plan_of_call(Direction direction, const Args& args, bool is_aligned, int device) {
    if (problem_of(args.dtype, args.shape)) return {};
    const ProductKind kind = kind_of(direction, args.shape, args.dtype, is_aligned);
    return plan_of(kind, chosen_tile(kind, multiprocessors(device)), numel_of(direction, args.shape));
}

inline dim3 grid_of(const Plan& plan) { return {plan.m_tiles, plan.n_tiles, uint32_t(plan.phases * plan.splits)}; }

template <class T, bool kGathered, int kM, int kN, class Index>
cudaError_t launch_gemm(const Product<Index>& product, const Plan& plan, cudaStream_t stream) {
    return launch(gemm_kernel<T, Index, kGathered, kM, kN>, grid_of(plan), kThreads, kGemmSharedBytes<kM, kN>, stream, product);
}
template <class T, class Index> cudaError_t launch_scalar(const Product<Index>& product, const Plan& plan, cudaStream_t stream) {
    return launch(scalar_kernel<T, Index>, grid_of(plan), kScalarThreads, kScalarSharedBytes, stream, product);
}

// The tiles of deconv_plan.h.
template <class T, class Index> cudaError_t launch_16_bit(const Product<Index>& product, const Plan& plan, cudaStream_t stream) {
    if (plan.way == Way::scalar) return launch_scalar<T>(product, plan, stream);
    if constexpr (std::is_same_v<Index, DownIndex>) {
        if (plan.way == Way::gathered) return launch_gemm<T, true, 128, 64>(product, plan, stream);
    }
    if constexpr (std::is_same_v<Index, WeightIndex>) {
        if (plan.way == Way::gathered) return launch_gemm<T, true, 64, 64>(product, plan, stream);
    }
    if (plan.tile_m == 64) return launch_gemm<T, false, 64, 64>(product, plan, stream);
    if (plan.tile_n == 64) return launch_gemm<T, false, 128, 64>(product, plan, stream);
    return launch_gemm<T, false, 128, 128>(product, plan, stream);
}

// C, of rows of `channels` elements, in one stage or two.
template <class Index> cudaError_t launch_product(const Product<Index>& p, const Plan& plan, Dtype dtype, int64_t channels, cudaStream_t stream) {
    const cudaError_t error = dtype == Dtype::float32    ? launch_scalar<float>(p, plan, stream)
                              : dtype == Dtype::float16 ? launch_16_bit<__half>(p, plan, stream)
                                                         : launch_16_bit<__nv_bfloat16>(p, plan, stream);
    if (error != cudaSuccess || p.splits == 1) return error;
    return add_partials({p.partial, p.bias, p.c, p.splits, threads_an_element(p.splits), p.numel, channels, p.activated}, dtype, stream);
}

}  // namespace
}  // namespace fastgan
