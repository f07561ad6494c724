// The glue between torch's tensors and the kernels of deconv.
#include "boxed.h"
#include "deconv_glue.h"
#ifdef FASTGAN_CUDA
#include "cuda_stream.h"
#include "deconv_plan.h"
#endif

namespace fastgan {
namespace {

void run_on_cpu(const DeconvUpArgs& args, const Tensor&) { check(deconv_up_cpu(args), "fastgan::deconv_up: no CPU kernel for this dtype or shape"); }
void run_on_cpu(const DeconvDownArgs& args, const Tensor&) { check(deconv_down_cpu(args), "fastgan::deconv_down: no CPU kernel for this dtype or shape"); }
void run_on_cpu(const DeconvWeightArgs& args, const Tensor&) {
    check(deconv_weight_cpu(args), "fastgan::deconv_weight: no CPU kernel for this dtype or shape");
}

#ifdef FASTGAN_CUDA
// The workspace goes back to torch's allocator before the kernels have run: it hands it out again on this stream only, behind them.
template <class Args>
void run_with_workspace(const Args& args, const Tensor& x, Plan (*plan_of)(const Args&, int),
                        const char* (*launch)(const Args&, const Plan&, float*, int, void*)) {
    const int device = x.device_index();
    const Plan plan = plan_of(args, device);
    const int64_t stride = 1;
    const Tensor workspace = x.empty(1, &plan.workspace, &stride, aoti_torch_dtype_float32());
    must_be_null(launch(args, plan, static_cast<float*>(workspace.mutable_data()), device, current_cuda_stream(device)));
}
void run_on_cuda(const DeconvUpArgs& args, const Tensor& x) { run_with_workspace(args, x, deconv_up_cuda_plan, deconv_up_cuda); }
void run_on_cuda(const DeconvDownArgs& args, const Tensor& x) { run_with_workspace(args, x, deconv_down_cuda_plan, deconv_down_cuda); }
void run_on_cuda(const DeconvWeightArgs& args, const Tensor& x) { run_with_workspace(args, x, deconv_weight_cuda_plan, deconv_weight_cuda); }
#endif

const void* check_bias(const std::optional<Tensor>& bias, const Tensor& image, int64_t channels) {
    if (!bias) return nullptr;
    check(bias->dim() == 1 && bias->sizes()[0] == channels && is_dense(*bias), "fastgan::deconv: bias must be dense, one number a channel");
    check(same_kind(*bias, image), "fastgan::deconv: bias must have the dtype and the device of the images");
    return bias->data();
}

Epilogue epilogue_of(StableIValue argument) {
    const int64_t act = value_of<int64_t>(argument);
    check(0 <= act && act <= int64_t(Epilogue::tanh), "fastgan::deconv: act must be 0 (linear), 1 (relu), 2 (leaky_relu) or 3 (tanh)");
    return Epilogue(act);
}

template <void (*run)(const DeconvUpArgs&, const Tensor&)> void up(StableIValue* stack) {
    const Tensor small = take_tensor(stack[0]), weight = take_tensor(stack[1]);
    const std::optional<Tensor> bias = take_optional_tensor(stack[2]);
    check(is_channels_last(small), "fastgan::deconv_up: small must be channels_last [N, C, h, w]");
    check_weight(weight, small);
    check(small.sizes()[1] == weight.sizes()[0], "fastgan::deconv_up: weight must have as many rows as small has channels");
    const int64_t channels = weight.sizes()[1], height = value_of<int64_t>(stack[3]), width = value_of<int64_t>(stack[4]);
    check(height >= 0 && width >= 0, "fastgan::deconv_up: height and width must not be negative");
    Tensor big = empty_channels_last(small, small.sizes()[0], channels, height, width);
    const void* bias_data = check_bias(bias, small, channels);
    const DeconvShape shape = shape_of(small, big);
    const Epilogue epilogue = epilogue_of(stack[5]);
    const double slope = value_of<double>(stack[6]);
    if (big.numel()) run({small.data(), weight.data(), bias_data, big.mutable_data(), dtype_of(small), shape, epilogue, slope}, small);
    stack[0] = big.release();
}

template <void (*run)(const DeconvDownArgs&, const Tensor&)> void down(StableIValue* stack) {
    const Tensor big = take_tensor(stack[0]), weight = take_tensor(stack[1]);
    const std::optional<Tensor> bias = take_optional_tensor(stack[2]);
    check(is_channels_last(big), "fastgan::deconv_down: big must be channels_last [N, K, H, W]");
    check_weight(weight, big);
    check(big.sizes()[1] == weight.sizes()[1], "fastgan::deconv_down: weight must have as many columns as big has channels");
    const int64_t channels = weight.sizes()[0];
    Tensor small = empty_channels_last(big, big.sizes()[0], channels, big.sizes()[2] / 2, big.sizes()[3] / 2);
    const void* bias_data = check_bias(bias, big, channels);
    const DeconvShape shape = shape_of(small, big);
    const Epilogue epilogue = epilogue_of(stack[3]);
    const double slope = value_of<double>(stack[4]);
    if (small.numel()) run({big.data(), weight.data(), bias_data, small.mutable_data(), dtype_of(big), shape, epilogue, slope}, big);
    stack[0] = small.release();
}

template <void (*run)(const DeconvWeightArgs&, const Tensor&)> void weight(StableIValue* stack) {
    const Tensor small = take_tensor(stack[0]), big = take_tensor(stack[1]);
    check(is_channels_last(small) && is_channels_last(big), "fastgan::deconv_weight: both images must be channels_last, with four dimensions");
    check(same_kind(small, big), "fastgan::deconv_weight: both images must have the same dtype and device");
    const DeconvShape shape = shape_of(small, big);
    Tensor weight = empty_channels_last(small, shape.small_channels, shape.big_channels, 4, 4);
    if (weight.numel()) run({small.data(), big.data(), weight.mutable_data(), dtype_of(small), shape}, small);
    stack[0] = weight.release();
}

}  // namespace

void deconv_up_on_cpu(StableIValue* stack, uint64_t, uint64_t) { up<run_on_cpu>(stack); }
void deconv_down_on_cpu(StableIValue* stack, uint64_t, uint64_t) { down<run_on_cpu>(stack); }
void deconv_weight_on_cpu(StableIValue* stack, uint64_t, uint64_t) { weight<run_on_cpu>(stack); }
#ifdef FASTGAN_CUDA
void deconv_up_on_cuda(StableIValue* stack, uint64_t, uint64_t) { up<run_on_cuda>(stack); }
void deconv_down_on_cuda(StableIValue* stack, uint64_t, uint64_t) { down<run_on_cuda>(stack); }
void deconv_weight_on_cuda(StableIValue* stack, uint64_t, uint64_t) { weight<run_on_cuda>(stack); }
#endif

}  // namespace fastgan
