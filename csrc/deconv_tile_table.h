// Tiles that were measured to be faster than the default, by kind of product. Plain C++; the C functions are what
// fastgan/ops/dispatch/tiles.py calls.
#pragma once
#include <vector>

#include "deconv_plan.h"

namespace fastgan {

// The tile that the table has for this kind, else the default.
Tile chosen_tile(const ProductKind&, int multiprocessors);

// What is worth timing, the default first: every tile, k split by powers of two and so that the device is filled once
// and twice, each another plan.
std::vector<Tile> tiles_to_try(const ProductKind&, int multiprocessors);

}  // namespace fastgan

// A kind as six numbers (direction, way, dtype, m, n, k_tiles), a tile as three (m, n, splits), a shape as seven in the
// order of DeconvShape.
extern "C" {
// Writes the kind of a call whose tensors are aligned to 16 bytes.
void fastgan_deconv_kind(int direction, int dtype, const int64_t shape[7], int64_t kind[6]);
// Writes the first `capacity` of the tiles that are worth timing, and returns how many there are.
int fastgan_deconv_tiles(const int64_t kind[6], int multiprocessors, int64_t (*tiles)[3], int capacity);
// Writes the tile that a call of this kind runs with.
void fastgan_deconv_tile(const int64_t kind[6], int multiprocessors, int64_t tile[3]);
// From now on calls of this kind run with this tile. Null, or why they cannot: then nothing changes.
const char* fastgan_deconv_set_tile(const int64_t kind[6], const int64_t tile[3]);
// From now on every call runs with the default.
void fastgan_deconv_forget_tiles();
}
