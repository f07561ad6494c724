// Runs the CUDA sources of the deconvolutions on the CPU (cuda_on_host.h) and compares them with the trilinear form that csrc/deconv.h defines.
// All numbers are small integers, so every result is known exactly. One argument: the group of checks. Exit status 0: all hold.
#include "deconv_on_host.h"
// The sources themselves, behind their stand-in for CUDA.
#include "../../../csrc/deconv_cuda_down.cu"
#include "../../../csrc/deconv_cuda_partials.cu"
#include "../../../csrc/deconv_cuda_up.cu"
#include "../../../csrc/deconv_cuda_weight.cu"
#include "../../../csrc/deconv_tile_table.cpp"

#include <set>

namespace fastgan {
namespace {

// ---- The three ops behind one face: `sum[out] += one * other` over all products, and the call.

struct Run {
    DeconvShape shape;
    Epilogue epilogue;
    bool biased;
    Tile tile{0, 0, 0};  // zeros: as the plan has it
};

std::set<std::string> kernels;  // that ran: way, tile, whether k was split

void note(const Plan& plan) {
    const char* const ways[] = {"tensor_cores", "gathered", "few_channels", "scalar"};
    const bool tiled = plan.way == Way::tensor_cores || plan.way == Way::gathered;
    const std::string tile = " " + std::to_string(plan.tile_m) + "x" + std::to_string(plan.tile_n);
    kernels.insert(ways[int(plan.way)] + (tiled ? tile : "") +
                   (plan.splits == 1 ? "" : threads_an_element(plan.splits) == 1 ? " split" : " split many times"));
}

template <class T, class Call>
void check(const char* op, const Run& run, int64_t channels, const std::vector<int64_t>& expected, const Tensor<T>& out, const Call& call) {
    std::mt19937 random(7);
    const Tensor<T> bias(channels, &random);
    const char* const problem = call(run.biased ? bias.data() : nullptr);
    expect(!problem, "%s %s: %s", op, name_of(run.shape).c_str(), problem ? problem : "");
    const Activated activated{run.epilogue, 0.25f};
    auto wanted = [&](size_t i) { return float(T(activated(float(expected[i] + (run.biased ? bias.values[i % channels] : 0))))); };
    size_t wrong = 0, first = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
        if (float(out.data()[i]) != wanted(i) && !wrong++) first = i;
    }
    if (wrong) {
        expect(false, "%s %s(epilogue %d, bias %d): %zu of %zu elements are wrong, the first at %zu: %g, not %g", op, name_of(run.shape).c_str(),
               int(run.epilogue), int(run.biased), wrong, expected.size(), first, double(float(out.data()[first])), double(wanted(first)));
    }
    expect(out.memory.is_intact() && bias.memory.is_intact(), "%s %s: a write beside the tensor", op, name_of(run.shape).c_str());
}

template <class Args>
const char* launched(const Run& run, Direction direction, const Args& args, Plan (*plan_of_args)(const Args&, int),
                     const char* (*launch)(const Args&, const Plan&, float*, int, void*)) {
    const ProductKind kind = kind_of(direction, run.shape, args.dtype, true);
    const Plan plan = run.tile.m ? plan_of(kind, run.tile, numel_of(direction, run.shape)) : plan_of_args(args, 0);
    note(plan);
    const cuda_on_host::Memory memory(plan.workspace * sizeof(float));
    const char* const problem = launch(args, plan, reinterpret_cast<float*>(memory.begin()), 0, nullptr);
    expect(memory.is_intact(), "%s", "a write beside the workspace");
    return problem;
}

template <class T> void up(const Run& run) {
    const Sizes sizes(run.shape);
    std::mt19937 random(1);
    const Tensor<T> small(sizes.small, &random), weight(sizes.weight, &random), big(sizes.big, nullptr);
    std::vector<int64_t> expected(sizes.big);
    for_every_product(run.shape, [&](int64_t s, int64_t b, int64_t w) { expected[b] += small.values[s] * weight.values[w]; });
    check("up", run, run.shape.big_channels, expected, big, [&](const T* bias) {
        const DeconvUpArgs args{small.data(), weight.data(), bias, big.data(), kDtype<T>, run.shape, run.epilogue, 0.25};
        return launched(run, Direction::up, args, deconv_up_cuda_plan, deconv_up_cuda);
    });
}

template <class T> void down(const Run& run) {
    const Sizes sizes(run.shape);
    std::mt19937 random(2);
    const Tensor<T> big(sizes.big, &random), weight(sizes.weight, &random), small(sizes.small, nullptr);
    std::vector<int64_t> expected(sizes.small);
    for_every_product(run.shape, [&](int64_t s, int64_t b, int64_t w) { expected[s] += big.values[b] * weight.values[w]; });
    check("down", run, run.shape.small_channels, expected, small, [&](const T* bias) {
        const DeconvDownArgs args{big.data(), weight.data(), bias, small.data(), kDtype<T>, run.shape, run.epilogue, 0.25};
        return launched(run, Direction::down, args, deconv_down_cuda_plan, deconv_down_cuda);
    });
}

template <class T> void weight(const Run& run) {
    const Sizes sizes(run.shape);
    std::mt19937 random(3);
    const Tensor<T> small(sizes.small, &random), big(sizes.big, &random), weight(sizes.weight, nullptr);
    std::vector<int64_t> expected(sizes.weight);
    for_every_product(run.shape, [&](int64_t s, int64_t b, int64_t w) { expected[w] += small.values[s] * big.values[b]; });
    check("weight", {run.shape, Epilogue::linear, false, run.tile}, 1, expected, weight, [&](const T*) {
        const DeconvWeightArgs args{small.data(), big.data(), weight.data(), kDtype<T>, run.shape};
        return launched(run, Direction::weight, args, deconv_weight_cuda_plan, deconv_weight_cuda);
    });
}

// Every shape with another epilogue, dtype, number of multiprocessors (hence tile and split) and order of the warps.
template <class Function> void over(const std::vector<DeconvShape>& shapes, const std::vector<int>& multiprocessors, const Function& function) {
    const std::vector<std::vector<int>> orders{{0, 1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {2, 7, 0, 3, 5, 1, 6, 4}};
    int i = 0;
    for (const DeconvShape& shape : shapes) {
        for (int count : multiprocessors) {
            cuda_on_host::multiprocessors = count;
            cuda_on_host::order = orders[i % orders.size()];
            function(Run{shape, Epilogue(i % 4), i % 3 != 1}, i % 2);
            ++i;
        }
    }
}

void expect_kernels(const std::set<std::string>& wanted) {
    for (const std::string& kernel : wanted) expect(kernels.count(kernel), "no shape of this group took the kernel %s", kernel.c_str());
    for (const std::string& kernel : kernels) expect(wanted.count(kernel), "a shape of this group took the kernel %s", kernel.c_str());
}

// ---- The groups. Shapes are batch, small channels, big channels, h, w, H, W.

const std::vector<DeconvShape> kVectorShapes{
    {1, 8, 8, 1, 1, 2, 2},     {1, 8, 16, 1, 1, 3, 3},    {2, 16, 24, 3, 5, 7, 10},    {3, 40, 8, 2, 3, 5, 7},
    {1, 72, 136, 5, 4, 10, 9}, {5, 136, 40, 3, 1, 6, 3}, {3, 96, 128, 4, 6, 8, 12},
};

void tensor_cores_up() {
    over(kVectorShapes, {1, 132}, [](const Run& run, bool half) { half ? up<__half>(run) : up<__nv_bfloat16>(run); });
    over({{33, 32, 64, 8, 2, 17, 4}}, {4}, [](const Run& run, bool) { up<__nv_bfloat16>(run); });
    expect_kernels({"tensor_cores 128x128", "tensor_cores 128x64", "tensor_cores 64x64", "tensor_cores 64x64 split"});
}
void tensor_cores_down() {
    over(kVectorShapes, {1, 132}, [](const Run& run, bool half) { half ? down<__half>(run) : down<__nv_bfloat16>(run); });
    over({{9, 128, 8, 8, 2, 17, 4}}, {1}, [](const Run& run, bool) { down<__nv_bfloat16>(run); });
    over({{9, 64, 8, 8, 2, 17, 4}}, {1}, [](const Run& run, bool) { down<__half>(run); });
    over({{3, 96, 64, 4, 6, 8, 12}}, {8}, [](const Run& run, bool) { down<__half>(run); });
    expect_kernels({"tensor_cores 128x128", "tensor_cores 128x64", "tensor_cores 128x64 split", "tensor_cores 64x64", "tensor_cores 64x64 split"});
}
void tensor_cores_weight() {
    over(kVectorShapes, {1, 132}, [](const Run& run, bool half) { half ? weight<__half>(run) : weight<__nv_bfloat16>(run); });
    over({{33, 8, 8, 8, 8, 17, 16}}, {8}, [](const Run& run, bool) { weight<__nv_bfloat16>(run); });
    over({{72, 8, 8, 8, 8, 16, 16}}, {132}, [](const Run& run, bool) { weight<__half>(run); });
    over({{2, 80, 8, 5, 7, 10, 15}}, {2}, [](const Run& run, bool) { weight<__half>(run); });
    expect_kernels({"tensor_cores 128x128", "tensor_cores 128x64", "tensor_cores 64x64", "tensor_cores 64x64 split",
                    "tensor_cores 64x64 split many times"});
}
const std::vector<DeconvShape> kFewBigChannels{
    {1, 8, 3, 1, 1, 2, 2}, {2, 64, 3, 5, 4, 10, 9},   {3, 24, 1, 3, 7, 7, 14},
    {1, 72, 4, 4, 4, 9, 9}, {9, 40, 2, 6, 5, 12, 11}, {2, 32, 3, 9, 33, 18, 66},
};
void gathered() {
    const auto both = [](const Run& run, bool half) {
        half ? down<__half>(run) : down<__nv_bfloat16>(run);
        half ? weight<__half>(run) : weight<__nv_bfloat16>(run);
    };
    over(kFewBigChannels, {1, 132}, both);
    over({{3, 136, 13, 3, 4, 7, 8}, {2, 8, 36, 2, 2, 5, 4}}, {1, 132}, both);
    over({{33, 8, 3, 8, 8, 16, 16}}, {8}, both);
    expect_kernels({"gathered 128x64", "gathered 64x64", "gathered 64x64 split", "gathered 128x64 split"});
}
void few_channels() {
    over(kFewBigChannels, {1, 2, 132}, [](const Run& run, bool half) { half ? up<__half>(run) : up<__nv_bfloat16>(run); });
    expect_kernels({"few_channels"});
}
void scalar() {
    const std::vector<DeconvShape> shapes{
        {1, 1, 1, 1, 1, 2, 2},    {2, 3, 5, 2, 3, 5, 6},  {3, 5, 3, 4, 1, 8, 3},
        {1, 100, 12, 1, 2, 2, 5}, {2, 9, 70, 3, 3, 6, 6}, {2, 65, 3, 4, 5, 9, 10},
    };
    const auto all = [](const Run& run, bool half) {
        half ? up<__half>(run) : up<float>(run);
        half ? down<__nv_bfloat16>(run) : down<float>(run);
        half ? weight<__half>(run) : weight<float>(run);
    };
    over(shapes, {1, 132}, all);
    over({{2, 8, 8, 3, 3, 6, 7}, {1, 16, 3, 2, 2, 4, 4}, {33, 3, 1, 4, 4, 8, 8}}, {8}, [](const Run& run, bool) {
        up<float>(run), down<float>(run), weight<float>(run);
    });
    // Sums of nothing: no channels, no rows, no images.
    over({{2, 0, 8, 2, 2, 4, 4}, {2, 8, 8, 0, 1, 1, 2}}, {8}, [](const Run& run, bool half) { half ? up<__half>(run) : up<float>(run); });
    over({{2, 8, 0, 2, 2, 4, 4}}, {8}, [](const Run& run, bool) { down<__half>(run); });
    over({{0, 8, 8, 2, 2, 4, 4}, {0, 3, 1, 2, 2, 4, 4}}, {8}, [](const Run& run, bool half) { half ? weight<__half>(run) : weight<float>(run); });
    expect_kernels({"scalar", "scalar split"});
}

// Every tile that there is, whatever the plan would take: with the sum in one part, in three (the last may be shorter), in as many as there can be.
template <class T> void with_every_tile(Direction direction, const DeconvShape& shape, std::mt19937& random) {
    const ProductKind kind = kind_of(direction, shape, kDtype<T>, true);
    std::vector<Tile> tiles;
    for (int64_t rows = 1; kind.way == Way::few_channels && rows <= kind.n; ++rows) tiles.push_back({kFewWindows, int(rows), 1});
    for (Tile tile : kernel_tiles(kind)) {
        for (int64_t splits : std::set<int64_t>{1, 3, kind.k_tiles}) {
            tile.splits = int(splits);
            if (!problem_of(kind, tile)) tiles.push_back(tile);
        }
    }
    for (const Tile& tile : tiles) {
        std::shuffle(cuda_on_host::order.begin(), cuda_on_host::order.end(), random);
        const Run run{shape, Epilogue(random() % 4), random() % 2 == 0, tile};
        if (direction == Direction::up) up<T>(run);
        else if (direction == Direction::down) down<T>(run);
        else weight<T>(run);
    }
}
void every_tile() {
    const std::vector<DeconvShape> shapes{{2, 40, 24, 3, 5, 7, 11}, {5, 16, 8, 5, 6, 10, 13}, {2, 16, 3, 6, 5, 12, 11}};
    std::mt19937 random(13);
    for (size_t i = 0; i < shapes.size(); ++i) {
        for (Direction direction : {Direction::up, Direction::down, Direction::weight}) {
            if (i % 2) with_every_tile<__half>(direction, shapes[i], random);
            else with_every_tile<__nv_bfloat16>(direction, shapes[i], random);
        }
    }
    for (Direction direction : {Direction::up, Direction::down, Direction::weight}) with_every_tile<float>(direction, shapes[2], random);
    std::set<std::string> wanted{"few_channels", "scalar", "scalar split", "gathered 128x64", "gathered 128x64 split", "gathered 64x64",
                                 "gathered 64x64 split"};
    for (const char* const tile : {"tensor_cores 128x128", "tensor_cores 128x64", "tensor_cores 64x64"}) {
        for (const char* const split : {"", " split", " split many times"}) wanted.insert(std::string(tile) + split);
    }
    expect_kernels(wanted);
}

// What is offered for timing begins with the default, fits, and is another plan each; the table gives back what it was given, for that kind alone.
void tile_table() {
    for (int i = 0; i < 2000; ++i) {
        std::mt19937 random(i);
        auto pick = [&](int64_t low, int64_t high) { return low + int64_t(random() % uint32_t(high - low + 1)); };
        DeconvShape s{pick(1, 300), pick(1, 600), pick(1, 600), pick(1, 40), pick(1, 40), 0, 0};
        if (i % 2) s.small_channels = (s.small_channels + 7) / 8 * 8, s.big_channels = i % 4 == 1 ? 3 : (s.big_channels + 7) / 8 * 8;
        s.big_height = 2 * s.small_height + pick(0, 1), s.big_width = 2 * s.small_width + pick(0, 1);
        const Direction direction = Direction(i % 3);
        const ProductKind kind = kind_of(direction, s, i % 5 ? Dtype::bfloat16 : Dtype::float32, true);
        const int count = int(pick(1, 148));
        const std::vector<Tile> tiles = tiles_to_try(kind, count);
        std::set<std::vector<int64_t>> plans;
        for (const Tile& tile : tiles) {
            expect(!problem_of(kind, tile), "%dx%d, %d parts, is offered though it does not fit", tile.m, tile.n, tile.splits);
            const Plan plan = plan_of(kind, tile, numel_of(direction, s));
            plans.insert({plan.tile_m, plan.tile_n, plan.splits});
        }
        expect(plans.size() == tiles.size(), "%zu tiles are %zu plans", tiles.size(), plans.size());
        auto is_chosen = [&](const Tile& tile) {
            const Tile chosen = chosen_tile(kind, count);
            return chosen.m == tile.m && chosen.n == tile.n && plan_of(kind, chosen, 0).splits == plan_of(kind, tile, 0).splits;
        };
        expect(!tiles.empty() && is_chosen(tiles[0]), "%s: the default is not the first that is offered", name_of(s).c_str());
        const int64_t key[6] = {int64_t(kind.direction), int64_t(kind.way), int64_t(kind.dtype), kind.m, kind.n, kind.k_tiles};
        const int64_t last[3] = {tiles.back().m, tiles.back().n, tiles.back().splits}, wrong[3] = {last[0] + 1, last[1], last[2]};
        expect(!fastgan_deconv_set_tile(key, last) && is_chosen(tiles.back()), "%s: a tile was not kept", name_of(s).c_str());
        expect(fastgan_deconv_set_tile(key, wrong) && is_chosen(tiles.back()), "%s: a tile that there is not was taken", name_of(s).c_str());
        fastgan_deconv_forget_tiles();
        expect(is_chosen(tiles[0]), "%s: a tile was not forgotten", name_of(s).c_str());
    }
}

// The products of deconv_index.h as three nested loops, with no tile and no GPU in it.
using Integers = std::vector<int64_t>;
template <class Index>
void check_elements(const char* op, const DeconvShape& shape, const Index& index, const Integers& a, const Integers& b, const Integers& expected) {
    Integers c(expected.size()), written(expected.size());
    for (int phase = 0; phase < Index::kPhases; ++phase) {
        for (uint32_t m = 0; m < index.m(phase); ++m) {
            for (uint32_t n = 0; n < index.n; ++n) {
                int64_t sum = 0;
                for (uint32_t k = 0; k < index.k(); ++k) {
                    const int64_t i = index.a_offset(phase, m, k), j = index.b_offset(phase, k, n);
                    if (i >= 0 && j >= 0) sum += a.at(i) * b.at(j);
                }
                c.at(index.c_offset(phase, m) + n) = sum, ++written.at(index.c_offset(phase, m) + n);
            }
        }
    }
    expect(c == expected, "%s, element by element, is wrong for %s", op, name_of(shape).c_str());
    expect(written == Integers(expected.size(), 1), "%s does not write each element once for %s", op, name_of(shape).c_str());
}
void elements() {
    for (int i = 0; i < 200; ++i) {
        std::mt19937 random(i);
        auto pick = [&](int64_t low, int64_t high) { return low + int64_t(random() % uint32_t(high - low + 1)); };
        DeconvShape s{pick(1, 3), pick(1, 6), pick(1, 6), pick(1, 5), pick(1, 5), 0, 0};
        s.big_height = 2 * s.small_height + pick(0, 1), s.big_width = 2 * s.small_width + pick(0, 1);
        const Sizes sizes(s);
        const Tensor<float> small(sizes.small, &random), big(sizes.big, &random), weight(sizes.weight, &random);
        std::vector<int64_t> to_big(sizes.big), to_small(sizes.small), to_weight(sizes.weight);
        for_every_product(s, [&](int64_t at_small, int64_t at_big, int64_t at_weight) {
            to_big[at_big] += small.values[at_small] * weight.values[at_weight];
            to_small[at_small] += big.values[at_big] * weight.values[at_weight];
            to_weight[at_weight] += small.values[at_small] * big.values[at_big];
        });
        check_elements("up", s, UpIndex(s), small.values, weight.values, to_big);
        check_elements("down", s, DownIndex(s), big.values, weight.values, to_small);
        check_elements("weight", s, WeightIndex(s), small.values, big.values, to_weight);
    }
}

// Only the arithmetic, no memory.
void check_far_offsets(const DeconvShape& s) {
    std::mt19937_64 random(5);
    expect(fits_index(s), "the kernels do not take %s", name_of(s).c_str());
    const auto [N, C, K, h, w, H, W] = s;
    const UpIndex up_index(s);
    const DownIndex down_index(s);
    const WeightIndex weight_index(s);
    for (int i = 0; i < 100000; ++i) {
        const int64_t n = i % 2 ? N - 1 : int64_t(random() % N), y = i % 3 ? int64_t(random() % H) : H - 1, x = i % 5 ? int64_t(random() % W) : W - 1;
        const int64_t c = i % 7 ? int64_t(random() % C) : C - 1, k = i % 7 ? int64_t(random() % K) : K - 1;
        const int64_t big = ((n * H + y) * W + x) * K + k;
        // up: the big pixel's place in its phase, and the small pixel that its tap (ty, tx) sees
        const int64_t a = y % 2, b = x % 2, ty = i % 4 / 2, tx = i % 2, si = y / 2 + a - ty, sj = x / 2 + b - tx;
        const int phase = int(2 * a + b);
        const uint32_t m = uint32_t((n * ((H - a + 1) / 2) + y / 2) * ((W - b + 1) / 2) + x / 2);
        const bool seen = 0 <= si && si < h && 0 <= sj && sj < w;
        expect(up_index.c_offset(phase, m) + k == big, "up writes pixel %ld %ld %ld to the wrong place", long(n), long(y), long(x));
        const uint32_t up_k = uint32_t((2 * ty + tx) * C + c);
        const int64_t small = seen ? ((n * h + si) * w + sj) * C + c : -1, ky = y + 1 - 2 * si, kx = x + 1 - 2 * sj;
        expect(up_index.a_offset(phase, m, up_k) == small, "up reads the wrong small pixel for %ld", long(big));
        expect(up_index.b_offset(phase, up_k, uint32_t(k)) == ((c * 4 + ky) * 4 + kx) * K + k, "up reads the wrong weight for %ld", long(big));
        // down and weight: the same pair of pixels
        if (!seen) continue;
        const uint32_t pixel = uint32_t((n * h + si) * w + sj), element = uint32_t((ky * 4 + kx) * K + k);
        expect(down_index.a_offset(0, pixel, element) == big, "down reads the wrong big pixel instead of %ld", long(big));
        expect(down_index.c_offset(0, pixel) + c == small, "down writes to the wrong small pixel for %ld", long(big));
        expect(weight_index.b_offset(0, pixel, element) == big, "weight reads the wrong big pixel instead of %ld", long(big));
        expect(weight_index.a_offset(0, uint32_t(c), pixel) == small, "weight reads the wrong small pixel for %ld", long(big));
    }
}

// Nearly 2^31 pixels, with as many channels as make offsets pass 2^32 many times over: in many images, and in the step from row to row.
void far_offsets() {
    check_far_offsets({63, 1000, 2000, 2300, 2801, 4601, 5603});
    check_far_offsets({1, 260000, 250000, 2, 1 << 27, 5, (1 << 28) + 1});
    expect(!fits_index({64, 8, 8, 4096, 4096, 8192, 8192}), "%s", "2^32 pixels were not refused");
    expect(!fits_index({1, 8, 1 << 27, 1, 1, 2, 2}), "%s", "2^31 elements of a row of the weight were not refused");
}

void division() {
    std::mt19937 random(11);
    auto check = [](uint32_t n, uint32_t d) {
        const Divisor divisor(d);
        expect(divisor.quotient(n) == n / d && divisor.remainder(n) == n % d, "%u / %u is not %u", n, d, divisor.quotient(n));
    };
    constexpr uint32_t kMost = (1u << 31) - 1;
    for (uint32_t d = 1; d < 2000; ++d) {
        for (uint32_t n = 0; n < 3 * d; n += 1 + d / 7) check(n, d);
        for (uint32_t n : {kMost, kMost - 1, kMost / d * d, kMost / d * d - 1}) check(n, d);
    }
    for (int i = 0; i < 1000000; ++i) check(random() >> 1, std::max(1u, uint32_t(random()) >> (1 + i % 31)));
    for (int i = 0; i < 31; ++i) {
        for (uint32_t d : {(1u << i) - 1, 1u << i, (1u << i) + 1}) {
            for (uint32_t n : {0u, d - 1, d, kMost, kMost - d}) {
                if (d && n <= kMost) check(n, d);
            }
        }
    }
}

}  // namespace
}  // namespace fastgan

int main(int, char** arguments) {
    using namespace fastgan;
    const std::string group = arguments[1];
    if (group == "up") tensor_cores_up();
    else if (group == "down") tensor_cores_down();
    else if (group == "weight") tensor_cores_weight();
    else if (group == "gathered") gathered();
    else if (group == "few_channels") few_channels();
    else if (group == "scalar") scalar();
    else if (group == "every_tile") every_tile();
    else if (group == "tile_table") tile_table();
    else if (group == "elements") elements();
    else if (group == "far_offsets") far_offsets();
    else if (group == "division") division();
    else expect(false, "there is no group %s", group.c_str());
    return problems ? 1 : 0;
}
