// The layer that doubles an image (and halves one): kernel 4, stride 2, padding 1. Nothing here knows torch.
//
// One trilinear form of a small image s, a big image b and a weight w,
//     T(s, b, w) = sum over n, i, j, ky, kx, c, k of  s[n, c, i, j] * b[n, k, 2i - 1 + ky, 2j - 1 + kx] * w[c, k, ky, kx],
// has three derivatives, and each is an op: `up` (dT/db: the transposed convolution), `down` (dT/ds: the convolution) and `weight` (dT/dw).
// So the gradients of each are the other two, to any order. ConvTranspose2d(C, K, 4, 2, 1) and Conv2d(K, C, 4, 2, 1) both keep w as [C, K, 4, 4].
#pragma once
#include <cstdint>

#include "dtype.h"

namespace fastgan {

// Positions outside the images count as zero. H is 2h or 2h + 1, W is 2w or 2w + 1: an odd size has a last row that no output of `down` is centred on.
struct DeconvShape {
    int64_t batch;                           // N
    int64_t small_channels, big_channels;    // C, K
    int64_t small_height, small_width;       // h, w
    int64_t big_height, big_width;           // H, W
};

enum class Epilogue { linear, relu, leaky_relu, tanh };  // numbered as fastgan/ops/deconv/operator.py has it

// All images are channels_last: [N, height, width, channels] in memory. Weights too: [C, 4, 4, K] in memory. All of one dtype, sums in float32
// (float64 for float64).
struct DeconvUpArgs {
    const void* small;   // [N, h, w, C]
    const void* weight;  // [C, 4, 4, K]
    const void* bias;    // [K], null for none
    void* big;           // [N, H, W, K], written
    Dtype dtype;
    DeconvShape shape;
    Epilogue epilogue;  // big = act(up(small, weight) + bias)
    double slope;       // of leaky_relu below zero
};

struct DeconvDownArgs {
    const void* big;     // [N, H, W, K]
    const void* weight;  // [C, 4, 4, K]
    const void* bias;    // [C], null for none
    void* small;         // [N, h, w, C], written
    Dtype dtype;
    DeconvShape shape;
    Epilogue epilogue;
    double slope;
};

struct DeconvWeightArgs {
    const void* small;  // [N, h, w, C]
    const void* big;    // [N, H, W, K]
    void* weight;       // [C, 4, 4, K], written
    Dtype dtype;
    DeconvShape shape;
};

// float32, float64 and bfloat16. False: there is no kernel for this dtype or shape, nothing was written.
bool deconv_up_cpu(const DeconvUpArgs&);
bool deconv_down_cpu(const DeconvDownArgs&);
bool deconv_weight_cpu(const DeconvWeightArgs&);

// How a call is cut into tiles, and how many floats it needs on the device (deconv_plan.h).
struct Plan;
Plan deconv_up_cuda_plan(const DeconvUpArgs&, int device);
Plan deconv_down_cuda_plan(const DeconvDownArgs&, int device);
Plan deconv_weight_cuda_plan(const DeconvWeightArgs&, int device);

// float32, float16 and bfloat16, on `stream` (a cudaStream_t) of `device`. Null, or what went wrong. The plan is that of the same arguments;
// the contents of the workspace matter neither before nor after.
const char* deconv_up_cuda(const DeconvUpArgs&, const Plan&, float* workspace, int device, void* stream);
const char* deconv_down_cuda(const DeconvDownArgs&, const Plan&, float* workspace, int device, void* stream);
const char* deconv_weight_cuda(const DeconvWeightArgs&, const Plan&, float* workspace, int device, void* stream);

}  // namespace fastgan
