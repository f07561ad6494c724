// The glue between torch's tensors and the kernel of adam_ema.
#include "adam_ema.h"

#include <cmath>

#include "boxed.h"
#include "glue.h"

namespace fastgan {
namespace {

float scalar_of(const Tensor& x) {
    check(x.numel() == 1 && x.dtype() == aoti_torch_dtype_float32(), "fastgan::adam_ema: hyperparameters and powers must be float32 []");
    return *static_cast<const float*>(x.data());
}

// Multiplies a running power of beta by beta.
float advance(const Tensor& power, float beta) {
    const float next = scalar_of(power) * beta;
    *static_cast<float*>(power.mutable_data()) = next;
    return next;
}

float* data_beside(const Tensor& x, const Tensor& parameter) {
    check(same_kind(x, parameter) && same_memory_order(x, parameter),
          "fastgan::adam_ema: moments and averages must have the dtype, device, sizes and strides of their parameter");
    return static_cast<float*>(x.mutable_data());
}

std::vector<AdamEmaTensor> tensors_of(const std::vector<Tensor>& gradients, const std::vector<Tensor>& parameters, const std::vector<Tensor>& exp_avg,
                                      const std::vector<Tensor>& exp_avg_sq, const std::vector<Tensor>& average) {
    const size_t size = parameters.size();
    check(size && gradients.size() == size && exp_avg.size() == size && exp_avg_sq.size() == size && (average.empty() || average.size() == size),
          "fastgan::adam_ema: the lists must be equally long, and not empty");
    std::vector<AdamEmaTensor> tensors;
    for (size_t i = 0; i < size; ++i) {
        const Tensor &p = parameters[i], &g = gradients[i];
        check(p.dtype() == aoti_torch_dtype_float32() && is_dense(p), "fastgan::adam_ema: parameters must be dense float32");
        check(p.device_type() == g.device_type() && same_memory_order(p, g),
              "fastgan::adam_ema: a gradient must have the device, sizes and strides of its parameter");
        float *const m = data_beside(exp_avg[i], p), *const v = data_beside(exp_avg_sq[i], p);
        float* const a = average.empty() ? nullptr : data_beside(average[i], p);
        tensors.push_back({static_cast<float*>(p.mutable_data()), g.data(), m, v, a, p.numel(), dtype_of(g)});
    }
    return tensors;
}

}  // namespace

void adam_ema_on_cpu(StableIValue* stack, uint64_t, uint64_t) {
    const std::vector<Tensor> gradients = take_tensors(stack[0]), parameters = take_tensors(stack[1]), exp_avg = take_tensors(stack[2]),
                              exp_avg_sq = take_tensors(stack[3]), average = take_tensors(stack[4]);
    const Tensor beta1_power = take_tensor(stack[5]), beta2_power = take_tensor(stack[6]);
    const Tensor lr = take_tensor(stack[7]), beta1 = take_tensor(stack[8]), beta2 = take_tensor(stack[9]);
    const std::optional<Tensor> ema_beta = take_optional_tensor(stack[10]);
    const double eps = value_of<double>(stack[11]);
    check(ema_beta.has_value() != average.empty(), "fastgan::adam_ema: averages and ema_beta come together");
    const std::vector<AdamEmaTensor> tensors = tensors_of(gradients, parameters, exp_avg, exp_avg_sq, average);

    const double correction1 = 1.0 - advance(beta1_power, scalar_of(beta1)), root2 = std::sqrt(1.0 - advance(beta2_power, scalar_of(beta2)));
    const AdamEmaFactors factors{scalar_of(beta1), scalar_of(beta2), float(scalar_of(lr) * root2 / correction1), float(eps * root2),
                                 ema_beta ? scalar_of(*ema_beta) : 0.0f};
    check(adam_ema_cpu(tensors, factors), "fastgan::adam_ema: the CPU kernel takes gradients in float32 and bfloat16");
}

}  // namespace fastgan
