// FASTGAN_BOTH: a function for the device and for the host, where nvcc reads it; an ordinary inline one elsewhere.
#pragma once

#ifdef __CUDACC__
#define FASTGAN_BOTH __host__ __device__ __forceinline__
#else
#define FASTGAN_BOTH inline
#endif
