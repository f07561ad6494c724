#include "deconv_launch.cuh"

namespace fastgan {

Plan deconv_weight_cuda_plan(const DeconvWeightArgs& args, int device) {
    return plan_of_call(Direction::weight, args, aligned(args.small) && aligned(args.weight) && aligned(args.big), device);
}

const char* deconv_weight_cuda(const DeconvWeightArgs& args, const Plan& plan, float* workspace, int device, void* stream) {
    if (const char* problem = problem_of(args.dtype, args.shape)) return problem;
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    return message_of(launch_product(product_of<WeightIndex>(args, plan, workspace), plan, args.dtype, 16 * args.shape.big_channels, s));
}

}  // namespace fastgan
