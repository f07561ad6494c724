// The glue between torch's tensors and the kernels of bias_act.
#include "bias_act.h"

#include "boxed.h"
#include "glue.h"
#ifdef FASTGAN_CUDA
#include "cuda_stream.h"
#endif

namespace fastgan {
namespace {

Activation activation_of(const StableIValue* stack) {
    return {value_of<double>(stack[0]), value_of<double>(stack[1]), value_of<double>(stack[2])};
}

void run_on_cpu(const BiasActArgs& args, const Tensor&) {
    check(bias_act_cpu(args), "fastgan::bias_act: the CPU kernel takes float32 and float64");
}

void run_on_cpu(const BiasActBackwardArgs& args, const Tensor&) {
    check(bias_act_backward_cpu(args), "fastgan::bias_act_backward: the CPU kernel takes float32 and float64");
}

#ifdef FASTGAN_CUDA
void run_on_cuda(const BiasActArgs& args, const Tensor& x) {
    must_be_null(bias_act_cuda(args, x.device_index(), current_cuda_stream(x.device_index())));
}

void run_on_cuda(const BiasActBackwardArgs& args, const Tensor& y) {
    must_be_null(bias_act_backward_cuda(args, y.device_index(), current_cuda_stream(y.device_index())));
}
#endif

template <void (*run)(const BiasActArgs&, const Tensor&)> void forward(StableIValue* stack) {
    const Tensor x = take_tensor(stack[0]);
    const std::optional<Tensor> bias = take_optional_tensor(stack[1]);
    const int64_t dim = value_of<int64_t>(stack[2]);
    check(dim >= 0 && dim < x.dim(), "fastgan::bias_act: dim must name a dimension of x, counted from 0");
    check(is_dense(x), "fastgan::bias_act: x must be dense");
    const int64_t channels = x.sizes()[dim];
    if (bias) {
        check(bias->dim() == 1 && bias->sizes()[0] == channels && is_dense(*bias), "fastgan::bias_act: bias must be dense [x.shape[dim]]");
        check(same_kind(*bias, x), "fastgan::bias_act: bias must have the dtype and the device of x");
    }
    Tensor y = x.empty_like();
    const int64_t numel = x.numel();
    const int64_t inner = bias && channels > 1 ? x.strides()[dim] : std::max<int64_t>(numel, 1);
    if (numel) run({x.data(), bias ? bias->data() : nullptr, y.mutable_data(), dtype_of(x), numel, channels, inner, activation_of(stack + 3)}, x);
    stack[0] = y.release();
}

template <void (*run)(const BiasActBackwardArgs&, const Tensor&)> void backward(StableIValue* stack) {
    const Tensor dy = take_tensor(stack[0]), y = take_tensor(stack[1]);
    check(is_dense(y) && same_memory_order(dy, y), "fastgan::bias_act_backward: dy and y must be dense, with the same sizes and strides");
    check(same_kind(dy, y), "fastgan::bias_act_backward: dy must have the dtype and the device of y");
    Tensor dx = y.empty_like();
    const int64_t numel = y.numel();
    if (numel) run({dy.data(), y.data(), dx.mutable_data(), dtype_of(y), numel, activation_of(stack + 2)}, y);
    stack[0] = dx.release();
}

}  // namespace

void bias_act_on_cpu(StableIValue* stack, uint64_t, uint64_t) { forward<run_on_cpu>(stack); }
void bias_act_backward_on_cpu(StableIValue* stack, uint64_t, uint64_t) { backward<run_on_cpu>(stack); }
#ifdef FASTGAN_CUDA
void bias_act_on_cuda(StableIValue* stack, uint64_t, uint64_t) { forward<run_on_cuda>(stack); }
void bias_act_backward_on_cuda(StableIValue* stack, uint64_t, uint64_t) { backward<run_on_cuda>(stack); }
#endif

}  // namespace fastgan
