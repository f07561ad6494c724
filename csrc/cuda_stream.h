// torch's current CUDA stream, found in the libtorch_cuda.so that torch has loaded: the library is not linked to it,
// so that it also loads beside a torch without CUDA.
#pragma once
#include <dlfcn.h>

#include "torch_abi.h"

namespace fastgan {

inline void* current_cuda_stream(int32_t device) {
    using Getter = AOTITorchError (*)(int32_t device, void** out);
    static const Getter getter = [] {
        void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
        return library ? reinterpret_cast<Getter>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
    }();
    check(getter, "fastgan: this torch has no CUDA");
    void* stream = nullptr;
    succeed(getter(device, &stream));
    return stream;
}

// A launch answers with null, or with what went wrong.
inline void must_be_null(const char* problem) { check(!problem, problem ? problem : ""); }

}  // namespace fastgan
