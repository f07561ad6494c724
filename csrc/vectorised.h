// Plain loops compiled for each instruction set, and the best version chosen at run time.
//
// A loop that GCC vectorises by itself is written once, as `static void run(...)` of a struct, marked FASTGAN_LOOP. vectorised<Body>(...)
// runs the copy of it that suits the machine. Only what GCC does not do well (a matrix product's tile of registers) is written in intrinsics.
#pragma once
#include "cpu_features.h"

#define FASTGAN_LOOP __attribute__((always_inline)) inline

#if defined(__x86_64__)
#define FASTGAN_AVX2 __attribute__((target("avx2,fma,f16c")))
#define FASTGAN_AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")))
#define FASTGAN_AVX512_BF16 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#endif

namespace fastgan {
namespace {  // each file its own copy

#if defined(__x86_64__)
template <class Body, class... Args> FASTGAN_AVX2 void run_avx2(Args... args) { Body::run(args...); }
template <class Body, class... Args> FASTGAN_AVX512 void run_avx512(Args... args) { Body::run(args...); }
#endif

template <class Body, class... Args> void vectorised(Args... args) {
#if defined(__x86_64__)
    if (best_isa() >= Isa::avx512) return run_avx512<Body>(args...);
    if (best_isa() >= Isa::avx2) return run_avx2<Body>(args...);
#endif
    Body::run(args...);
}

}  // namespace
}  // namespace fastgan
