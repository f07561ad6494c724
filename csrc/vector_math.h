// Functions of one float, without a branch or a table, so that a loop over them becomes vector instructions (vectorised.h).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vectorised.h"

namespace fastgan {
namespace {  // each file its own copy: these are compiled for different instruction sets

FASTGAN_LOOP float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

FASTGAN_LOOP uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

// exp(x) - 1 for x in [-64, 0], to 2 ulp: 2^n (e^r - 1) + (2^n - 1) with x = n ln 2 + r, |r| <= ln 2 / 2. A NaN stays one.
FASTGAN_LOOP float expm1_of_negative(float x) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: a float this large has no bits below one, so adding it rounds to the nearest integer
    const float shifted = x * 1.44269504f + shift, n = shifted - shift;
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-06f;  // ln 2 in two parts: n times the first is exact
    // Minimax on the interval, relative error of e^r - 1 below 1.5e-8.
    const float q = 0.16666548f + r * (0.0416668542f + r * (0.00836616382f + r * 0.00138982572f));
    const float p = r + r * r * (0.5f + r * q);
    const float power = float_of((bits_of(shifted) << 23) + 0x3F800000u);  // n is in the lowest bits of `shifted`
    return power * p + (power - 1.0f);
}

// To 2.5 ulp at any normal magnitude and one step of the denormals; odd, so -0 stays -0; never above 1. A NaN stays one.
FASTGAN_LOOP float tanh_of(float x) {
    const float magnitude = float_of(bits_of(x) & 0x7FFFFFFFu);
    const float bounded = magnitude > 32.0f ? 32.0f : magnitude;
    const float e = expm1_of_negative(-2.0f * bounded);
    return float_of(bits_of(-e / (e + 2.0f)) | (bits_of(x) & 0x80000000u));
}

FASTGAN_LOOP double tanh_of(double x) { return std::tanh(x); }

}  // namespace
}  // namespace fastgan
