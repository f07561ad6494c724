// The glue between torch's tensors and the kernels of leaky_relu_bce.
#include "leaky_relu_bce.h"

#include "boxed.h"
#include "glue.h"

namespace fastgan {
namespace {

bool is_vector(const Tensor& x, int64_t size) { return x.dim() == 1 && x.sizes()[0] == size; }

int32_t dtype_of_sums(const Tensor& x) { return dtype_of(x) == Dtype::float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(); }

void check_vector(const Tensor& tensor, const Tensor& x, int64_t size) {
    check(is_vector(tensor, size) && is_dense(tensor), "fastgan::leaky_relu_bce: weight [features], bias [1], targets and logits [rows] must be dense");
    check(tensor.dtype() == dtype_of_sums(x), "fastgan::leaky_relu_bce: all but x must be float32, or float64 where x is");
    check(tensor.device_type() == x.device_type(), "fastgan::leaky_relu_bce: all tensors must be on one device");
}

const void* data_of(const std::optional<Tensor>& tensor, const Tensor& x, int64_t size) {
    if (!tensor) return nullptr;
    check_vector(*tensor, x, size);
    return tensor->data();
}

// A gradient may be one number for all rows, so it need not be dense.
RowGradients gradients_of(const std::optional<Tensor>& tensor, const Tensor& like, int64_t rows) {
    if (!tensor) return {nullptr, 0};
    check(is_vector(*tensor, rows) && same_kind(*tensor, like), "fastgan::leaky_relu_bce_backward: dloss and dlogits must be like logits, [rows]");
    return {tensor->data(), tensor->strides()[0]};
}

LeakyReluBce head_of(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, const std::optional<Tensor>& targets,
                     double target, double slope) {
    check(x.dim() == (weight ? 2 : 1), "fastgan::leaky_relu_bce: x must be [rows, features], or [rows] without a weight");
    const int64_t *sizes = x.sizes(), rows = sizes[0], features = weight ? sizes[1] : 1;
    check(x.numel() == 0 || ((rows == 1 || x.strides()[0] == features) && (features == 1 || x.strides()[1] == 1)),
          "fastgan::leaky_relu_bce: x must be contiguous");
    return {x.data(), data_of(weight, x, features), data_of(bias, x, 1), data_of(targets, x, rows), target, slope, dtype_of(x), rows, features};
}

Tensor empty_vector(const Tensor& like, int64_t size, int32_t dtype) {
    const int64_t stride = 1;
    return like.empty(1, &size, &stride, dtype);
}

}  // namespace

void leaky_relu_bce_on_cpu(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take_tensor(stack[0]);
    const std::optional<Tensor> weight = take_optional_tensor(stack[1]), bias = take_optional_tensor(stack[2]), targets = take_optional_tensor(stack[3]);
    const LeakyReluBce head = head_of(x, weight, bias, targets, value_of<double>(stack[4]), value_of<double>(stack[5]));
    Tensor loss = empty_vector(x, head.rows, dtype_of_sums(x)), logits = empty_vector(x, head.rows, dtype_of_sums(x));
    check(leaky_relu_bce_cpu({head, loss.mutable_data(), logits.mutable_data()}), "fastgan::leaky_relu_bce: no CPU kernel for this dtype");
    stack[0] = loss.release();
    stack[1] = logits.release();
}

void leaky_relu_bce_backward_on_cpu(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take_tensor(stack[0]);
    const std::optional<Tensor> weight = take_optional_tensor(stack[1]), targets = take_optional_tensor(stack[2]);
    const Tensor logits = take_tensor(stack[5]);
    const std::optional<Tensor> dloss = take_optional_tensor(stack[6]), dlogits = take_optional_tensor(stack[7]);
    const LeakyReluBce head = head_of(x, weight, std::nullopt, targets, value_of<double>(stack[3]), value_of<double>(stack[4]));
    const bool needs_dx = value_of<bool>(stack[8]), needs_dparameters = value_of<bool>(stack[9]);
    check_vector(logits, x, head.rows);
    check(weight || !needs_dparameters, "fastgan::leaky_relu_bce_backward: without a weight there are no parameters");
    Tensor dx = needs_dx ? x.empty_like() : empty_vector(x, 0, x.dtype());
    Tensor dparameters = empty_vector(x, needs_dparameters ? head.features + 1 : 0, logits.dtype());
    const LeakyReluBceBackwardArgs args = {head,
                                           logits.data(),
                                           gradients_of(dloss, logits, head.rows),
                                           gradients_of(dlogits, logits, head.rows),
                                           needs_dx ? dx.mutable_data() : nullptr,
                                           needs_dparameters ? dparameters.mutable_data() : nullptr};
    check(leaky_relu_bce_backward_cpu(args), "fastgan::leaky_relu_bce_backward: no CPU kernel for this dtype");
    stack[0] = dx.release();
    stack[1] = dparameters.release();
}

}  // namespace fastgan
