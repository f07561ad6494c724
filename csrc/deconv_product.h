// What every kernel of the deconvolutions is given: one product of deconv_index.h, its matrices and what becomes of its sums.
#pragma once
#include <cmath>

#include "deconv_plan.h"
#include "host_device.h"

namespace fastgan {

struct Activated {
    Epilogue epilogue;
    float slope;

    // Every comparison is false for a NaN, so that a NaN comes out and is seen.
    FASTGAN_BOTH float operator()(float v) const {
        switch (epilogue) {
            case Epilogue::relu: return v < 0 ? 0.0f : v;
            case Epilogue::leaky_relu: return v < 0 ? v * slope : v;
            case Epilogue::tanh: return tanhf(v);
            default: return v;
        }
    }
};

// Index is UpIndex, DownIndex or WeightIndex. A CTA computes one tile of C of one phase over one split of k; its place in the grid is
// (tile of m, tile of n, phase * splits + split).
template <class Index> struct Product {
    Index index;
    const void *a, *b;  // the images and weights of deconv.h that the index names A and B
    const void* bias;   // [n], null for none
    void* c;            // written where splits is 1
    float* partial;     // [splits, elements of C], written otherwise
    int64_t numel;      // elements of C
    Activated activated;
    int splits;
    uint32_t k_tiles, k_tiles_per_split;

    FASTGAN_BOTH uint32_t first_k_tile(int split) const { return uint32_t(split) * k_tiles_per_split; }
    FASTGAN_BOTH uint32_t end_k_tile(int split) const {
        const uint32_t end = first_k_tile(split) + k_tiles_per_split;
        return end < k_tiles ? end : k_tiles;
    }
};

// The second stage of a product whose k was split.
struct Partials {
    const float* partial;  // [splits, numel]
    const void* bias;      // [channels], null for none
    void* c;               // [numel], written; element i is of channel i % channels
    int splits, adders;    // parts of an element; threads that add them, a divisor of a CTA's
    int64_t numel, channels;
    Activated activated;
};

template <class Index> Product<Index> product_of(const DeconvUpArgs& args, const Plan& plan, float* workspace) {
    const DeconvShape& s = args.shape;
    const int64_t numel = s.batch * s.big_height * s.big_width * s.big_channels;
    return {Index(s), args.small, args.weight, args.bias, args.big, workspace, numel, {args.epilogue, float(args.slope)}, plan.splits, plan.k_tiles,
            plan.k_tiles_per_split};
}
template <class Index> Product<Index> product_of(const DeconvDownArgs& args, const Plan& plan, float* workspace) {
    const DeconvShape& s = args.shape;
    const int64_t numel = s.batch * s.small_height * s.small_width * s.small_channels;
    return {Index(s), args.big, args.weight, args.bias, args.small, workspace, numel, {args.epilogue, float(args.slope)}, plan.splits, plan.k_tiles,
            plan.k_tiles_per_split};
}
template <class Index> Product<Index> product_of(const DeconvWeightArgs& args, const Plan& plan, float* workspace) {
    const int64_t numel = 16 * args.shape.small_channels * args.shape.big_channels;
    return {Index(args.shape), args.small, args.big, nullptr, args.weight, workspace, numel, {Epilogue::linear, 0.0f}, plan.splits, plan.k_tiles,
            plan.k_tiles_per_split};
}

}  // namespace fastgan
