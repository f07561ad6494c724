#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "bias_act.h"
#include "cuda_device.h"

namespace fastgan {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxBlocks = 65536;

// Computed in float32 whatever the dtype in memory.
struct Act {
    float slope, gain, clamp;
    explicit Act(const Activation& a) : slope(float(a.slope)), gain(float(a.gain)), clamp(float(a.clamp)) {}

    // Every comparison is false for a NaN, so that a NaN comes out and is seen. A slope of 0 must not multiply -infinity.
    __device__ float operator()(float v) const {
        const float scaled = (v < 0 ? (slope == 0 ? 0.0f : v * slope) : v) * gain;
        const float bounded = scaled > clamp ? clamp : scaled;
        return bounded < -clamp ? -clamp : bounded;
    }
    __device__ float gradient(float dy, float y) const { return fabsf(y) >= clamp ? 0.0f : dy * gain * (y > 0 ? 1.0f : slope); }
};

// kWidth neighbours, moved as one 16-byte access (or one by one, kWidth = 1, where memory is not aligned to that).
template <class T, int kWidth> struct alignas(sizeof(T) * kWidth) Pack {
    T at[kWidth];
};

// x [numel], bias [channels] or null, y [numel]. Index is 32 bits wide where numel allows: a 64-bit division is slow.
template <class T, int kWidth, class Index>
__global__ void forward_kernel(const T* __restrict__ x, const T* __restrict__ bias, T* __restrict__ y, Index numel, Index channels, Index inner, Act act) {
    const Index stride = Index(gridDim.x) * kThreads * kWidth;
    for (Index i = (Index(blockIdx.x) * kThreads + threadIdx.x) * kWidth; i < numel; i += stride) {
        // One division places the first of the neighbours; the others are reached by counting.
        Index run = i / inner, position = i - run * inner, channel = run % channels;
        auto next_bias = [&] {
            const float b = bias ? float(bias[channel]) : 0.0f;
            if (++position == inner) {
                position = 0;
                channel = channel + 1 == channels ? 0 : channel + 1;
            }
            return b;
        };
        if (numel - i >= kWidth) {
            Pack<T, kWidth> pack = *reinterpret_cast<const Pack<T, kWidth>*>(x + i);
#pragma unroll
            for (int k = 0; k < kWidth; ++k) pack.at[k] = T(act(float(pack.at[k]) + next_bias()));
            *reinterpret_cast<Pack<T, kWidth>*>(y + i) = pack;
        } else {
            for (Index k = i; k < numel; ++k) y[k] = T(act(float(x[k]) + next_bias()));
        }
    }
}

// dy, y, dx [numel]
template <class T, int kWidth, class Index>
__global__ void backward_kernel(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, Index numel, Act act) {
    const Index stride = Index(gridDim.x) * kThreads * kWidth;
    for (Index i = (Index(blockIdx.x) * kThreads + threadIdx.x) * kWidth; i < numel; i += stride) {
        if (numel - i >= kWidth) {
            Pack<T, kWidth> grad = *reinterpret_cast<const Pack<T, kWidth>*>(dy + i);
            const Pack<T, kWidth> out = *reinterpret_cast<const Pack<T, kWidth>*>(y + i);
#pragma unroll
            for (int k = 0; k < kWidth; ++k) grad.at[k] = T(act.gradient(float(grad.at[k]), float(out.at[k])));
            *reinterpret_cast<Pack<T, kWidth>*>(dx + i) = grad;
        } else {
            for (Index k = i; k < numel; ++k) dx[k] = T(act.gradient(float(dy[k]), float(y[k])));
        }
    }
}

int blocks_for(int64_t numel, int width) {
    const int64_t blocks = (numel + kThreads * width - 1) / (kThreads * width);
    return int(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

template <class T, int kWidth, class Index> void launch(const BiasActArgs& a, cudaStream_t stream) {
    forward_kernel<T, kWidth, Index><<<blocks_for(a.numel, kWidth), kThreads, 0, stream>>>(
        static_cast<const T*>(a.x), static_cast<const T*>(a.bias), static_cast<T*>(a.y), Index(a.numel), Index(a.channels), Index(a.inner), Act(a.activation));
}

template <class T, int kWidth, class Index> void launch(const BiasActBackwardArgs& a, cudaStream_t stream) {
    backward_kernel<T, kWidth, Index><<<blocks_for(a.numel, kWidth), kThreads, 0, stream>>>(
        static_cast<const T*>(a.dy), static_cast<const T*>(a.y), static_cast<T*>(a.dx), Index(a.numel), Act(a.activation));
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }
bool is_aligned(const BiasActArgs& a) { return is_aligned(a.x) && is_aligned(a.y); }
bool is_aligned(const BiasActBackwardArgs& a) { return is_aligned(a.dy) && is_aligned(a.y) && is_aligned(a.dx); }

template <class T, class Args> void launch_as(const Args& a, cudaStream_t stream) {
    const bool short_index = a.numel <= std::numeric_limits<int32_t>::max();  // leaves room for the last step of the loop
    if (!is_aligned(a)) launch<T, 1, int64_t>(a, stream);
    else if (short_index) launch<T, 16 / sizeof(T), uint32_t>(a, stream);
    else launch<T, 16 / sizeof(T), int64_t>(a, stream);
}

template <class Args> const char* run(const Args& a, int device, void* stream) {
    const DeviceGuard guard(device);
    const auto s = static_cast<cudaStream_t>(stream);
    if (a.dtype == Dtype::float32) launch_as<float>(a, s);
    else if (a.dtype == Dtype::float16) launch_as<__half>(a, s);
    else if (a.dtype == Dtype::bfloat16) launch_as<__nv_bfloat16>(a, s);
    else return "fastgan: the CUDA kernel of bias_act takes float32, float16 and bfloat16";
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

const char* bias_act_cuda(const BiasActArgs& args, int device, void* stream) { return run(args, device, stream); }
const char* bias_act_backward_cuda(const BiasActBackwardArgs& args, int device, void* stream) { return run(args, device, stream); }

}  // namespace fastgan
