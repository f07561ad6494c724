#include "deconv_few.cuh"
#include "deconv_launch.cuh"

namespace fastgan {
namespace {

Plan plan_of(const DeconvUpArgs& a, int device) {
    return plan_up(a.shape, a.dtype, aligned(a.small) && aligned(a.weight) && aligned(a.big), multiprocessors(device));
}

template <class T> cudaError_t launch_few(const DeconvUpArgs& a, int device, cudaStream_t stream) {
    const FewGrid grid = few_grid(a.shape, multiprocessors(device));
    const dim3 blocks(grid.column_groups, grid.row_groups);
    return launch(few_kernel<T>, blocks, kFewThreads, few_shared_bytes(a.shape), stream, few_product_of(a, grid.rows));
}

}  // namespace

int64_t deconv_up_cuda_workspace(const DeconvUpArgs& args, int device) {
    return problem_of(args.dtype, args.shape) ? 0 : plan_of(args, device).workspace;
}

const char* deconv_up_cuda(const DeconvUpArgs& args, float* workspace, int device, void* stream) {
    if (const char* problem = problem_of(args.dtype, args.shape)) return problem;
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    const Plan plan = plan_of(args, device);
    if (plan.way == Way::few_channels) {
        return message_of(args.dtype == Dtype::float16 ? launch_few<__half>(args, device, s) : launch_few<__nv_bfloat16>(args, device, s));
    }
    return message_of(launch_product(product_of<UpIndex>(args, plan, workspace), plan, args.dtype, args.shape.big_channels, s));
}

}  // namespace fastgan
