// What the CPU kernels of deconv share: bfloat16, memory of their own, the loops before and after a product.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "deconv.h"
#include "vector_math.h"

namespace fastgan {
namespace {  // each file its own copy: these are compiled for different instruction sets

struct BFloat16 {
    uint16_t bits;
    BFloat16() = default;
    FASTGAN_LOOP explicit BFloat16(float value) {  // to the nearest, ties to even; a NaN stays one
        const uint32_t b = bits_of(value);
        bits = value != value ? uint16_t(0x7FC0) : uint16_t((b + 0x7FFF + ((b >> 16) & 1)) >> 16);
    }
    FASTGAN_LOOP operator float() const { return float_of(uint32_t(bits) << 16); }
};

constexpr int64_t kGrain = 1 << 18;  // multiplications that a thread takes at least, about 10 us: less is not worth waking one

template <class T> struct SumOf { using type = float; };
template <> struct SumOf<double> { using type = double; };

// Zeros, on a cache line of their own: a vector that straddles two lines costs two loads.
template <class T> class Scratch {
  public:
    explicit Scratch(int64_t size) : data_(static_cast<T*>(::operator new(size * sizeof(T), kLine))) {
        std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
    }
    T* get() { return data_.get(); }
    const T* get() const { return data_.get(); }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(void* memory) const { ::operator delete(memory, kLine); }
    };
    std::unique_ptr<T, Free> data_;
};

template <class From, class To> struct Convert {
    static FASTGAN_LOOP void run(const From* __restrict from, To* __restrict to, int64_t size) {
        for (int64_t i = 0; i < size; ++i) to[i] = To(from[i]);
    }
};

// Comparisons are false for a NaN, so that a NaN comes out and is seen.
template <Epilogue epilogue, class T> FASTGAN_LOOP T activated(T v, T slope) {
    if constexpr (epilogue == Epilogue::relu) return v < 0 ? T(0) : v;
    else if constexpr (epilogue == Epilogue::leaky_relu) return v < 0 ? v * slope : v;
    else if constexpr (epilogue == Epilogue::tanh) return tanh_of(v);
    else return v;
}

// out = act(sum + bias), each of `size` elements.
template <class Sum, class T> struct Finish {
    template <Epilogue epilogue>
    static FASTGAN_LOOP void as(const Sum* __restrict sum, const Sum* __restrict bias, T* __restrict out, int64_t size, Sum slope) {
        for (int64_t i = 0; i < size; ++i) out[i] = T(activated<epilogue>(sum[i] + bias[i], slope));
    }
    static FASTGAN_LOOP void run(const Sum* sum, const Sum* bias, T* out, int64_t size, Epilogue epilogue, Sum slope) {
        switch (epilogue) {
            case Epilogue::linear: return as<Epilogue::linear>(sum, bias, out, size, slope);
            case Epilogue::relu: return as<Epilogue::relu>(sum, bias, out, size, slope);
            case Epilogue::leaky_relu: return as<Epilogue::leaky_relu>(sum, bias, out, size, slope);
            case Epilogue::tanh: return as<Epilogue::tanh>(sum, bias, out, size, slope);
        }
    }
};

}  // namespace
}  // namespace fastgan
