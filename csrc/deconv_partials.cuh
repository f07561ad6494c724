// The second stage of a product whose k was split: the parts of each element, added in an order that is always the same.
#pragma once
#include "cuda_core.cuh"
#include "deconv_product.h"

namespace fastgan {
namespace {

constexpr int kAddThreads = 256;
constexpr int kAddSharedBytes = kAddThreads * int(sizeof(float));

// Of many parts, several threads add some each: one after another, the loads of hundreds would take longer than the product.
inline int threads_an_element(int splits) { return splits < 16 ? 1 : 8; }

template <class T> __global__ void __launch_bounds__(kAddThreads) add_kernel(const __grid_constant__ Partials p) {
    float* const sums = dynamic_shared<float>();  // [adders, elements of the CTA]
    const int elements = kAddThreads / p.adders, adder = threadIdx.x / elements, element = threadIdx.x % elements;
    const int64_t i = int64_t(blockIdx.x) * elements + element;
    float sum = 0.0f;
#pragma unroll 4
    for (int split = adder; split < p.splits; split += p.adders) {
        if (i < p.numel) sum += p.partial[split * p.numel + i];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (adder > 0 || i >= p.numel) return;
    for (int other = 1; other < p.adders; ++other) sum += sums[other * elements + element];
    if (p.bias) sum += float(static_cast<const T*>(p.bias)[i % p.channels]);
    static_cast<T*>(p.c)[i] = T(p.activated(sum));
}

}  // namespace
}  // namespace fastgan
