// Count, mean and sum of squared deviations of some numbers, and of the union of two sets (Chan, Golub & LeVeque,
// 1979). For the device and the host.
#pragma once
#include "host_device.h"

namespace fastgan {

struct Moments {
    float count = 0.0f, mean = 0.0f, m2 = 0.0f;
};

FASTGAN_BOTH Moments united(const Moments& a, const Moments& b) {
    if (b.count == 0.0f) return a;
    const float count = a.count + b.count, share = b.count / count, delta = b.mean - a.mean;
    return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * (a.count * share)};
}

}  // namespace fastgan
