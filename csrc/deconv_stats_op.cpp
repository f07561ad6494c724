// The glue between torch's tensors and the deconvolutions that sum up what they write. There are CUDA kernels only.
#include "boxed.h"
#include "cuda_stream.h"
#include "deconv_glue.h"
#include "deconv_stats.h"

namespace fastgan {
namespace {

Tensor empty(const Tensor& like, std::initializer_list<int64_t> sizes, int32_t dtype) {
    std::vector<int64_t> strides(sizes.size(), 1);
    for (size_t d = sizes.size(); d-- > 1;) strides[d - 1] = strides[d] * sizes.begin()[d];
    return like.empty(int64_t(sizes.size()), sizes.begin(), strides.data(), dtype);
}

// The moments of an image of [parts * rows.images, channels, height, width], not yet computed.
Tensor empty_partial(const Tensor& image, int64_t parts, const PartRows& rows, int64_t channels) {
    return empty(image, {parts, rows.blocks(), channels, 2}, aoti_torch_dtype_float32());
}

int64_t checked_parts(StableIValue argument, const Tensor& image) {
    const int64_t parts = value_of<int64_t>(argument);
    check(parts > 0 && parts <= image.sizes()[0] && image.sizes()[0] % parts == 0,
          "fastgan::deconv: the batch must be a multiple of parts");
    return parts;
}

float* data_of(const std::optional<Tensor>& running, const Tensor& partial) {
    if (!running) return nullptr;
    const bool fits = same_kind(*running, partial) && running->dim() == 1 &&
                      running->sizes()[0] == partial.sizes()[2] && is_dense(*running);
    check(fits,
          "fastgan::batch_stats: running statistics must be dense float32, one number a channel, on the device of the "
          "partial ones");
    return static_cast<float*>(running->mutable_data());
}

}  // namespace

// small, weight, height, width, parts -> big, partial
void deconv_up_stats_on_cuda(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor small = take_tensor(stack[0]), weight = take_tensor(stack[1]);
    check(is_channels_last(small), "fastgan::deconv_up_stats: small must be channels_last [N, C, h, w]");
    check_weight(weight, small);
    check(small.sizes()[1] == weight.sizes()[0],
          "fastgan::deconv_up_stats: weight must have as many rows as small has channels");
    const int64_t channels = weight.sizes()[1], height = value_of<int64_t>(stack[2]),
                  width = value_of<int64_t>(stack[3]);
    const int64_t parts = checked_parts(stack[4], small);
    check(height > 0 && width > 0, "fastgan::deconv_up_stats: height and width must be positive");
    Tensor big = empty_channels_last(small, small.sizes()[0], channels, height, width);
    const DeconvUpArgs args{small.data(),    weight.data(),        nullptr,          big.mutable_data(),
                            dtype_of(small), shape_of(small, big), Epilogue::linear, 0.0};
    Tensor partial = empty_partial(big, parts, PartRows(4, small.sizes()[0] / parts, height, width), channels);
    const int device = small.device_index();
    must_be_null(deconv_up_stats_cuda(args, int(parts), static_cast<float*>(partial.mutable_data()), device,
                                      current_cuda_stream(device)));
    stack[0] = big.release(), stack[1] = partial.release();
}

// big, weight, parts -> small, partial
void deconv_down_stats_on_cuda(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor big = take_tensor(stack[0]), weight = take_tensor(stack[1]);
    check(is_channels_last(big), "fastgan::deconv_down_stats: big must be channels_last [N, K, H, W]");
    check_weight(weight, big);
    check(big.sizes()[1] == weight.sizes()[1],
          "fastgan::deconv_down_stats: weight must have as many columns as big has channels");
    const int64_t channels = weight.sizes()[0], height = big.sizes()[2] / 2, width = big.sizes()[3] / 2,
                  parts = checked_parts(stack[2], big);
    Tensor small = empty_channels_last(big, big.sizes()[0], channels, height, width);
    const DeconvDownArgs args{big.data(),    weight.data(),        nullptr,          small.mutable_data(),
                              dtype_of(big), shape_of(small, big), Epilogue::linear, 0.0};
    Tensor partial = empty_partial(small, parts, PartRows(1, big.sizes()[0] / parts, height, width), channels);
    const int device = big.device_index();
    must_be_null(deconv_down_stats_cuda(args, int(parts), static_cast<float*>(partial.mutable_data()), device,
                                        current_cuda_stream(device)));
    stack[0] = small.release(), stack[1] = partial.release();
}

// partial, running_mean, running_var, images, height, width, phases, momentum, eps -> mean, rstd
void batch_stats_finish_on_cuda(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor partial = take_tensor(stack[0]);
    const std::optional<Tensor> running_mean = take_optional_tensor(stack[1]),
                                running_var = take_optional_tensor(stack[2]);
    const int64_t images = value_of<int64_t>(stack[3]), height = value_of<int64_t>(stack[4]),
                  width = value_of<int64_t>(stack[5]);
    const int64_t phases = value_of<int64_t>(stack[6]);
    check(phases == 1 || phases == 4,
          "fastgan::batch_stats: phases must be 4 (of deconv_up_stats) or 1 (of deconv_down_stats)");
    check(images > 0 && height > 0 && width > 0 && images * height * width > 1,
          "fastgan::batch_stats: of one value there is no variance");
    const PartRows rows(int(phases), images, height, width);
    const bool fits = partial.dtype() == aoti_torch_dtype_float32() && partial.dim() == 4 &&
                      partial.sizes()[1] == rows.blocks() && partial.sizes()[3] == 2 && is_dense(partial) &&
                      partial.strides()[3] == 1;
    check(fits && partial.strides()[2] == 2 && partial.strides()[1] == 2 * partial.sizes()[2],
          "fastgan::batch_stats: partial must be float32 [parts, blocks, C, 2] as the deconvolution gave it");
    check(!running_mean == !running_var,
          "fastgan::batch_stats: running_mean and running_var must be given both, or neither");
    const int64_t parts = partial.sizes()[0], channels = partial.sizes()[2];
    Tensor mean = empty(partial, {parts, channels}, aoti_torch_dtype_float32()), rstd = mean.empty_like();
    const BatchStatsArgs args{static_cast<const float*>(partial.data()),
                              static_cast<float*>(mean.mutable_data()),
                              static_cast<float*>(rstd.mutable_data()),
                              data_of(running_mean, partial),
                              data_of(running_var, partial),
                              rows,
                              int(parts),
                              channels,
                              float(value_of<double>(stack[7])),
                              float(value_of<double>(stack[8]))};
    const int device = partial.device_index();
    must_be_null(batch_stats_cuda(args, device, current_cuda_stream(device)));
    stack[0] = mean.release(), stack[1] = rstd.release();
}

}  // namespace fastgan
