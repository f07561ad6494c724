// The end of a discriminator and its loss: logits l = leaky_relu(x) . w + b, loss = t softplus(-l) + (1 - t) softplus(l). Nothing here knows torch.
#pragma once
#include <cstdint>

#include "dtype.h"

namespace fastgan {

// x has one of the dtypes below; everything else is in the dtype of the sums, float32, or float64 where x is.
struct LeakyReluBce {
    const void* x;        // [rows, features]
    const void* weight;   // [features]; null: there is one feature a row, and it is the logit
    const void* bias;     // [1], null for none
    const void* targets;  // [rows], null: `target` for every row
    double target;        // in [0, 1]
    double slope;         // of leaky_relu below zero: 0 is ReLU, 1 leaves x as it is
    Dtype dtype;          // of x
    int64_t rows, features;
};

struct LeakyReluBceArgs {
    LeakyReluBce head;
    void* loss;    // [rows], written
    void* logits;  // [rows], written
};

// A gradient of a mean is one number for all rows: its stride is 0.
struct RowGradients {
    const void* data;  // [rows], null for zeros
    int64_t stride;    // in elements
};

struct LeakyReluBceBackwardArgs {
    LeakyReluBce head;     // its bias is not read
    const void* logits;    // [rows], what the forward pass has written
    RowGradients dloss, dlogits;
    void* dx;           // [rows, features] in the dtype of x, null if nobody needs it
    void* dparameters;  // [features + 1], dweight and then dbias, null if nobody needs it
};

// float32, bfloat16 and float64. False: x has another dtype, nothing was written.
bool leaky_relu_bce_cpu(const LeakyReluBceArgs&);
bool leaky_relu_bce_backward_cpu(const LeakyReluBceBackwardArgs&);

}  // namespace fastgan
