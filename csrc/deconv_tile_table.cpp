#include "deconv_tile_table.h"

#include <array>
#include <map>
#include <mutex>
#include <optional>

namespace fastgan {
namespace {

using Key = std::array<int64_t, 6>;

std::mutex mutex;  // backward passes run in threads of their own
std::map<Key, Tile>& table() {
    static std::map<Key, Tile> tiles;
    return tiles;
}

Key key_of(const ProductKind& kind) {
    return {int64_t(kind.direction), int64_t(kind.way), int64_t(kind.dtype), kind.m, kind.n, kind.k_tiles};
}

// Nothing where the numbers name no kind: they may come from a file.
std::optional<ProductKind> kind_from(const int64_t kind[6]) {
    constexpr int64_t kMost = int64_t(1) << 31;
    const bool is_named = 0 <= kind[0] && kind[0] <= int64_t(Direction::weight) && 0 <= kind[1] &&
                          kind[1] <= int64_t(Way::scalar) && 0 <= kind[2] && kind[2] <= int64_t(Dtype::bfloat16);
    const bool is_sized = std::all_of(kind + 3, kind + 6, [](int64_t size) { return 0 < size && size < kMost; });
    if (!is_named || !is_sized) return std::nullopt;
    return ProductKind{Direction(kind[0]), Way(kind[1]), Dtype(kind[2]), kind[3], kind[4], kind[5]};
}

}  // namespace

Tile chosen_tile(const ProductKind& kind, int multiprocessors) {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = table().find(key_of(kind));
    return found == table().end() ? default_tile(kind, multiprocessors) : found->second;
}

std::vector<Tile> tiles_to_try(const ProductKind& kind, int multiprocessors) {
    constexpr int kShortestSplit = 4;  // tiles of k
    std::vector<Tile> tiles;
    auto add = [&](Tile tile) {
        if (tile.splits > 1) tile.splits = plan_of(kind, tile, 0).splits;  // others come to the same
        auto is_same = [&](const Tile& other) {
            return other.m == tile.m && other.n == tile.n && other.splits == tile.splits;
        };
        if (!problem_of(kind, tile) && std::none_of(tiles.begin(), tiles.end(), is_same)) tiles.push_back(tile);
    };
    add(default_tile(kind, multiprocessors));
    if (kind.way == Way::few_channels) {
        for (int rows : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}) add({kFewWindows, rows, 1});
        return tiles;
    }
    for (const Tile& tile : kernel_tiles(kind)) {
        const int64_t count = std::max<int64_t>(1, tiles_of(kind, tile)),
                      most = std::max<int64_t>(1, kind.k_tiles / kShortestSplit);
        std::vector<int64_t> splits{1, multiprocessors / count, 2 * multiprocessors / count};
        for (int64_t each = 2; each * count <= 4 * multiprocessors; each *= 2) splits.push_back(each);
        std::sort(splits.begin(), splits.end());
        for (int64_t each : splits) {
            if (1 <= each && each <= most) add({tile.m, tile.n, int(each)});
        }
    }
    return tiles;
}

}  // namespace fastgan

using namespace fastgan;

void fastgan_deconv_kind(int direction, int dtype, const int64_t shape[7], int64_t kind[6]) {
    const DeconvShape sizes{shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6]};
    const Key key = key_of(kind_of(Direction(direction), sizes, Dtype(dtype), true));
    std::copy(key.begin(), key.end(), kind);
}

int fastgan_deconv_tiles(const int64_t kind[6], int multiprocessors, int64_t (*tiles)[3], int capacity) {
    const std::optional<ProductKind> known = kind_from(kind);
    if (!known) return 0;
    const std::vector<Tile> found = tiles_to_try(*known, multiprocessors);
    for (int i = 0; i < std::min(capacity, int(found.size())); ++i)
        tiles[i][0] = found[i].m, tiles[i][1] = found[i].n, tiles[i][2] = found[i].splits;
    return int(found.size());
}

void fastgan_deconv_tile(const int64_t kind[6], int multiprocessors, int64_t tile[3]) {
    const std::optional<ProductKind> known = kind_from(kind);
    const Tile chosen = known ? chosen_tile(*known, multiprocessors) : Tile{0, 0, 0};
    tile[0] = chosen.m, tile[1] = chosen.n, tile[2] = chosen.splits;
}

const char* fastgan_deconv_set_tile(const int64_t kind[6], const int64_t tile[3]) {
    const std::optional<ProductKind> known = kind_from(kind);
    if (!known) return "there is no such kind of call";
    constexpr int64_t kMost = int64_t(1) << 30;
    if (std::any_of(tile, tile + 3, [](int64_t size) { return size < 1 || size > kMost; }))
        return "no kernel has this tile";
    const Tile chosen{int(tile[0]), int(tile[1]), int(tile[2])};
    if (const char* problem = problem_of(*known, chosen)) return problem;
    const std::lock_guard<std::mutex> lock(mutex);
    table()[key_of(*known)] = chosen;
    return nullptr;
}

void fastgan_deconv_forget_tiles() {
    const std::lock_guard<std::mutex> lock(mutex);
    table().clear();
}
