#include "leaky_relu_bce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu_features.h"
#include "torch_abi.h"

// Every function below becomes part of functions compiled for different instruction sets, so it must be inlined there.
#define INLINE inline __attribute__((always_inline))

namespace fastgan {
namespace {

constexpr int64_t kGrain = 16384;  // elements of x a thread takes at least: less is not worth waking one
constexpr int64_t kColumns = 512;  // features whose dweight is summed at a time: it and their weight stay in the L1 cache

// --- vectors of 64 bytes, which GCC and clang split where registers are shorter ---

template <class T> struct Wide;
template <> struct Wide<float> { typedef float type __attribute__((vector_size(64))); };
template <> struct Wide<double> { typedef double type __attribute__((vector_size(64))); };
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct BFloat16 { uint16_t bits; };
template <class T> using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;
template <class T> using Lanes = typename Wide<SumOf<T>>::type;
template <class T> constexpr int64_t kLanes = 64 / sizeof(SumOf<T>);

template <class To, class From> INLINE To bits_as(From from) {
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

INLINE float number(float v) { return v; }
INLINE double number(double v) { return v; }
INLINE float number(BFloat16 v) { return bits_as<float>(uint32_t(v.bits) << 16); }

INLINE void put(float* at, float v) { *at = v; }
INLINE void put(double* at, double v) { *at = v; }
INLINE void put(BFloat16* at, float v) {  // to the nearest, ties to even; a NaN stays one
    const uint32_t b = bits_as<uint32_t>(v);
    at->bits = v != v ? 0x7FC0 : uint16_t((b + 0x7FFF + ((b >> 16) & 1)) >> 16);
}

// References, not values: passing such vectors differs between instruction sets.
template <class T> INLINE void load(const T* from, Lanes<T>& to) {
    if constexpr (std::is_same_v<T, BFloat16>) {
        Halves halves;
        std::memcpy(&halves, from, sizeof halves);
        const Words words = __builtin_convertvector(halves, Words) << 16;
        std::memcpy(&to, &words, sizeof to);
    } else {
        std::memcpy(&to, from, sizeof to);
    }
}

template <class T> INLINE void store(T* to, const Lanes<T>& from) {
    if constexpr (std::is_same_v<T, BFloat16>) {
        Words b;
        std::memcpy(&b, &from, sizeof b);
        const Words rounded = (b + 0x7FFF + ((b >> 16) & 1)) >> 16, nan = (Words)(from != from);
        const Halves halves = __builtin_convertvector((rounded & ~nan) | (nan & 0x7FC0), Halves);
        std::memcpy(to, &halves, sizeof halves);
    } else {
        std::memcpy(to, &from, sizeof from);
    }
}

// --- the activation, and the loss of one logit ---

// For numbers and for vectors of them. A NaN comes out and is seen; ReLU makes 0 of -infinity.
template <class V, class S> INLINE void activate(V& v, S slope) {
    const V zero = {};
    v = v < zero ? (slope == 0 ? zero : v * slope) : v;
}

// exp(-a) for a >= 0: 2^n times the Taylor series of the rest, to 1e-8 of its value. The library's is not vectorised.
INLINE float exp_of_negative(float a) {
    const float round = 12582912.0f;  // 1.5 * 2^23: a float of this size has no digits behind the point
    const float shifted = -a * 1.44269504f + round, n = shifted - round;
    const float r = (-a - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first with few digits
    const float series = 1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f + r * (1 / 5040.f)))))));
    const float power = bits_as<float>((bits_as<uint32_t>(shifted) + 127) << 23);
    return a > 87 ? 0.0f : series * power;
}
INLINE double exp_of_negative(double a) { return std::exp(-a); }

// log(1 + e) for e in [0, 1]: twice the series of artanh(e / (2 + e)), to 1e-8 of its value, however small e is.
INLINE float log_of_one_plus(float e) {
    const float s = e / (2 + e), q = s * s;
    return 2 * s * (1 + q * (1 / 3.f + q * (1 / 5.f + q * (1 / 7.f + q * (1 / 9.f + q * (1 / 11.f + q * (1 / 13.f + q * (1 / 15.f))))))));
}
INLINE double log_of_one_plus(double e) { return std::log1p(e); }

template <class S> INLINE S loss_of(S logit, S target) {
    const S rest = log_of_one_plus(exp_of_negative(std::abs(logit)));  // softplus(l) = max(l, 0) + rest
    return rest + (logit < 0 ? -target * logit : (1 - target) * logit);
}

// d loss / d logit = (1 - t) sigmoid(l) - t sigmoid(-l): sigmoid(l) - t would lose its digits where D is sure.
template <class S> INLINE S slope_of_loss(S logit, S target) {
    const S e = exp_of_negative(std::abs(logit)), likely = 1 / (1 + e), unlikely = e / (1 + e);
    return logit < 0 ? (1 - target) * unlikely - target * likely : (1 - target) * likely - target * unlikely;
}

// --- the two passes ---

template <class T> INLINE SumOf<T> dot(const T* x, const SumOf<T>* weight, int64_t features, SumOf<T> slope) {
    Lanes<T> sums[2] = {};  // two, so that one addition need not wait for the other
    int64_t f = 0;
    for (; f + 2 * kLanes<T> <= features; f += 2 * kLanes<T>) {
        for (int part = 0; part < 2; ++part) {
            Lanes<T> v, w;
            load(x + f + part * kLanes<T>, v);
            load(weight + f + part * kLanes<T>, w);
            activate(v, slope);
            sums[part] += v * w;
        }
    }
    SumOf<T> sum = 0;
    for (; f < features; ++f) {
        SumOf<T> v = number(x[f]);
        activate(v, slope);
        sum += v * weight[f];
    }
    sums[0] += sums[1];
    for (int64_t lane = 0; lane < kLanes<T>; ++lane) sum += sums[0][lane];
    return sum;
}

// Rows [begin, end) of the forward pass.
template <class T> INLINE void forward(const LeakyReluBceArgs& args, int64_t begin, int64_t end) {
    using S = SumOf<T>;
    const LeakyReluBce& head = args.head;
    const T* x = static_cast<const T*>(head.x);
    const S *weight = static_cast<const S*>(head.weight), *targets = static_cast<const S*>(head.targets);
    const S bias = head.bias ? *static_cast<const S*>(head.bias) : S(0), slope = S(head.slope), target = S(head.target);
    S *loss = static_cast<S*>(args.loss), *logits = static_cast<S*>(args.logits);
    if (weight) {
        for (int64_t n = begin; n < end; ++n) logits[n] = dot(x + n * head.features, weight, head.features, slope) + bias;
    } else {
        for (int64_t n = begin; n < end; ++n) {
            S v = number(x[n]);
            activate(v, slope);
            logits[n] = v;
        }
    }
    if (targets) {
        for (int64_t n = begin; n < end; ++n) loss[n] = loss_of(logits[n], targets[n]);
    } else {
        for (int64_t n = begin; n < end; ++n) loss[n] = loss_of(logits[n], target);
    }
}

// The gradient of the logits of rows [begin, end).
template <class S> INLINE void gradient_of_logits(const LeakyReluBceBackwardArgs& args, S* dlogits, int64_t begin, int64_t end) {
    const S *logits = static_cast<const S*>(args.logits), *targets = static_cast<const S*>(args.head.targets);
    const S *loss_gradients = static_cast<const S*>(args.dloss.data), *logit_gradients = static_cast<const S*>(args.dlogits.data);
    const S target = S(args.head.target);
    for (int64_t n = begin; n < end; ++n) dlogits[n] = logit_gradients ? logit_gradients[n * args.dlogits.stride] : S(0);
    if (!loss_gradients) return;
    for (int64_t n = begin; n < end; ++n) {
        dlogits[n] += loss_gradients[n * args.dloss.stride] * slope_of_loss(logits[n], targets ? targets[n] : target);
    }
}

// Without a weight: rows [begin, end) of dx.
template <class T> INLINE void backward_of_rows(const LeakyReluBceBackwardArgs& args, const SumOf<T>* dlogits, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(args.head.x);
    T* dx = static_cast<T*>(args.dx);
    const SumOf<T> slope = SumOf<T>(args.head.slope);
    for (int64_t n = begin; n < end; ++n) put(dx + n, number(x[n]) > 0 ? dlogits[n] : dlogits[n] * slope);
}

// Features [begin, end) of all rows: of dx, and of dweight, whose sums are over the rows in order, whatever the number of threads.
template <class T> INLINE void backward_of_columns(const LeakyReluBceBackwardArgs& args, const SumOf<T>* dlogits, int64_t begin, int64_t end) {
    using S = SumOf<T>;
    const LeakyReluBce& head = args.head;
    const S *weight = static_cast<const S*>(head.weight), slope = S(head.slope);
    S* dweight = static_cast<S*>(args.dparameters);
    if (dweight) std::fill(dweight + begin, dweight + end, S(0));
    for (int64_t n = 0; n < head.rows; ++n) {
        const T* x = static_cast<const T*>(head.x) + n * head.features;
        T* dx = args.dx ? static_cast<T*>(args.dx) + n * head.features : nullptr;
        const S g = dlogits[n], g_below = g * slope;
        int64_t f = begin;
        for (; f + kLanes<T> <= end; f += kLanes<T>) {
            Lanes<T> v, w, sum;
            load(x + f, v);
            const Lanes<T> zero = {}, factor = v > zero ? zero + g : zero + g_below;
            if (dx) {
                load(weight + f, w);
                store(dx + f, Lanes<T>(factor * w));
            }
            if (dweight) {
                load(dweight + f, sum);
                activate(v, slope);
                store(dweight + f, Lanes<T>(sum + g * v));
            }
        }
        for (; f < end; ++f) {
            S v = number(x[f]);
            if (dx) put(dx + f, (v > 0 ? g : g_below) * weight[f]);
            activate(v, slope);
            if (dweight) dweight[f] += g * v;
        }
    }
}

// --- one version of each for every instruction set ---

template <class T> struct Kernels {
    void (*forward)(const LeakyReluBceArgs&, int64_t, int64_t);
    void (*gradient_of_logits)(const LeakyReluBceBackwardArgs&, SumOf<T>*, int64_t, int64_t);
    void (*backward_of_rows)(const LeakyReluBceBackwardArgs&, const SumOf<T>*, int64_t, int64_t);
    void (*backward_of_columns)(const LeakyReluBceBackwardArgs&, const SumOf<T>*, int64_t, int64_t);
};

#define VERSION(name, target)                                                                                                                  \
    template <class T> struct name {                                                                                                           \
        target static void a(const LeakyReluBceArgs& args, int64_t begin, int64_t end) { forward<T>(args, begin, end); }                       \
        target static void b(const LeakyReluBceBackwardArgs& args, SumOf<T>* dlogits, int64_t begin, int64_t end) {                            \
            gradient_of_logits(args, dlogits, begin, end);                                                                                     \
        }                                                                                                                                      \
        target static void c(const LeakyReluBceBackwardArgs& args, const SumOf<T>* dlogits, int64_t begin, int64_t end) {                      \
            backward_of_rows<T>(args, dlogits, begin, end);                                                                                    \
        }                                                                                                                                      \
        target static void d(const LeakyReluBceBackwardArgs& args, const SumOf<T>* dlogits, int64_t begin, int64_t end) {                      \
            backward_of_columns<T>(args, dlogits, begin, end);                                                                                 \
        }                                                                                                                                      \
        static constexpr Kernels<T> kernels = {a, b, c, d};                                                                                    \
    };

VERSION(Generic, )
#if defined(__x86_64__)
VERSION(Avx2, __attribute__((target("avx2,fma"))))
VERSION(Avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))))
#endif

template <class T> const Kernels<T>& best() {
#if defined(__x86_64__)
    if (best_isa() >= Isa::avx512) return Avx512<T>::kernels;
    if (best_isa() >= Isa::avx2) return Avx2<T>::kernels;
#endif
    return Generic<T>::kernels;
}

template <class T> void run(const LeakyReluBceArgs& args) {
    const Kernels<T>& kernels = best<T>();
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, args.head.features));
    parallel_for(args.head.rows, grain, [&](int64_t begin, int64_t end) { kernels.forward(args, begin, end); });
}

template <class T> void run_backward(const LeakyReluBceBackwardArgs& args) {
    const Kernels<T>& kernels = best<T>();
    const LeakyReluBce& head = args.head;
    std::vector<SumOf<T>> dlogits(head.rows);
    parallel_for(head.rows, kGrain, [&](int64_t begin, int64_t end) {
        kernels.gradient_of_logits(args, dlogits.data(), begin, end);
        if (!head.weight && args.dx) kernels.backward_of_rows(args, dlogits.data(), begin, end);
    });
    if (!head.weight) return;
    const int64_t blocks = (head.features + kColumns - 1) / kColumns, grain = kGrain / std::max<int64_t>(1, head.rows * kColumns) + 1;
    parallel_for(blocks, grain, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
            kernels.backward_of_columns(args, dlogits.data(), block * kColumns, std::min(head.features, (block + 1) * kColumns));
        }
    });
    if (!args.dparameters) return;
    SumOf<T> dbias = 0;
    for (SumOf<T> each : dlogits) dbias += each;
    static_cast<SumOf<T>*>(args.dparameters)[head.features] = dbias;
}

}  // namespace

bool leaky_relu_bce_cpu(const LeakyReluBceArgs& args) {
    if (args.head.dtype == Dtype::float32) run<float>(args);
    else if (args.head.dtype == Dtype::bfloat16) run<BFloat16>(args);
    else if (args.head.dtype == Dtype::float64) run<double>(args);
    else return false;
    return true;
}

bool leaky_relu_bce_backward_cpu(const LeakyReluBceBackwardArgs& args) {
    if (args.head.dtype == Dtype::float32) run_backward<float>(args);
    else if (args.head.dtype == Dtype::bfloat16) run_backward<BFloat16>(args);
    else if (args.head.dtype == Dtype::float64) run_backward<double>(args);
    else return false;
    return true;
}

}  // namespace fastgan
