// What the kernels of the deconvolutions are made of, beyond C++: instructions of sm_80, and launching.
// Only nvcc reads it. tests/ops/cuda_on_host.h has the same names in plain C++, so that the kernels' own source runs without a GPU.
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace fastgan {
namespace {

template <class V> __device__ __forceinline__ V* dynamic_shared() {
    extern __shared__ uint4 memory[];
    return reinterpret_cast<V*>(memory);
}

// Copies 16 bytes from global to shared memory in the background (kKeep: and keeps them in the L1 cache), or fills them with zeros.
// `from` is a valid address either way.
template <bool kKeep> __device__ __forceinline__ void copy_async(uint4* to, const void* from, bool valid) {
    const uint32_t address = uint32_t(__cvta_generic_to_shared(to));
    const int bytes = valid ? 16 : 0;
    if constexpr (kKeep) asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
    else asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kLeft of this thread's groups are under way.
template <int kLeft> __device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory"); }

template <bool kTransposed> __device__ __forceinline__ void load_blocks(uint32_t (&block)[4], const uint4* row) {
    const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
    if constexpr (kTransposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(block[0]), "=r"(block[1]), "=r"(block[2]), "=r"(block[3]) : "r"(address) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(block[0]), "=r"(block[1]), "=r"(block[2]), "=r"(block[3]) : "r"(address) : "memory");
    }
}

// sum [16 x 8] += a [16 x 16] * b [16 x 8]
template <class T> __device__ __forceinline__ void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <> __device__ __forceinline__ void multiply_add<__nv_bfloat16>(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <> __device__ __forceinline__ void multiply_add<__half>(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two neighbours in memory, the first in the low half.
template <class T> __device__ __forceinline__ uint32_t packed(float first, float second) {
    const T low(first), high(second);
    return uint32_t(reinterpret_cast<const uint16_t&>(low)) | uint32_t(reinterpret_cast<const uint16_t&>(high)) << 16;
}

// Runs a kernel of one argument on `stream`. More shared memory than 48 KiB must be asked for.
template <class Argument>
cudaError_t launch(void (*kernel)(Argument), dim3 grid, int threads, int shared_bytes, cudaStream_t stream, const Argument& argument) {
    constexpr int kWithoutAsking = 48 * 1024;
    if (shared_bytes > kWithoutAsking) {
        const auto function = reinterpret_cast<const void*>(kernel);
        const cudaError_t error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
        if (error != cudaSuccess) return error;
    }
    kernel<<<grid, threads, shared_bytes, stream>>>(argument);
    return cudaGetLastError();
}

}  // namespace
}  // namespace fastgan
#endif
