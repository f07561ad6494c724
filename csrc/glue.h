// What the glue of every op needs: questions about torch's tensors.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "dtype.h"
#include "torch_abi.h"

namespace fastgan {

inline Dtype dtype_of(const Tensor& x) {
    if (x.dtype() == aoti_torch_dtype_float32()) return Dtype::float32;
    if (x.dtype() == aoti_torch_dtype_float64()) return Dtype::float64;
    if (x.dtype() == aoti_torch_dtype_float16()) return Dtype::float16;
    if (x.dtype() == aoti_torch_dtype_bfloat16()) return Dtype::bfloat16;
    throw std::runtime_error("fastgan: the dtype must be float16, bfloat16, float32 or float64");
}

// Every element exactly once in one stretch of memory, in any order of the dimensions: contiguous, channels_last, transposed.
inline bool is_dense(const Tensor& x) {
    if (x.numel() == 0) return true;
    std::vector<int64_t> order(x.dim());
    std::iota(order.begin(), order.end(), 0);
    const int64_t *sizes = x.sizes(), *strides = x.strides();
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return strides[a] < strides[b]; });
    int64_t expected = 1;
    for (int64_t d : order) {
        if (sizes[d] == 1) continue;  // its stride means nothing
        if (strides[d] != expected) return false;
        expected *= sizes[d];
    }
    return true;
}

inline bool same_memory_order(const Tensor& a, const Tensor& b) {
    if (a.dim() != b.dim()) return false;
    for (int64_t d = 0; d < a.dim(); ++d) {
        if (a.sizes()[d] != b.sizes()[d] || (a.sizes()[d] > 1 && a.strides()[d] != b.strides()[d])) return false;
    }
    return true;
}

inline bool same_kind(const Tensor& a, const Tensor& b) {
    return a.dtype() == b.dtype() && a.device_type() == b.device_type() && a.device_index() == b.device_index();
}

// [N, C, H, W] with the channels of a pixel side by side and nothing between pixels.
inline bool is_channels_last(const Tensor& x) {
    if (x.dim() != 4) return false;
    if (x.numel() == 0) return true;
    const int64_t *n = x.sizes(), *strides = x.strides();
    const int64_t expected[4] = {n[1] * n[2] * n[3], 1, n[1] * n[3], n[1]};
    for (int d = 0; d < 4; ++d) {
        if (n[d] > 1 && strides[d] != expected[d]) return false;
    }
    return true;
}

}  // namespace fastgan
