// What the plain versions of the deconvolution kernels share: dtypes, and the activation.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "deconv.h"

namespace fastgan {
namespace {  // each file its own copy: these are compiled for different instruction sets

struct BFloat16 {
    uint16_t bits;
    BFloat16() = default;
    explicit BFloat16(float value) {  // to the nearest, ties to even; a NaN stays one
        uint32_t b;
        std::memcpy(&b, &value, 4);
        bits = value != value ? 0x7FC0 : uint16_t((b + 0x7FFF + ((b >> 16) & 1)) >> 16);
    }
    operator float() const {
        const uint32_t b = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &b, 4);
        return value;
    }
};

template <class T> struct SumOf { using type = float; };
template <> struct SumOf<double> { using type = double; };

template <class T> T activated(T v, Epilogue epilogue, T slope) {
    switch (epilogue) {
        case Epilogue::relu: return v < 0 ? T(0) : v;
        case Epilogue::leaky_relu: return v < 0 ? v * slope : v;
        case Epilogue::tanh: return std::tanh(v);
        default: return v;
    }
}

}  // namespace
}  // namespace fastgan
