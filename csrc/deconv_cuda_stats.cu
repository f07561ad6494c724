#include "deconv_launch.cuh"
#include "deconv_stats.cuh"

namespace fastgan {
namespace {

constexpr const char* kNoStats =
    "fastgan: sums in the epilogue of deconv are for float16 and bfloat16, channels in multiples of 8, aligned "
    "tensors, and a batch of whole parts";

// One part of the sum of k alone: what is written must be complete. Where the choice would split it there are few
// tiles, so the smallest.
Tile stats_tile(const ProductKind& kind, int device) {
    const Tile chosen = chosen_tile(kind, multiprocessors(device));
    return chosen.splits == 1 ? chosen : Tile{64, 64, 1};
}

template <class T, int kM, int kN, class Index>
cudaError_t launch_tile(const StatsProduct<Index>& p, dim3 grid, cudaStream_t stream) {
    return launch(stats_kernel<T, Index, kM, kN>, grid, kThreads, kGemmSharedBytes<kM, kN>, stream, p);
}
template <class T, class Index>
cudaError_t launch_tiles(const StatsProduct<Index>& p, const Tile& tile, dim3 grid, cudaStream_t stream) {
    if (tile.m == 64) return launch_tile<T, 64, 64>(p, grid, stream);
    if (tile.n == 64) return launch_tile<T, 128, 64>(p, grid, stream);
    return launch_tile<T, 128, 128>(p, grid, stream);
}

template <class Index, class Args> const char* run(Direction direction, const Args& args, const PartRows& rows,
                                                   int parts, float* partial, int device, void* stream,
                                                   bool is_aligned) {
    const ProductKind kind = kind_of(direction, args.shape, args.dtype, is_aligned);
    if (!has_stats(kind, args.shape, parts) || args.bias || args.epilogue != Epilogue::linear) return kNoStats;
    const DeviceGuard guard(device);
    const Tile tile = stats_tile(kind, device);
    const Plan plan = plan_of(kind, tile, 0);
    const auto tiles_a_part = uint32_t(ceil_div(rows.rows[0], tile.m));
    const StatsProduct<Index> product{product_of<Index>(args, plan, nullptr), reinterpret_cast<float2*>(partial),
                                      uint32_t(parts), tiles_a_part, uint32_t(rows.blocks_a_phase())};
    const dim3 grid(uint32_t(parts) * tiles_a_part, plan.n_tiles, uint32_t(plan.phases));
    const auto s = static_cast<cudaStream_t>(stream);
    return message_of(args.dtype == Dtype::float16 ? launch_tiles<__half>(product, tile, grid, s)
                                                   : launch_tiles<__nv_bfloat16>(product, tile, grid, s));
}

}  // namespace

const char* deconv_up_stats_cuda(const DeconvUpArgs& args, int parts, float* partial, int device, void* stream) {
    const PartRows rows(4, args.shape.batch / std::max(parts, 1), args.shape.big_height, args.shape.big_width);
    return run<UpIndex>(Direction::up, args, rows, parts, partial, device, stream,
                        aligned(args.small) && aligned(args.weight) && aligned(args.big));
}

const char* deconv_down_stats_cuda(const DeconvDownArgs& args, int parts, float* partial, int device, void* stream) {
    const PartRows rows(1, args.shape.batch / std::max(parts, 1), args.shape.small_height, args.shape.small_width);
    return run<DownIndex>(Direction::down, args, rows, parts, partial, device, stream,
                          aligned(args.small) && aligned(args.weight) && aligned(args.big));
}

}  // namespace fastgan
