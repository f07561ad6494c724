// From the moments of blocks (deconv_stats.h) to those of a batch, and to what a BatchNorm keeps of them.
#pragma once
#include "cuda_core.cuh"
#include "deconv_stats.h"
#include "moments.h"

namespace fastgan {
namespace {

constexpr int kStatsChannels = 8, kStatsAdders = 64, kStatsThreads = kStatsChannels * kStatsAdders;  // of a CTA
constexpr int kStatsSharedBytes = kStatsThreads * int(sizeof(Moments));

struct BatchStats {
    const float2* partial;  // [parts, phases * blocks_a_phase, channels] of (mean, sum of squared deviations)
    float *mean, *rstd, *running_mean, *running_var;
    int parts, phases;
    uint32_t rows[4], blocks_a_phase, channels;
    float momentum, eps;
};

// One adder's blocks of a channel, one after another.
__device__ inline Moments sum_blocks(const BatchStats& p, int part, uint32_t channel, int adder) {
    Moments total;
    for (int phase = 0; phase < p.phases; ++phase) {
        const float2* const blocks =
            p.partial + (int64_t(part) * p.phases + phase) * p.blocks_a_phase * p.channels + channel;
        const uint32_t rows = p.rows[phase];
#pragma unroll 4
        for (uint32_t first = uint32_t(adder) * kBlockRows; first < rows; first += kStatsAdders * kBlockRows) {
            const float2 block = blocks[int64_t(first / kBlockRows) * p.channels];
            total = united(total, {float(rows - first < kBlockRows ? rows - first : kBlockRows), block.x, block.y});
        }
    }
    return total;
}

// Always in the same order: equal inputs give equal bits. The parts follow one another, as calls of a BatchNorm would.
__global__ void __launch_bounds__(kStatsThreads) batch_stats_kernel(const __grid_constant__ BatchStats p) {
    Moments* const sums = dynamic_shared<Moments>();  // [adders, channels of the CTA]
    const int adder = threadIdx.x / kStatsChannels;
    const uint32_t channel = blockIdx.x * kStatsChannels + threadIdx.x % kStatsChannels;
    const bool is_real = channel < p.channels;
    for (int part = 0; part < p.parts; ++part) {
        sums[threadIdx.x] = is_real ? sum_blocks(p, part, channel, adder) : Moments{};
        __syncthreads();
        for (int others = kStatsAdders / 2; others > 0; others /= 2) {
            if (adder < others)
                sums[threadIdx.x] = united(sums[threadIdx.x], sums[threadIdx.x + others * kStatsChannels]);
            __syncthreads();
        }
        if (adder == 0 && is_real) {
            const Moments all = sums[threadIdx.x];
            p.mean[part * p.channels + channel] = all.mean;
            p.rstd[part * p.channels + channel] = 1.0f / sqrtf(all.m2 / all.count + p.eps);
            if (p.running_mean) {
                p.running_mean[channel] += p.momentum * (all.mean - p.running_mean[channel]);
                p.running_var[channel] += p.momentum * (all.m2 / (all.count - 1.0f) - p.running_var[channel]);
            }
        }
        __syncthreads();  // before the next part takes the place of this one
    }
}

}  // namespace
}  // namespace fastgan
