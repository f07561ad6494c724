#include "bias_act.h"

#include <algorithm>
#include <cmath>

#include "torch_abi.h"

namespace fastgan {
namespace {

constexpr int64_t kGrain = 16384;  // elements a thread takes at least: less is not worth waking one

template <class T> struct Act {
    T slope, gain, clamp;
    explicit Act(const Activation& a) : slope(T(a.slope)), gain(T(a.gain)), clamp(T(a.clamp)) {}

    // Every comparison is false for a NaN, so that a NaN comes out and is seen. A slope of 0 must not multiply -infinity.
    T operator()(T v) const {
        const T scaled = (v < 0 ? (slope == 0 ? T(0) : v * slope) : v) * gain;
        const T bounded = scaled > clamp ? clamp : scaled;
        return bounded < -clamp ? -clamp : bounded;
    }
    T gradient(T dy, T y) const { return std::abs(y) >= clamp ? T(0) : dy * gain * (y > 0 ? T(1) : slope); }
};

// The tensor is a series of runs: of `inner` elements that share one channel or, where channels lie innermost, of all channels in turn.
template <class T> void forward(const BiasActArgs& args) {
    const T* x = static_cast<const T*>(args.x);
    const T* bias = static_cast<const T*>(args.bias);
    T* y = static_cast<T*>(args.y);
    const Act<T> act(args.activation);
    const bool channels_innermost = args.inner == 1 && bias;
    const int64_t run = channels_innermost ? args.channels : args.inner;
    parallel_for(args.numel, kGrain, [&](int64_t begin, int64_t end) {
        while (begin < end) {
            const int64_t row = begin / run, stop = std::min(end, (row + 1) * run);
            if (channels_innermost) {
                const T* b = bias - row * run;
                for (int64_t i = begin; i < stop; ++i) y[i] = act(x[i] + b[i]);
            } else {
                const T b = bias ? bias[row % args.channels] : T(0);
                for (int64_t i = begin; i < stop; ++i) y[i] = act(x[i] + b);
            }
            begin = stop;
        }
    });
}

template <class T> void backward(const BiasActBackwardArgs& args) {
    const T* dy = static_cast<const T*>(args.dy);
    const T* y = static_cast<const T*>(args.y);
    T* dx = static_cast<T*>(args.dx);
    const Act<T> act(args.activation);
    parallel_for(args.numel, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) dx[i] = act.gradient(dy[i], y[i]);
    });
}

}  // namespace

bool bias_act_cpu(const BiasActArgs& args) {
    if (args.dtype == Dtype::float32) forward<float>(args);
    else if (args.dtype == Dtype::float64) forward<double>(args);
    else return false;
    return true;
}

bool bias_act_backward_cpu(const BiasActBackwardArgs& args) {
    if (args.dtype == Dtype::float32) backward<float>(args);
    else if (args.dtype == Dtype::float64) backward<double>(args);
    else return false;
    return true;
}

}  // namespace fastgan
