// Every op of the library: its schema and its kernels. Fake implementations and gradients are registered in Python, in fastgan/ops/.
#include "boxed.h"
#ifdef FASTGAN_CUDA
#include "cuda_device.h"
#define ON_CUDA(kernel) kernel
#else
#define ON_CUDA(kernel) nullptr
#endif

namespace fastgan {
namespace {

struct Op {
    const char* name;
    const char* schema;  // what follows the name
    BoxedKernel cpu, cuda;
};

const Op kOps[] = {
    {"adam_ema", "(Tensor[] gradients, Tensor(a!)[] parameters, Tensor(b!)[] exp_avg, Tensor(c!)[] exp_avg_sq, Tensor(d!)[] average, "
     "Tensor(e!) beta1_power, Tensor(f!) beta2_power, Tensor lr, Tensor beta1, Tensor beta2, Tensor? ema_beta, float eps) -> ()",
     adam_ema_on_cpu, nullptr},
    {"batch_stats_finish",
     "(Tensor partial, Tensor(a!)? running_mean, Tensor(b!)? running_var, int images, int height, int width, int phases, float momentum, float eps) "
     "-> (Tensor mean, Tensor rstd)",
     nullptr, ON_CUDA(batch_stats_finish_on_cuda)},
    {"bias_act", "(Tensor x, Tensor? bias, int dim, float slope, float gain, float clamp) -> Tensor", bias_act_on_cpu, ON_CUDA(bias_act_on_cuda)},
    {"bias_act_backward", "(Tensor dy, Tensor y, float slope, float gain, float clamp) -> Tensor", bias_act_backward_on_cpu,
     ON_CUDA(bias_act_backward_on_cuda)},
    {"deconv_up", "(Tensor small, Tensor weight, Tensor? bias, int height, int width, int act, float slope) -> Tensor", deconv_up_on_cpu,
     ON_CUDA(deconv_up_on_cuda)},
    {"deconv_down", "(Tensor big, Tensor weight, Tensor? bias, int act, float slope) -> Tensor", deconv_down_on_cpu, ON_CUDA(deconv_down_on_cuda)},
    {"deconv_up_stats", "(Tensor small, Tensor weight, int height, int width, int parts) -> (Tensor big, Tensor partial)", nullptr,
     ON_CUDA(deconv_up_stats_on_cuda)},
    {"deconv_down_stats", "(Tensor big, Tensor weight, int parts) -> (Tensor small, Tensor partial)", nullptr, ON_CUDA(deconv_down_stats_on_cuda)},
    {"deconv_weight", "(Tensor small, Tensor big) -> Tensor", deconv_weight_on_cpu, ON_CUDA(deconv_weight_on_cuda)},
    {"leaky_relu_bce", "(Tensor x, Tensor? weight, Tensor? bias, Tensor? targets, float target, float slope) -> (Tensor loss, Tensor logits)",
     leaky_relu_bce_on_cpu, nullptr},
    {"leaky_relu_bce_backward",
     "(Tensor x, Tensor? weight, Tensor? targets, float target, float slope, Tensor logits, Tensor? dloss, Tensor? dlogits, bool needs_dx, "
     "bool needs_dparameters) -> (Tensor dx, Tensor dparameters)",
     leaky_relu_bce_backward_on_cpu, nullptr},
};

void define_schemas() {
    TorchLibraryHandle library;
    succeed(aoti_torch_library_init_fragment("fastgan", __FILE__, __LINE__, &library));
    for (const Op& op : kOps) succeed(aoti_torch_library_def(library, (std::string(op.name) + op.schema).c_str()));
}

void implement(const char* dispatch_key, BoxedKernel Op::*kernel) {
    TorchLibraryHandle library;
    succeed(aoti_torch_library_init_impl("fastgan", dispatch_key, __FILE__, __LINE__, &library));
    for (const Op& op : kOps) {
        if (op.*kernel) succeed(torch_library_impl(library, op.name, op.*kernel, kTorch210));
    }
}

}  // namespace
}  // namespace fastgan

// Called once, after `import torch`. Not a static initialiser: an exception in one would end the process. 0 is success.
extern "C" int fastgan_register() try {
    using namespace fastgan;
    define_schemas();
    implement("CPU", &Op::cpu);
    implement("CUDA", &Op::cuda);
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
