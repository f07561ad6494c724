// `up` and `down` that also sum up what they write, for a BatchNorm behind them. Plain C++.
//
// The batch is `parts` equal runs of images, and the rows of a phase (deconv_index.h) of one part are cut into blocks
// of 64: of each block and channel the mean and the sum of squared deviations are written. Blocks do not depend on the
// tile, so neither does the shape of `partial`.
#pragma once
#include <array>

#include "deconv_plan.h"

namespace fastgan {

constexpr int kBlockRows = 64;

// Rows of each phase in one part, of an image of batch x height x width, as `up` (4 phases) or `down` (1) has them.
struct PartRows {
    int phases;
    std::array<int64_t, 4> rows;

    PartRows(int phases, int64_t images, int64_t height, int64_t width)
        : phases(phases), rows{images * height * width, 0, 0, 0} {
        for (int phase = 0; phases == 4 && phase < 4; ++phase)
            rows[phase] = images * ((height - (phase >> 1) + 1) / 2) * ((width - (phase & 1) + 1) / 2);
    }
    int64_t blocks_a_phase() const { return ceil_div(rows[0], kBlockRows); }  // of the largest, which is the first
    int64_t blocks() const { return phases * blocks_a_phase(); }
};

// Whether a call has such a kernel: both channel counts multiples of 8, 16-bit dtypes, aligned tensors, and a batch of
// whole parts.
inline bool has_stats(const ProductKind& kind, const DeconvShape& shape, int64_t parts) {
    return kind.way == Way::tensor_cores && parts > 0 && shape.batch % parts == 0 && fits_index(shape);
}

// Null, or what went wrong. args: linear, without a bias. partial: [parts, blocks, channels, 2], mean and sum of
// squared deviations in float32; what belongs to no row is left as it was.
const char* deconv_up_stats_cuda(const DeconvUpArgs& args, int parts, float* partial, int device, void* stream);
const char* deconv_down_stats_cuda(const DeconvDownArgs& args, int parts, float* partial, int device, void* stream);

struct BatchStatsArgs {
    const float* partial;  // [parts, blocks, channels, 2]
    float *mean, *rstd;    // [parts, channels], written: rstd is 1 / sqrt(variance + eps)
    float *running_mean,
        *running_var;  // [channels], moved by momentum part after part, the variance unbiased; null for none
    PartRows rows;
    int parts;
    int64_t channels;
    float momentum, eps;
};
const char* batch_stats_cuda(const BatchStatsArgs&, int device, void* stream);

}  // namespace fastgan
