#include "batch_stats.cuh"

#include "cuda_device.h"

namespace fastgan {

const char* batch_stats_cuda(const BatchStatsArgs& args, int device, void* stream) {
    const DeviceGuard guard(device);
    BatchStats p{reinterpret_cast<const float2*>(args.partial),
                 args.mean,
                 args.rstd,
                 args.running_mean,
                 args.running_var,
                 args.parts,
                 args.rows.phases,
                 {},
                 uint32_t(args.rows.blocks_a_phase()),
                 uint32_t(args.channels),
                 args.momentum,
                 args.eps};
    for (int phase = 0; phase < 4; ++phase) p.rows[phase] = uint32_t(args.rows.rows[phase]);
    const auto blocks = uint32_t(ceil_div(args.channels, kStatsChannels));
    const cudaError_t error = launch(batch_stats_kernel, dim3(blocks), kStatsThreads, kStatsSharedBytes,
                                     static_cast<cudaStream_t>(stream), p);
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace fastgan
