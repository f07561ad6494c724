// Every op of the library: its schema, and the glue between torch's tensors and the plain structs of the kernels.
// Fake implementations and gradients are registered in Python, in fastgan/ops/.
#include <algorithm>
#include <numeric>
#include <vector>

#include "bias_act.h"
#include "torch_abi.h"
#ifdef FASTGAN_CUDA
#include "cuda_stream.h"
#endif

namespace fastgan {
namespace {

Dtype dtype_of(const Tensor& x) {
    if (x.dtype() == aoti_torch_dtype_float32()) return Dtype::float32;
    if (x.dtype() == aoti_torch_dtype_float64()) return Dtype::float64;
    if (x.dtype() == aoti_torch_dtype_float16()) return Dtype::float16;
    if (x.dtype() == aoti_torch_dtype_bfloat16()) return Dtype::bfloat16;
    throw std::runtime_error("fastgan: the dtype must be float16, bfloat16, float32 or float64");
}

// Every element exactly once in one stretch of memory, in any order of the dimensions: contiguous, channels_last, transposed.
bool is_dense(const Tensor& x) {
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

bool same_memory_order(const Tensor& a, const Tensor& b) {
    if (a.dim() != b.dim()) return false;
    for (int64_t d = 0; d < a.dim(); ++d) {
        if (a.sizes()[d] != b.sizes()[d] || (a.sizes()[d] > 1 && a.strides()[d] != b.strides()[d])) return false;
    }
    return true;
}

bool same_kind(const Tensor& a, const Tensor& b) {
    return a.dtype() == b.dtype() && a.device_type() == b.device_type() && a.device_index() == b.device_index();
}

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
void must_be_null(const char* problem) { check(!problem, problem ? problem : ""); }

void run_on_cuda(const BiasActArgs& args, const Tensor& x) {
    must_be_null(bias_act_cuda(args, x.device_index(), current_cuda_stream(x.device_index())));
}

void run_on_cuda(const BiasActBackwardArgs& args, const Tensor& y) {
    must_be_null(bias_act_backward_cuda(args, y.device_index(), current_cuda_stream(y.device_index())));
}
#endif

template <void (*run)(const BiasActArgs&, const Tensor&)> void bias_act(StableIValue* stack, uint64_t, uint64_t) {
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

template <void (*run)(const BiasActBackwardArgs&, const Tensor&)> void bias_act_backward(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor dy = take_tensor(stack[0]), y = take_tensor(stack[1]);
    check(is_dense(y) && same_memory_order(dy, y), "fastgan::bias_act_backward: dy and y must be dense, with the same sizes and strides");
    check(same_kind(dy, y), "fastgan::bias_act_backward: dy must have the dtype and the device of y");
    Tensor dx = y.empty_like();
    const int64_t numel = y.numel();
    if (numel) run({dy.data(), y.data(), dx.mutable_data(), dtype_of(y), numel, activation_of(stack + 2)}, y);
    stack[0] = dx.release();
}

void define_schemas() {
    TorchLibraryHandle library;
    succeed(aoti_torch_library_init_fragment("fastgan", __FILE__, __LINE__, &library));
    succeed(aoti_torch_library_def(library, "bias_act(Tensor x, Tensor? bias, int dim, float slope, float gain, float clamp) -> Tensor"));
    succeed(aoti_torch_library_def(library, "bias_act_backward(Tensor dy, Tensor y, float slope, float gain, float clamp) -> Tensor"));
}

void implement(const char* dispatch_key, BoxedKernel forward, BoxedKernel backward) {
    TorchLibraryHandle library;
    succeed(aoti_torch_library_init_impl("fastgan", dispatch_key, __FILE__, __LINE__, &library));
    succeed(torch_library_impl(library, "bias_act", forward, kTorch210));
    succeed(torch_library_impl(library, "bias_act_backward", backward, kTorch210));
}

}  // namespace
}  // namespace fastgan

// Called once, after `import torch`. Not a static initialiser: an exception in one would end the process. 0 is success.
extern "C" int fastgan_register() try {
    using namespace fastgan;
    define_schemas();
    implement("CPU", bias_act<run_on_cpu>, bias_act_backward<run_on_cpu>);
#ifdef FASTGAN_CUDA
    implement("CUDA", bias_act<run_on_cuda>, bias_act_backward<run_on_cuda>);
#endif
    return 0;
} catch (const std::exception&) {
    return 1;
}

// Null where the CUDA kernels can run, else why not.
extern "C" const char* fastgan_cuda_problem() {
#ifdef FASTGAN_CUDA
    return fastgan::cuda_problem();
#else
    return "the library was built without nvcc";
#endif
}
