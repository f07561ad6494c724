// What every CUDA kernel of the library needs from its device.
#pragma once

namespace fastgan {

// Null where a device can run the CUDA kernels, else what stands in the way.
const char* cuda_problem();

// Makes `device` the current one as long as it lives.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;

  private:
    int before_ = -1;  // -1: it was the current one already
};

}  // namespace fastgan
