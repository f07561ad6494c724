// The index arithmetic of the three deconvolution ops as matrix products: C[m, n] = sum over k of A[m, k] * B[k, n].
//
//          m                       n                    k                      A                B                   C
// up       big pixel of a phase    big channel          (tap, small channel)   small            weight              big
// down     small pixel             small channel        (tap, big channel)     big              weight              small
// weight   small channel           (tap, big channel)   small pixel            small            big                 weight
//
// Written once, for the device and for the host: the kernels and the test that runs them without a GPU read the same lines.
// Pixels and columns are counted in 32 bits (fits_index), offsets into memory in 64.
#pragma once
#include <cstdint>

#include "deconv.h"
#include "host_device.h"

namespace fastgan {

// Divides numbers below 2^31 by one multiplication, for a divisor from 1 to 2^31: with 2^shift >= divisor > 2^(shift - 1), the
// quotient is n * (2^32 + multiplier) >> (32 + shift), and the sum below stays within 32 bits.
struct Divisor {
    uint32_t value = 1, multiplier = 1, shift = 0;

    Divisor() = default;
    explicit Divisor(int64_t divisor) : value(divisor > 0 ? uint32_t(divisor) : 1) {  // nothing is ever divided by the size of something empty
        while ((int64_t(1) << shift) < value) ++shift;
        multiplier = uint32_t((((uint64_t(1) << shift) - value) << 32) / value + 1);
    }
    FASTGAN_BOTH uint32_t quotient(uint32_t n) const { return (uint32_t((uint64_t(n) * multiplier) >> 32) + n) >> shift; }
    FASTGAN_BOTH uint32_t remainder(uint32_t n) const { return n - quotient(n) * value; }
};

struct Pixel {
    int32_t n, y, x;  // image, row, column
};

// The pixels of a batch of images of rows x cols, counted row by row.
struct PixelGrid {
    uint32_t count = 0;
    Divisor rows, cols;

    PixelGrid() = default;
    PixelGrid(int64_t batch, int64_t height, int64_t width) : count(uint32_t(batch * height * width)), rows(height), cols(width) {}
    FASTGAN_BOTH Pixel at(uint32_t index) const {
        const uint32_t row = cols.quotient(index), n = rows.quotient(row);
        return {int32_t(n), int32_t(row - n * rows.value), int32_t(index - row * cols.value)};
    }
};

// Whether every number that is counted in 32 bits fits, with room for the overhang of a last tile and for windows one pixel beyond the border;
// and the tiles of n fit the grid: at most 65535, of 64 columns at least.
inline bool fits_index(const DeconvShape& s) {
    constexpr int64_t kPixels = (int64_t(1) << 31) - 4096, kChannels = 65535 * 64 / 16;
    return s.batch * (s.big_height + 1) * (s.big_width + 1) < kPixels && s.small_channels <= kChannels && s.big_channels <= kChannels;
}

FASTGAN_BOTH bool within(int32_t position, int32_t size) { return 0 <= position && position < size; }

// The big pixels (2p + a, 2q + b) are phase 2a + b. They see the small rows p + a - ty for ty = 0, 1, through the weight's row
// ky = 1 - a + 2 ty; columns alike. So each phase is a product of its own, of four taps 2 ty + tx.
struct UpIndex {
    static constexpr int kPhases = 4, kTaps = 4;
    static constexpr bool kAContiguousInK = true, kBContiguousInK = false;

    int32_t h, w, H, W;
    uint32_t n, channels;  // n: of the big image; channels: of the small one, a tap
    Divisor by_channels;
    PixelGrid pixels[kPhases];  // (n, p, q)

    explicit UpIndex(const DeconvShape& s)
        : h(int32_t(s.small_height)), w(int32_t(s.small_width)), H(int32_t(s.big_height)), W(int32_t(s.big_width)), n(uint32_t(s.big_channels)),
          channels(uint32_t(s.small_channels)), by_channels(s.small_channels) {
        for (int phase = 0; phase < kPhases; ++phase) {
            pixels[phase] = PixelGrid(s.batch, (s.big_height - row_of(phase) + 1) / 2, (s.big_width - column_of(phase) + 1) / 2);
        }
    }
    FASTGAN_BOTH static int32_t row_of(int phase) { return phase >> 1; }
    FASTGAN_BOTH static int32_t column_of(int phase) { return phase & 1; }

    FASTGAN_BOTH uint32_t m(int phase) const { return pixels[phase].count; }
    FASTGAN_BOTH uint32_t k() const { return kTaps * channels; }
    FASTGAN_BOTH Pixel pixel(int phase, uint32_t row) const { return pixels[phase].at(row); }

    // Channel 0 of tap 0 for this pixel, and from there to another tap. The first may lie outside the image: ask `inside`.
    FASTGAN_BOTH int64_t origin(int phase, Pixel at) const {
        return ((int64_t(at.n) * h + at.y + row_of(phase)) * w + at.x + column_of(phase)) * int64_t(channels);
    }
    FASTGAN_BOTH int64_t step(int tap) const { return -((tap >> 1) * int64_t(w) + (tap & 1)) * int64_t(channels); }
    FASTGAN_BOTH bool inside(int phase, Pixel at, int tap) const {
        return within(at.y + row_of(phase) - (tap >> 1), h) && within(at.x + column_of(phase) - (tap & 1), w);
    }

    FASTGAN_BOTH static int weight_tap(int phase, int tap) {
        return (1 - row_of(phase) + 2 * (tap >> 1)) * 4 + 1 - column_of(phase) + 2 * (tap & 1);
    }
    FASTGAN_BOTH int64_t weight_row(int phase, int tap, uint32_t channel) const {
        return (int64_t(channel) * 16 + weight_tap(phase, tap)) * int64_t(n);
    }

    // Element by element: offsets into A and B (-1: zero), and of the first column of a row of C.
    FASTGAN_BOTH int64_t a_offset(int phase, uint32_t row, uint32_t k) const {
        const int tap = int(by_channels.quotient(k));
        const Pixel at = pixel(phase, row);
        return inside(phase, at, tap) ? origin(phase, at) + step(tap) + (k - tap * channels) : -1;
    }
    FASTGAN_BOTH int64_t b_offset(int phase, uint32_t k, uint32_t column) const {
        const int tap = int(by_channels.quotient(k));
        return weight_row(phase, tap, k - tap * channels) + column;
    }
    FASTGAN_BOTH int64_t c_offset(int phase, uint32_t row) const {
        const Pixel at = pixel(phase, row);
        return ((int64_t(at.n) * H + 2 * at.y + row_of(phase)) * W + 2 * at.x + column_of(phase)) * int64_t(n);
    }
};

// The 4 x 4 patch of the big image that belongs to a small pixel (i, j): rows from 2i - 1, columns from 2j - 1; tap 4 ky + kx.
struct Patch {
    static constexpr int kTaps = 16;

    int32_t H, W;
    uint32_t channels;  // of the big image
    Divisor by_channels;
    PixelGrid pixels;  // of the small image

    explicit Patch(const DeconvShape& s)
        : H(int32_t(s.big_height)), W(int32_t(s.big_width)), channels(uint32_t(s.big_channels)), by_channels(s.big_channels),
          pixels(s.batch, s.small_height, s.small_width) {}

    FASTGAN_BOTH int64_t origin(Pixel at) const { return ((int64_t(at.n) * H + 2 * at.y - 1) * W + 2 * at.x - 1) * int64_t(channels); }
    FASTGAN_BOTH int64_t step(int tap) const { return ((tap >> 2) * int64_t(W) + (tap & 3)) * int64_t(channels); }
    FASTGAN_BOTH bool inside(Pixel at, int tap) const { return within(2 * at.y - 1 + (tap >> 2), H) && within(2 * at.x - 1 + (tap & 3), W); }
    // Element `e` of the patch, (tap, channel) counted together; -1: zero.
    FASTGAN_BOTH int64_t offset(uint32_t small_pixel, uint32_t e) const {
        const int tap = int(by_channels.quotient(e));
        const Pixel at = pixels.at(small_pixel);
        return inside(at, tap) ? origin(at) + step(tap) + (e - tap * channels) : -1;
    }
};

struct DownIndex {
    static constexpr int kPhases = 1, kTaps = 16;
    static constexpr bool kAContiguousInK = true, kBContiguousInK = true;

    Patch patch;
    uint32_t n, channels;  // n: of the small image; channels: of the big one, a tap

    explicit DownIndex(const DeconvShape& s) : patch(s), n(uint32_t(s.small_channels)), channels(uint32_t(s.big_channels)) {}

    FASTGAN_BOTH uint32_t m(int) const { return patch.pixels.count; }
    FASTGAN_BOTH uint32_t k() const { return kTaps * channels; }
    FASTGAN_BOTH Pixel pixel(int, uint32_t row) const { return patch.pixels.at(row); }
    FASTGAN_BOTH int64_t origin(int, Pixel at) const { return patch.origin(at); }
    FASTGAN_BOTH int64_t step(int tap) const { return patch.step(tap); }
    FASTGAN_BOTH bool inside(int, Pixel at, int tap) const { return patch.inside(at, tap); }

    FASTGAN_BOTH int64_t a_offset(int, uint32_t row, uint32_t k) const { return patch.offset(row, k); }
    FASTGAN_BOTH int64_t b_offset(int, uint32_t k, uint32_t column) const { return int64_t(column) * this->k() + k; }
    FASTGAN_BOTH int64_t c_offset(int, uint32_t row) const { return int64_t(row) * n; }
};

struct WeightIndex {
    static constexpr int kPhases = 1;
    static constexpr bool kAContiguousInK = false, kBContiguousInK = false;

    Patch patch;
    uint32_t rows, n;  // the small channels; 16 times the big ones

    explicit WeightIndex(const DeconvShape& s) : patch(s), rows(uint32_t(s.small_channels)), n(uint32_t(16 * s.big_channels)) {}

    FASTGAN_BOTH uint32_t m(int) const { return rows; }
    FASTGAN_BOTH uint32_t k() const { return patch.pixels.count; }

    FASTGAN_BOTH int64_t a_offset(int, uint32_t row, uint32_t k) const { return int64_t(k) * rows + row; }
    FASTGAN_BOTH int64_t b_offset(int, uint32_t k, uint32_t column) const { return patch.offset(k, column); }
    FASTGAN_BOTH int64_t c_offset(int, uint32_t row) const { return int64_t(row) * n; }
};

}  // namespace fastgan
