// y = clamp(act(x + bias) * gain) and its gradient, on raw memory: nothing here knows torch.
#pragma once
#include <cstdint>

#include "dtype.h"

namespace fastgan {

// act(v) = v for v >= 0, else v * slope: linear is slope 1, relu is slope 0. No clamp is clamp = infinity.
struct Activation {
    double slope, gain, clamp;
};

// Memory of one dense tensor: element i belongs to channel (i / inner) % channels, whatever the order of its dimensions.
struct BiasActArgs {
    const void* x;     // [numel]
    const void* bias;  // [channels], null for no bias
    void* y;           // [numel]
    Dtype dtype;       // of all three
    int64_t numel, channels, inner;
    Activation activation;
};

// The gradient with respect to x. It needs only y: gain > 0 and slope >= 0 leave the sign of x + bias in it.
struct BiasActBackwardArgs {
    const void* dy;  // [numel]
    const void* y;   // [numel]
    void* dx;        // [numel]
    Dtype dtype;     // of all three
    int64_t numel;
    Activation activation;
};

// float32 and float64. False: the dtype is not one of them, nothing was written.
bool bias_act_cpu(const BiasActArgs&);
bool bias_act_backward_cpu(const BiasActBackwardArgs&);

// float32, float16 and bfloat16, on `stream` (a cudaStream_t) of `device`. Null, or what went wrong.
const char* bias_act_cuda(const BiasActArgs&, int device, void* stream);
const char* bias_act_backward_cuda(const BiasActBackwardArgs&, int device, void* stream);

}  // namespace fastgan
