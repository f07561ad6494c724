// What the glue of the deconvolutions shares: their images and weights as torch has them.
#pragma once
#include "deconv.h"
#include "glue.h"

namespace fastgan {

inline Tensor empty_channels_last(const Tensor& like, int64_t n, int64_t channels, int64_t height, int64_t width) {
    const int64_t sizes[4] = {n, channels, height, width}, strides[4] = {channels * height * width, 1, channels * width, channels};
    return like.empty(4, sizes, strides, like.dtype());
}

inline bool is_half_of(int64_t small, int64_t big) { return big == 2 * small || big == 2 * small + 1; }

inline void check_weight(const Tensor& weight, const Tensor& image) {
    check(is_channels_last(weight) && weight.sizes()[2] == 4 && weight.sizes()[3] == 4, "fastgan::deconv: weight must be channels_last [C, K, 4, 4]");
    check(same_kind(weight, image), "fastgan::deconv: weight must have the dtype and the device of the images");
}

inline DeconvShape shape_of(const Tensor& small, const Tensor& big) {
    const int64_t *s = small.sizes(), *b = big.sizes();
    check(s[0] == b[0] && is_half_of(s[2], b[2]) && is_half_of(s[3], b[3]), "fastgan::deconv: the big image must be twice the small one, or one more");
    return {s[0], s[1], b[1], s[2], s[3], b[2], b[3]};
}

}  // namespace fastgan
