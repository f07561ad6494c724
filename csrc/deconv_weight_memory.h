// What both orders of work of deconv_weight need.
#pragma once
#include <cstdint>
#include <memory>
#include <new>

namespace fastgan {
namespace {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory that a thread keeps from call to call and that never shrinks, because every fresh MB costs 0.4 ms of page faults. A call keeps up to 2 MB of
// small terms (4.6 KB a small channel where that is more) and 4.5 times the bytes of a bfloat16 weight in sums, and every thread it runs on 0.3 MB.
class KeptMemory {
  public:
    float* floats(int64_t count) {
        if (count > count_) {
            memory_.reset();
            memory_.reset(static_cast<float*>(::operator new[](count * sizeof(float), std::align_val_t(64))));
            count_ = count;
        }
        return memory_.get();
    }

  private:
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    std::unique_ptr<float, Free> memory_;
    int64_t count_ = 0;
};

}  // namespace
}  // namespace fastgan
