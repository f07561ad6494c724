// The definition of the deconvolutions, tensors of small integers, and the stand-in for CUDA, for the programs that run their kernels on the CPU.
#pragma once
#include "cuda_on_host.h"

#include <random>
#include <string>
#include <vector>

#include "../../../csrc/cuda_device.h"
#include "../../../csrc/deconv.h"

namespace fastgan {

inline DeviceGuard::DeviceGuard(int) {}
inline DeviceGuard::~DeviceGuard() {}

namespace {

int problems = 0;

template <class... Values> void expect(bool holds, const char* format, Values... values) {
    if (holds) return;
    ++problems;
    std::printf(format, values...);
    std::printf("\n");
}

// ---- The definition.

struct Sizes {
    int64_t small, big, weight;
    explicit Sizes(const DeconvShape& s)
        : small(s.batch * s.small_height * s.small_width * s.small_channels), big(s.batch * s.big_height * s.big_width * s.big_channels),
          weight(16 * s.small_channels * s.big_channels) {}
};

// visit(small, big, weight): the offsets of every product of the form, in memory that is channels_last.
template <class Visit> void for_every_product(const DeconvShape& s, const Visit& visit) {
    const auto [N, C, K, h, w, H, W] = s;
    for (int64_t n = 0; n < N; ++n)
        for (int64_t i = 0; i < h; ++i)
            for (int64_t j = 0; j < w; ++j)
                for (int64_t ky = 0; ky < 4; ++ky)
                    for (int64_t kx = 0; kx < 4; ++kx) {
                        const int64_t y = 2 * i - 1 + ky, x = 2 * j - 1 + kx;
                        if (y < 0 || y >= H || x < 0 || x >= W) continue;
                        for (int64_t c = 0; c < C; ++c)
                            for (int64_t k = 0; k < K; ++k)
                                visit(((n * h + i) * w + j) * C + c, ((n * H + y) * W + x) * K + k, ((c * 4 + ky) * 4 + kx) * K + k);
                    }
}

std::string name_of(const DeconvShape& s) {
    std::string name;
    for (int64_t size : {s.batch, s.small_channels, s.big_channels, s.small_height, s.small_width, s.big_height, s.big_width}) {
        name += std::to_string(size) + " ";
    }
    return name;
}

// ---- Tensors of small integers.

template <class T> struct Tensor {
    std::vector<int64_t> values;
    cuda_on_host::Memory memory;

    Tensor(int64_t size, std::mt19937* random) : values(size), memory(size * sizeof(T)) {
        for (int64_t i = 0; random && i < size; ++i) {
            values[i] = int64_t((*random)() % 5) - 2;
            data()[i] = T(float(values[i]));
        }
    }
    T* data() const { return reinterpret_cast<T*>(memory.begin()); }
};

template <class T> constexpr Dtype kDtype = Dtype::float32;
template <> constexpr Dtype kDtype<__half> = Dtype::float16;
template <> constexpr Dtype kDtype<__nv_bfloat16> = Dtype::bfloat16;

}  // namespace
}  // namespace fastgan
