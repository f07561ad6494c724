#include "deconv_launch.cuh"

namespace fastgan {
namespace {

Plan plan_of(const DeconvDownArgs& a, int device) {
    return plan_down(a.shape, a.dtype, aligned(a.small) && aligned(a.weight) && aligned(a.big), multiprocessors(device));
}

}  // namespace

int64_t deconv_down_cuda_workspace(const DeconvDownArgs& args, int device) {
    return problem_of(args.dtype, args.shape) ? 0 : plan_of(args, device).workspace;
}

const char* deconv_down_cuda(const DeconvDownArgs& args, float* workspace, int device, void* stream) {
    if (const char* problem = problem_of(args.dtype, args.shape)) return problem;
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    const Plan plan = plan_of(args, device);
    return message_of(launch_product(product_of<DownIndex>(args, plan, workspace), plan, args.dtype, args.shape.small_channels, s));
}

}  // namespace fastgan
