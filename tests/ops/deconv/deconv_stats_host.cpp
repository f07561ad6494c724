// Runs the CUDA sources that sum up what a deconvolution writes on the CPU (cuda_on_host.h), and compares the sums with
// those of the very numbers that were written, in double. One argument: the group of checks. Exit status 0: all hold.
#include "deconv_on_host.h"
// The sources themselves, behind their stand-in for CUDA.
#include "../../../csrc/batch_stats_cuda.cu"
#include "../../../csrc/deconv_cuda_stats.cu"
#include "../../../csrc/deconv_tile_table.cpp"

#include <set>

namespace fastgan {
namespace {

constexpr double kTolerance = 2e-6;  // of float32 sums of at most some thousand numbers

struct Run {
    DeconvShape shape;
    int parts;
    Tile tile;
};

// Weights of several digits, so that the results are not exact in 16 bits: what is summed must be what was written.
template <class T> struct Weight : Tensor<T> {
    Weight(int64_t size, std::mt19937* random) : Tensor<T>(size, random) {
        for (int64_t i = 0; i < size; ++i) this->data()[i] = T(float(this->values[i] *= 37));
    }
};

bool is_close(double ours, double truth, double scale) {
    return std::fabs(ours - truth) <= kTolerance * scale;
}  // false for a NaN

struct Truth {
    double count = 0, sum = 0, squares = 0, m2 = 0;
    void add(double v) { ++count, sum += v, squares += v * v; }
    double mean() const { return sum / count; }
};

// Blocks of 64 rows of a part and a phase; offset_of(phase, row): of channel 0 in `image`.
template <class T, class OffsetOf> void check_blocks(const Run& run, const PartRows& rows, const Tensor<T>& image,
                                                     int64_t channels, const float* partial,
                                                     const OffsetOf& offset_of) {
    for (int part = 0; part < run.parts; ++part) {
        for (int64_t block = 0; block < rows.blocks(); ++block) {
            const int phase = int(block / rows.blocks_a_phase());
            const int64_t first = block % rows.blocks_a_phase() * kBlockRows,
                          end = std::min(first + kBlockRows, rows.rows[phase]);
            for (int64_t channel = 0; channel < channels; ++channel) {
                const float* const ours = partial + ((part * rows.blocks() + block) * channels + channel) * 2;
                Truth truth;
                auto each = [&](const auto& visit) {
                    for (int64_t row = first; row < end; ++row)
                        visit(double(float(image.data()[offset_of(phase, part * rows.rows[phase] + row) + channel])));
                };
                each([&](double v) { truth.add(v); });
                if (truth.count) each([&](double v) { truth.m2 += (v - truth.mean()) * (v - truth.mean()); });
                const bool holds = truth.count
                                       ? is_close(ours[0], truth.mean(), std::sqrt(truth.squares / truth.count)) &&
                                             is_close(ours[1], truth.m2, truth.squares)
                                       : ours[0] != ours[0] && ours[1] != ours[1];  // poison: nothing was written
                expect(holds,
                       "%s, %d parts, tile %dx%d: part %d, block %ld, channel %ld has %g, %g, not %g, %g of %g rows",
                       name_of(run.shape).c_str(), run.parts, run.tile.m, run.tile.n, part, long(block), long(channel),
                       double(ours[0]), double(ours[1]), truth.count ? truth.mean() : 0.0, truth.m2, truth.count);
            }
        }
    }
}

// Mean, 1 / sqrt(variance + eps) and the running statistics, from the image itself.
template <class T> void check_finish(const Run& run, const PartRows& rows, const Tensor<T>& image, int64_t channels,
                                     const float* partial, bool is_running) {
    constexpr float kMomentum = 0.25f, kEps = 1e-3f;
    const cuda_on_host::Memory mean(run.parts * channels * sizeof(float)), rstd(run.parts * channels * sizeof(float));
    const cuda_on_host::Memory running_mean(channels * sizeof(float)), running_var(channels * sizeof(float));
    auto floats = [](const cuda_on_host::Memory& memory) { return reinterpret_cast<float*>(memory.begin()); };
    for (int64_t c = 0; c < channels; ++c)
        floats(running_mean)[c] = float(c) / 8, floats(running_var)[c] = 1.0f + float(c);
    const BatchStatsArgs args{partial,
                              floats(mean),
                              floats(rstd),
                              is_running ? floats(running_mean) : nullptr,
                              is_running ? floats(running_var) : nullptr,
                              rows,
                              run.parts,
                              channels,
                              kMomentum,
                              kEps};
    const char* const problem = batch_stats_cuda(args, 0, nullptr);
    expect(!problem, "%s", problem ? problem : "");
    const size_t numel = image.values.size() / run.parts;
    for (int64_t c = 0; c < channels; ++c) {
        double wanted_mean = double(c) / 8, wanted_var = 1.0 + double(c);
        for (int part = 0; part < run.parts; ++part) {
            Truth truth;
            for (size_t i = part * numel + c; i < (part + 1) * numel; i += channels) truth.add(float(image.data()[i]));
            for (size_t i = part * numel + c; i < (part + 1) * numel; i += channels)
                truth.m2 += std::pow(float(image.data()[i]) - truth.mean(), 2);
            if (is_running)
                wanted_mean += kMomentum * (truth.mean() - wanted_mean),
                    wanted_var += kMomentum * (truth.m2 / (truth.count - 1) - wanted_var);
            const double wanted = 1 / std::sqrt(truth.m2 / truth.count + kEps),
                         size = std::sqrt(truth.squares / truth.count);
            const bool holds = is_close(floats(mean)[part * channels + c], truth.mean(), size) &&
                               is_close(floats(rstd)[part * channels + c], wanted, 4 * wanted);
            expect(holds, "%s, %d parts: mean and rstd of part %d, channel %ld are %g, %g, not %g, %g",
                   name_of(run.shape).c_str(), run.parts, part, long(c), double(floats(mean)[part * channels + c]),
                   double(floats(rstd)[part * channels + c]), truth.mean(), wanted);
        }
        const bool holds = is_close(floats(running_mean)[c], wanted_mean, 4 + std::fabs(wanted_mean)) &&
                           is_close(floats(running_var)[c], wanted_var, 4 * wanted_var);
        expect(holds, "%s, %d parts: the running statistics of channel %ld are %g, %g, not %g, %g",
               name_of(run.shape).c_str(), run.parts, long(c), double(floats(running_mean)[c]),
               double(floats(running_var)[c]), wanted_mean, wanted_var);
    }
    expect(mean.is_intact() && rstd.is_intact() && running_mean.is_intact() && running_var.is_intact(), "%s",
           "a write beside the statistics");
}

template <class T> void check_image(const Run& run, const Tensor<T>& image, const std::vector<int64_t>& expected) {
    size_t wrong = 0;
    for (size_t i = 0; i < expected.size(); ++i) wrong += float(image.data()[i]) != float(T(float(expected[i])));
    expect(!wrong, "%s, %d parts, tile %dx%d: %zu elements are wrong", name_of(run.shape).c_str(), run.parts,
           run.tile.m, run.tile.n, wrong);
    expect(image.memory.is_intact(), "%s", "a write beside the image");
}

// Runs with the tile of the run; `launch` writes the image.
template <class T, class Index, class Launch> void check_run(const Run& run, Direction direction, const PartRows& rows,
                                                             const Tensor<T>& image, int64_t channels,
                                                             const Launch& launch) {
    const ProductKind kind = kind_of(direction, run.shape, kDtype<T>, true);
    const int64_t key[6] = {
        int64_t(kind.direction), int64_t(kind.way), int64_t(kind.dtype), kind.m, kind.n, kind.k_tiles};
    const int64_t tile[3] = {run.tile.m, run.tile.n, 1};
    expect(!fastgan_deconv_set_tile(key, tile), "%s", "there is no such tile");
    const cuda_on_host::Memory partial(run.parts * rows.blocks() * channels * 2 * sizeof(float));
    const char* const problem = launch(reinterpret_cast<float*>(partial.begin()));
    expect(!problem && partial.is_intact(), "%s: %s", name_of(run.shape).c_str(),
           problem ? problem : "a write beside the moments");
    const Index index(run.shape);
    const auto* const moments = reinterpret_cast<const float*>(partial.begin());
    check_blocks(run, rows, image, channels, moments,
                 [&](int phase, int64_t row) { return index.c_offset(phase, uint32_t(row)); });
    check_finish(run, rows, image, channels, moments, run.tile.m == 128);
    fastgan_deconv_forget_tiles();
}

template <class T> void up(const Run& run) {
    const Sizes sizes(run.shape);
    std::mt19937 random(1);
    const Tensor<T> small(sizes.small, &random), big(sizes.big, nullptr);
    const Weight<T> weight(sizes.weight, &random);
    std::vector<int64_t> expected(sizes.big);
    for_every_product(run.shape,
                      [&](int64_t s, int64_t b, int64_t w) { expected[b] += small.values[s] * weight.values[w]; });
    const DeconvUpArgs args{small.data(), weight.data(), nullptr,          big.data(),
                            kDtype<T>,    run.shape,     Epilogue::linear, 0.0};
    const PartRows rows(4, run.shape.batch / run.parts, run.shape.big_height, run.shape.big_width);
    check_run<T, UpIndex>(run, Direction::up, rows, big, run.shape.big_channels,
                          [&](float* partial) { return deconv_up_stats_cuda(args, run.parts, partial, 0, nullptr); });
    check_image(run, big, expected);
}

template <class T> void down(const Run& run) {
    const Sizes sizes(run.shape);
    std::mt19937 random(2);
    const Tensor<T> big(sizes.big, &random), small(sizes.small, nullptr);
    const Weight<T> weight(sizes.weight, &random);
    std::vector<int64_t> expected(sizes.small);
    for_every_product(run.shape,
                      [&](int64_t s, int64_t b, int64_t w) { expected[s] += big.values[b] * weight.values[w]; });
    const DeconvDownArgs args{big.data(), weight.data(), nullptr,          small.data(),
                              kDtype<T>,  run.shape,     Epilogue::linear, 0.0};
    const PartRows rows(1, run.shape.batch / run.parts, run.shape.small_height, run.shape.small_width);
    check_run<T, DownIndex>(run, Direction::down, rows, small, run.shape.small_channels, [&](float* partial) {
        return deconv_down_stats_cuda(args, run.parts, partial, 0, nullptr);
    });
    check_image(run, small, expected);
}

template <class Function> void over(const std::vector<std::pair<DeconvShape, int>>& shapes, const Function& function) {
    std::mt19937 random(3);
    for (const auto& [shape, parts] : shapes) {
        for (const Tile& tile : {Tile{128, 128, 1}, Tile{128, 64, 1}, Tile{64, 64, 1}}) {
            std::shuffle(cuda_on_host::order.begin(), cuda_on_host::order.end(), random);
            function(Run{shape, parts, tile});
        }
    }
}

// Parts that end within a tile and within a block, phases that are not equally large, tiles whose second half has no
// rows, columns beyond the last.
void ups() {
    over({{{6, 8, 40, 3, 5, 7, 11}, 2}}, [](const Run& run) { up<__nv_bfloat16>(run); });
}
void downs() {
    over({{{6, 40, 8, 5, 7, 11, 14}, 2}}, [](const Run& run) { down<__nv_bfloat16>(run); });
}
void more() {
    over({{{6, 32, 40, 3, 5, 7, 11}, 2}, {{5, 16, 72, 5, 4, 10, 8}, 1}, {{4, 8, 136, 1, 1, 3, 2}, 4}},
         [](const Run& run) { up<__nv_bfloat16>(run); });
    over({{{6, 40, 32, 5, 7, 11, 14}, 2}, {{3, 72, 8, 7, 8, 15, 17}, 1}, {{4, 136, 8, 1, 2, 2, 5}, 2}},
         [](const Run& run) { down<__nv_bfloat16>(run); });
    over({{{6, 32, 8, 4, 6, 9, 13}, 3}, {{9, 8, 8, 8, 8, 16, 16}, 1}}, [](const Run& run) { up<__half>(run); });
    over({{{6, 8, 24, 6, 9, 12, 18}, 3}, {{9, 8, 8, 8, 8, 16, 16}, 1}}, [](const Run& run) { down<__half>(run); });
}

// The same numbers in every order of the warps and by every call give the same bits, and the choice of the tile does
// not change their rounding much.
void same_bits() {
    const DeconvShape shape{4, 16, 40, 5, 6, 11, 12};
    const Sizes sizes(shape);
    std::mt19937 random(4);
    const Tensor<__nv_bfloat16> small(sizes.small, &random), weight(sizes.weight, &random), big(sizes.big, nullptr);
    const DeconvUpArgs args{small.data(),    weight.data(), nullptr,          big.data(),
                            Dtype::bfloat16, shape,         Epilogue::linear, 0.0};
    const PartRows rows(4, 2, 11, 12);
    const size_t bytes = 2 * rows.blocks() * 40 * 2 * sizeof(float);
    const cuda_on_host::Memory first(bytes), second(bytes);
    for (const auto* memory : {&first, &second}) {
        expect(!deconv_up_stats_cuda(args, 2, reinterpret_cast<float*>(memory->begin()), 0, nullptr), "%s",
               "it was not launched");
        std::shuffle(cuda_on_host::order.begin(), cuda_on_host::order.end(), random);
    }
    expect(!std::memcmp(first.begin(), second.begin(), bytes), "%s", "equal inputs gave other bits");
}

// A mean of a thousand beside deviations of one: the sum of squares minus the square of the sum would have nothing left
// of them.
void far_from_zero() {
    constexpr int64_t kRows = 64 * 200 + 7, kChannels = 12;
    const PartRows rows(1, 1, 1, kRows);
    const Tensor<float> image(kRows * kChannels, nullptr);
    const cuda_on_host::Memory partial(rows.blocks() * kChannels * 2 * sizeof(float));
    std::mt19937 random(5);
    std::normal_distribution<float> normal(1000.0f, 1.0f);
    for (int64_t i = 0; i < kRows * kChannels; ++i) image.data()[i] = normal(random);
    auto* const moments = reinterpret_cast<float*>(partial.begin());
    for (int64_t block = 0; block < rows.blocks(); ++block) {
        for (int64_t c = 0; c < kChannels; ++c) {
            Truth truth;
            const int64_t first = block * kBlockRows, end = std::min(first + kBlockRows, kRows);
            for (int64_t row = first; row < end; ++row) truth.add(image.data()[row * kChannels + c]);
            for (int64_t row = first; row < end; ++row)
                truth.m2 += std::pow(image.data()[row * kChannels + c] - truth.mean(), 2);
            moments[(block * kChannels + c) * 2] = float(truth.mean()),
                                              moments[(block * kChannels + c) * 2 + 1] = float(truth.m2);
        }
    }
    check_finish(Run{{1, 0, 0, 0, 0, 0, 0}, 1, {128, 64, 1}}, rows, image, kChannels, moments, true);
}

void refusals() {
    const DeconvShape shape{3, 16, 8, 2, 2, 4, 4};
    const Sizes sizes(shape);
    std::mt19937 random(6);
    const Tensor<__half> small(sizes.small, &random), weight(sizes.weight, &random), big(sizes.big, nullptr);
    const DeconvUpArgs right{small.data(),   weight.data(), nullptr,          big.data(),
                             Dtype::float16, shape,         Epilogue::linear, 0.0};
    auto is_refused = [&](int parts, auto&& change) {
        DeconvUpArgs args = right;
        change(args);
        return deconv_up_stats_cuda(args, parts, nullptr, 0, nullptr) != nullptr;
    };
    auto nothing = [](DeconvUpArgs&) {};
    expect(is_refused(2, nothing) && is_refused(0, nothing) && is_refused(-1, nothing), "%s",
           "parts of a batch that is no multiple were not refused");
    expect(is_refused(1, [](DeconvUpArgs& args) { args.dtype = Dtype::float32; }), "%s", "float32 was not refused");
    expect(is_refused(1, [](DeconvUpArgs& args) { args.shape.big_channels = 3; }), "%s",
           "three channels were not refused");
    expect(is_refused(1, [&](DeconvUpArgs& args) { args.bias = small.data(); }), "%s", "a bias was not refused");
    expect(is_refused(1, [](DeconvUpArgs& args) { args.epilogue = Epilogue::relu; }), "%s",
           "an activation was not refused");
    expect(is_refused(1, [&](DeconvUpArgs& args) { args.small = static_cast<const char*>(args.small) + 2; }), "%s",
           "memory off the vectors was not refused");
    expect(big.memory.is_intact(), "%s", "a write beside the image");
}

}  // namespace
}  // namespace fastgan

int main(int, char** arguments) {
    using namespace fastgan;
    const std::string group = arguments[1];
    if (group == "up")
        ups();
    else if (group == "down")
        downs();
    else if (group == "more")
        more();
    else if (group == "same_bits")
        same_bits();
    else if (group == "far_from_zero")
        far_from_zero();
    else if (group == "refusals")
        refusals();
    else
        expect(false, "there is no group %s", group.c_str());
    return problems ? 1 : 0;
}
