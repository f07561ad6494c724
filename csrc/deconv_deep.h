// `up` and `down` between images of many channels: 9 products where their definition has 16 (csrc/deconv_deep_tiles.h).
#pragma once
#include "deconv.h"

namespace fastgan {

// False, with nothing written, unless C and K are multiples of 32, act is not tanh (images have few channels, and what it squeezes into [-1, 1] shows
// the rounding of the terms too well), and the dtype is bfloat16 on a machine that has AVX-512 BF16 or float32 on one that has AVX-512.
bool deconv_up_deep(const DeconvUpArgs&);
bool deconv_down_deep(const DeconvDownArgs&);

}  // namespace fastgan
