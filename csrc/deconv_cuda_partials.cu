#include "deconv_partials.cuh"

#include "deconv_launch.cuh"

namespace fastgan {
namespace {

template <class T> cudaError_t add(const Partials& partials, cudaStream_t stream) {
    const auto blocks = uint32_t(ceil_div(partials.numel * partials.adders, kAddThreads));  // few: what is split has fewer tiles than multiprocessors
    return launch(add_kernel<T>, dim3(blocks), kAddThreads, kAddSharedBytes, stream, partials);
}

}  // namespace

cudaError_t add_partials(const Partials& partials, Dtype dtype, cudaStream_t stream) {
    if (dtype == Dtype::float16) return add<__half>(partials, stream);
    if (dtype == Dtype::bfloat16) return add<__nv_bfloat16>(partials, stream);
    return add<float>(partials, stream);
}

}  // namespace fastgan
