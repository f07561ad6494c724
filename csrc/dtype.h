// The dtypes of the kernels; nothing here knows torch.
#pragma once

namespace fastgan {

enum class Dtype { float32, float64, float16, bfloat16 };

}  // namespace fastgan
