#include "cuda_device.h"

#include <cuda_runtime.h>

namespace fastgan {

const char* cuda_problem() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    cudaGetLastError();  // the answer is the return value: leave no error behind for others to find
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

DeviceGuard::DeviceGuard(int device) {
    int current = -1;
    if (cudaGetDevice(&current) == cudaSuccess && current != device && cudaSetDevice(device) == cudaSuccess) before_ = current;
}

DeviceGuard::~DeviceGuard() {
    if (before_ >= 0) cudaSetDevice(before_);
}

}  // namespace fastgan
