// Every op as torch calls it: arguments come on a stack of values, results go back on it (csrc/NAME_op.cpp; the schemas are in ops.cpp).
#pragma once
#include "torch_abi.h"

namespace fastgan {

#define FASTGAN_BOXED(name) void name(StableIValue* stack, uint64_t num_args, uint64_t num_outputs)

FASTGAN_BOXED(adam_ema_on_cpu);
FASTGAN_BOXED(bias_act_on_cpu);
FASTGAN_BOXED(bias_act_on_cuda);
FASTGAN_BOXED(bias_act_backward_on_cpu);
FASTGAN_BOXED(bias_act_backward_on_cuda);
FASTGAN_BOXED(deconv_up_on_cpu);
FASTGAN_BOXED(deconv_up_on_cuda);
FASTGAN_BOXED(deconv_down_on_cpu);
FASTGAN_BOXED(deconv_down_on_cuda);
FASTGAN_BOXED(deconv_weight_on_cpu);
FASTGAN_BOXED(deconv_weight_on_cuda);
FASTGAN_BOXED(deconv_up_stats_on_cuda);
FASTGAN_BOXED(deconv_down_stats_on_cuda);
FASTGAN_BOXED(batch_stats_finish_on_cuda);
FASTGAN_BOXED(leaky_relu_bce_on_cpu);
FASTGAN_BOXED(leaky_relu_bce_backward_on_cpu);

#undef FASTGAN_BOXED

}  // namespace fastgan
