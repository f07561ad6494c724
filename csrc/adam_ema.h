// Adam over a list of tensors, and the moving average of what it updates, in one pass over raw memory: nothing here knows torch.
#pragma once
#include <cstdint>
#include <vector>

#include "dtype.h"

namespace fastgan {

// One parameter; its elements lie in one order in all five.
struct AdamEmaTensor {
    float* parameter;      // [numel], updated
    const void* gradient;  // [numel]
    float* exp_avg;        // [numel], updated
    float* exp_avg_sq;     // [numel], updated
    float* average;        // [numel], updated; null for none
    int64_t numel;
    Dtype gradient_dtype;
};

// m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g * g;  p -= step_size * m / (sqrt(v) + eps);
// a = ema_beta * a + (1 - ema_beta) * p
struct AdamEmaFactors {
    float beta1, beta2;
    float step_size;  // lr * sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
    float eps;        // the user's times sqrt(1 - beta2 ** t): the corrections of the two moments are taken out of the loop
    float ema_beta;
};

// Gradients in float32 and bfloat16. False: one is not, nothing was written.
bool adam_ema_cpu(const std::vector<AdamEmaTensor>&, const AdamEmaFactors&);

}  // namespace fastgan
