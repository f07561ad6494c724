#include "deconv_few.cuh"
#include "deconv_launch.cuh"

namespace fastgan {
namespace {

template <class T> cudaError_t launch_few(const DeconvUpArgs& a, const Plan& plan, cudaStream_t stream) {
    const dim3 blocks(plan.m_tiles, plan.n_tiles);
    return launch(few_kernel<T>, blocks, kFewThreads, few_shared_bytes(a.shape), stream, few_product_of(a, plan.tile_n));
}

}  // namespace

Plan deconv_up_cuda_plan(const DeconvUpArgs& args, int device) {
    return plan_of_call(Direction::up, args, aligned(args.small) && aligned(args.weight) && aligned(args.big), device);
}

const char* deconv_up_cuda(const DeconvUpArgs& args, const Plan& plan, float* workspace, int device, void* stream) {
    if (const char* problem = problem_of(args.dtype, args.shape)) return problem;
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    if (plan.way == Way::few_channels) {
        return message_of(args.dtype == Dtype::float16 ? launch_few<__half>(args, plan, s) : launch_few<__nv_bfloat16>(args, plan, s));
    }
    return message_of(launch_product(product_of<UpIndex>(args, plan, workspace), plan, args.dtype, args.shape.big_channels, s));
}

}  // namespace fastgan
