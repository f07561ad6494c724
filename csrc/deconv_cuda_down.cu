#include "deconv_launch.cuh"

namespace fastgan {

Plan deconv_down_cuda_plan(const DeconvDownArgs& args, int device) {
    return plan_of_call(Direction::down, args, aligned(args.small) && aligned(args.weight) && aligned(args.big), device);
}

const char* deconv_down_cuda(const DeconvDownArgs& args, const Plan& plan, float* workspace, int device, void* stream) {
    if (const char* problem = problem_of(args.dtype, args.shape)) return problem;
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    return message_of(launch_product(product_of<DownIndex>(args, plan, workspace), plan, args.dtype, args.shape.small_channels, s));
}

}  // namespace fastgan
