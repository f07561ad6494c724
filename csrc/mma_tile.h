// Where a tile lies in shared memory, and which of its elements a lane of a warp holds. For the device and for the host.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace fastgan {

// A tile is rows of kChunks chunks of 16 bytes (8 elements of 16 bits). The chunks of a row are shuffled, so that the same chunk of
// eight rows one after another lies in eight different groups of four banks: ldmatrix reads them, and threads write them, in one go.
template <int kChunks> FASTGAN_BOTH int swizzled(int row, int chunk) {
    static_assert(kChunks == 4 || kChunks % 8 == 0, "a row is half of the 32 banks, or all of them some times over");
    return row * kChunks + (kChunks == 4 ? chunk ^ ((row >> 1) & 3) : chunk ^ (row & 7));
}

struct TilePlace {
    int row, chunk;
};

// Whose address each lane gives to ldmatrix.x4, for 16 rows of a tile by 2 chunks. The four 8 x 8 blocks arrive in four registers:
// `down first` counts blocks down the rows, then along the chunks; `along first` the other way.
// mma.m16n8k16 wants of A: (m, k) = (0, 0), (8, 0), (0, 8), (8, 8); of two neighbouring B: (k, n) = (0, 0), (8, 0), (0, 8), (8, 8).
// So a tile whose rows are m (for A) or k (for B) is read down first, and one whose rows are k (for A) or n (for B) along first.
// Where the rows are k, each block must be transposed on the way.
FASTGAN_BOTH TilePlace down_first(int lane, int row, int chunk) { return {row + (lane & 15), chunk + (lane >> 4)}; }
FASTGAN_BOTH TilePlace along_first(int lane, int row, int chunk) { return {row + (lane & 7) + (lane >> 4) * 8, chunk + ((lane >> 3) & 1)}; }

// Element `i` of the four sums that a lane holds of a 16 x 8 block of C.
FASTGAN_BOTH int sum_row(int lane, int i) { return (lane >> 2) + (i >> 1) * 8; }
FASTGAN_BOTH int sum_column(int lane, int i) { return (lane & 3) * 2 + (i & 1); }

}  // namespace fastgan
