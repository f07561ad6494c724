// As much of CUDA as the kernels of the deconvolutions use, on one thread of the CPU: their own source, compiled by g++ behind this header,
// runs without a GPU, and what a GPU would let pass is an error.
//
// - Every CUDA thread is a fiber. One runs until it must wait for others, and the warp that is first in `order` runs first: it gets as
//   far ahead as the barriers let it, which brings to light a barrier that is missing.
// - A copy in the background poisons its target when it is issued, and arrives only when its thread waits for it.
// - Shared memory and all else that nobody wrote is poison: NaN in every dtype. Memory ends where the tensor ends (see Memory).
// - ldmatrix must be free of bank conflicts. Fragments are laid out as the PTX manual has them, not as mma_tile.h does.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    uint32_t x, y, z;
    dim3(uint32_t x, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, gridDim{0, 0, 0};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }

namespace cuda_on_host {

[[noreturn]] inline void fail(const char* what) {
    std::printf("CUDA on the host: %s (block %u %u %u, thread %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x);
    std::exit(1);
}

// Bytes between two pages that may not be touched: one more, after the end (which a multiple of 16 bytes ends exactly at) or far before the
// beginning, stops the process. What of the pages is left over is poison, and must stay so.
class Memory {
  public:
    explicit Memory(size_t bytes) : bytes_(bytes), padded_((bytes + 15) / 16 * 16), pages_((padded_ + page() - 1) / page() * page()) {
        map_ = static_cast<char*>(mmap(nullptr, pages_ + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (map_ == MAP_FAILED || mprotect(map_ + page(), pages_, PROT_READ | PROT_WRITE)) fail("no memory");
        poison();
    }
    Memory(const Memory&) = delete;
    ~Memory() { munmap(map_, pages_ + 2 * page()); }

    char* begin() const { return map_ + page() + pages_ - padded_; }
    void poison() { std::memset(map_ + page(), 0xFF, pages_); }
    bool is_intact() const {
        auto is_poison = [](char c) { return c == char(0xFF); };
        return std::all_of(map_ + page(), begin(), is_poison) && std::all_of(begin() + bytes_, map_ + page() + pages_, is_poison);
    }

  private:
    static size_t page() { return size_t(sysconf(_SC_PAGESIZE)); }
    size_t bytes_, padded_, pages_;
    char* map_;
};

struct Copy {
    char* to;
    const void* from;  // null: zeros
};

enum class State { ready, at_barrier, in_warp_call, done };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state;
    void (*call)(void* const lanes[32]);  // what its warp does together, and this lane's part in it
    void* part;
    std::vector<Copy> open;                    // copies that were not committed yet
    std::deque<std::vector<Copy>> under_way;  // groups that were
};

constexpr size_t kStackBytes = 64 * 1024;
inline std::vector<int> order{0, 1, 2, 3, 4, 5, 6, 7};  // of the warps, and of the next eight behind them
inline int multiprocessors = 132;

class Block {
  public:
    Block(size_t shared_bytes, int threads) : shared(shared_bytes), fibers_(threads) {
        for (Fiber& fiber : fibers_) fiber.stack = std::make_unique<char[]>(kStackBytes);
    }

    void run(const std::function<void()>& body) {
        body_ = &body;
        shared.poison();
        for (Fiber& fiber : fibers_) start(fiber);
        while (Fiber* next = first_ready()) {
            threadIdx.x = uint32_t(next - fibers_.data());
            swapcontext(&scheduler_, &next->context);
            release(*next);
        }
        for (const Fiber& fiber : fibers_) {
            if (fiber.state != State::done) fail("some threads wait for others that never come");
            if (!fiber.open.empty()) fail("a copy was never committed");
            for (const auto& group : fiber.under_way) {
                if (!group.empty()) fail("a copy was never waited for");
            }
        }
        if (!shared.is_intact()) fail("a write outside of shared memory");
    }

    Fiber& current() { return fibers_[threadIdx.x]; }
    void wait(State state) {
        Fiber& fiber = current();
        fiber.state = state;
        swapcontext(&fiber.context, &scheduler_);
    }
    template <class Part> void together(void (*call)(void* const lanes[32]), Part& part) {
        current().call = call, current().part = &part;
        wait(State::in_warp_call);
    }

    Memory shared;

  private:
    static void enter();

    void start(Fiber& fiber) {
        fiber.state = State::ready;
        fiber.open.clear(), fiber.under_way.clear();
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get(), fiber.context.uc_stack.ss_size = kStackBytes;
        fiber.context.uc_link = &scheduler_;
        makecontext(&fiber.context, enter, 0);
    }
    Fiber* first_ready() {
        for (size_t first = 0; first < fibers_.size(); first += 32 * order.size()) {
            for (int warp : order) {
                for (size_t i = first + warp * 32; i < fibers_.size() && i < first + size_t(warp + 1) * 32; ++i) {
                    if (fibers_[i].state == State::ready) return &fibers_[i];
                }
            }
        }
        return nullptr;
    }
    // Whoever stopped last may have been the last that others waited for.
    void release(const Fiber& stopped) {
        if (stopped.state == State::in_warp_call) release_warp(&stopped - fibers_.data());
        auto arrived = [](const Fiber& fiber) { return fiber.state == State::at_barrier || fiber.state == State::done; };
        const bool all = std::all_of(fibers_.begin(), fibers_.end(), arrived);
        for (Fiber& fiber : fibers_) {
            if (all && fiber.state == State::at_barrier) fiber.state = State::ready;
        }
    }
    void release_warp(size_t thread) {
        Fiber* const warp = fibers_.data() + thread / 32 * 32;
        void* parts[32];
        for (int lane = 0; lane < 32; ++lane) {
            if (warp[lane].state != State::in_warp_call) return;
            if (warp[lane].call != warp[0].call) fail("the lanes of a warp do different things together");
            parts[lane] = warp[lane].part;
        }
        if (warp[0].call) warp[0].call(parts);
        for (int lane = 0; lane < 32; ++lane) warp[lane].state = State::ready;
    }

    std::vector<Fiber> fibers_;
    ucontext_t scheduler_;
    const std::function<void()>* body_ = nullptr;
};

inline Block* block = nullptr;  // the one that runs

inline void Block::enter() {
    (*block->body_)();
    block->current().state = State::done;
}

inline void land(const Copy& copy) {
    if (copy.from) std::memcpy(copy.to, copy.from, 16);
    else std::memset(copy.to, 0, 16);
}

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace cuda_on_host

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = cuda_on_host::multiprocessors;
    return cudaSuccess;
}
inline void __syncthreads() { cuda_on_host::block->wait(cuda_on_host::State::at_barrier); }
inline void __syncwarp() {
    int nothing = 0;
    cuda_on_host::block->together(nullptr, nothing);
}

struct Shuffle {
    float value, other;
    int lanes;
};
inline void shuffle_together(void* const lanes[32]) {
    for (int lane = 0; lane < 32; ++lane) {
        auto& part = *static_cast<Shuffle*>(lanes[lane]);
        part.other = static_cast<Shuffle*>(lanes[lane ^ part.lanes])->value;
    }
}
inline float __shfl_xor_sync(uint32_t mask, float value, int lanes) {
    if (mask != 0xFFFFFFFFu) cuda_on_host::fail("a shuffle of a part of a warp");
    Shuffle part{value, NAN, lanes};
    cuda_on_host::block->together(shuffle_together, part);
    return part.other;
}

// A 16-bit float of kExponent bits of exponent; numbers too large or too small for it do not occur here.
template <int kExponent> struct SmallFloat {
    static constexpr int kMantissa = 15 - kExponent, kBias = (1 << (kExponent - 1)) - 1;
    uint16_t bits;

    SmallFloat() = default;
    explicit SmallFloat(float value) {
        if (value == 0 || value != value) {
            bits = value == 0 ? 0 : 0xFFFF;
            return;
        }
        int exponent;
        std::frexp(value, &exponent);  // |value| = [0.5, 1) * 2^exponent
        int units = int(std::nearbyint(std::ldexp(std::fabs(value), kMantissa + 1 - exponent)));  // to the nearest, ties to even
        if (units == 2 << kMantissa) units /= 2, ++exponent;
        bits = uint16_t((value < 0) << 15 | (exponent - 1 + kBias) << kMantissa | (units - (1 << kMantissa)));
    }
    operator float() const {
        const int exponent = bits >> kMantissa & ((1 << kExponent) - 1), mantissa = bits & ((1 << kMantissa) - 1);
        if (exponent == (1 << kExponent) - 1) return NAN;
        const float value = exponent || mantissa ? std::ldexp(float(mantissa + (1 << kMantissa)), exponent - kBias - kMantissa) : 0.0f;
        return bits >> 15 ? -value : value;
    }
};
struct __nv_bfloat16 : SmallFloat<8> {
    using SmallFloat<8>::SmallFloat;
};
struct __half : SmallFloat<5> {
    using SmallFloat<5>::SmallFloat;
};

namespace fastgan {

template <class V> V* dynamic_shared() { return reinterpret_cast<V*>(cuda_on_host::block->shared.begin()); }

template <bool kKeep> void copy_async(uint4* to, const void* from, bool valid) {
    using namespace cuda_on_host;
    if (!is_aligned(to) || !is_aligned(from)) fail("a copy of 16 bytes is not aligned to 16");
    (void)*static_cast<const volatile char*>(from);  // a valid address, either way
    std::memset(to, 0xFF, 16);
    block->current().open.push_back({reinterpret_cast<char*>(to), valid ? from : nullptr});
}
inline void commit_copies() {
    cuda_on_host::Fiber& fiber = cuda_on_host::block->current();
    fiber.under_way.push_back(std::move(fiber.open));
    fiber.open.clear();
}
template <int kLeft> void wait_for_copies() {
    auto& groups = cuda_on_host::block->current().under_way;
    for (; groups.size() > kLeft; groups.pop_front()) std::for_each(groups.front().begin(), groups.front().end(), cuda_on_host::land);
}

struct LoadBlocks {
    const uint16_t* row;  // 8 elements
    uint32_t block[4];
};
// Register r of lane l is of 8 x 8 block r, whose rows are those that lanes 8r to 8r + 7 name: row l / 4, columns 2 (l % 4) and the next,
// or, transposed, rows 2 (l % 4) and the next, column l / 4.
template <bool kTransposed> void load_blocks_together(void* const lanes[32]) {
    for (int r = 0; r < 4; ++r) {
        const uint16_t* rows[8];
        bool banks[8] = {};
        for (int i = 0; i < 8; ++i) {
            rows[i] = static_cast<LoadBlocks*>(lanes[8 * r + i])->row;
            if (!cuda_on_host::is_aligned(rows[i])) cuda_on_host::fail("a row of ldmatrix is not aligned to 16 bytes");
            bool& bank = banks[reinterpret_cast<uintptr_t>(rows[i]) / 16 % 8];
            if (bank) cuda_on_host::fail("a bank conflict in ldmatrix");
            bank = true;
        }
        for (int lane = 0; lane < 32; ++lane) {
            const int i = lane / 4, j = lane % 4 * 2;
            const uint16_t low = kTransposed ? rows[j][i] : rows[i][j], high = kTransposed ? rows[j + 1][i] : rows[i][j + 1];
            static_cast<LoadBlocks*>(lanes[lane])->block[r] = uint32_t(low) | uint32_t(high) << 16;
        }
    }
}
template <bool kTransposed> void load_blocks(uint32_t (&block)[4], const uint4* row) {
    LoadBlocks part{reinterpret_cast<const uint16_t*>(row), {}};
    cuda_on_host::block->together(load_blocks_together<kTransposed>, part);
    std::copy(part.block, part.block + 4, block);
}

struct MultiplyAdd {
    uint32_t a[4], b[2];
    float sum[4];
};
template <class T> float element(const uint32_t* registers, int i) {
    T value;
    value.bits = uint16_t(registers[i / 2] >> (i % 2 * 16));
    return float(value);
}
// mma.m16n8k16: with group = lane / 4 and member = lane % 4, element i of a is in row group (+ 8 for i = 2, 3, 6, 7) and column
// 2 member + i % 2 (+ 8 from i = 4), of b in row 2 member + i % 2 (+ 8 from i = 2) and column group, of the sums in row group (+ 8 from
// i = 2) and column 2 member + i % 2.
template <class T> void multiply_add_together(void* const lanes[32]) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& part = *static_cast<MultiplyAdd*>(lanes[lane]);
        const int group = lane / 4, member = lane % 4;
        for (int i = 0; i < 8; ++i) a[group + (i % 4 >= 2 ? 8 : 0)][2 * member + i % 2 + (i >= 4 ? 8 : 0)] = element<T>(part.a, i);
        for (int i = 0; i < 4; ++i) b[2 * member + i % 2 + (i >= 2 ? 8 : 0)][group] = element<T>(part.b, i);
    }
    for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) {
            float& sum = static_cast<MultiplyAdd*>(lanes[lane])->sum[i];
            for (int k = 0; k < 16; ++k) sum += a[lane / 4 + (i >= 2 ? 8 : 0)][k] * b[k][2 * (lane % 4) + i % 2];
        }
    }
}
template <class T> void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    MultiplyAdd part{{a[0], a[1], a[2], a[3]}, {b0, b1}, {sum[0], sum[1], sum[2], sum[3]}};
    cuda_on_host::block->together(multiply_add_together<T>, part);
    std::copy(part.sum, part.sum + 4, sum);
}

template <class T> uint32_t packed(float first, float second) { return uint32_t(T(first).bits) | uint32_t(T(second).bits) << 16; }

template <class Argument>
cudaError_t launch(void (*kernel)(Argument), dim3 grid, int threads, int shared_bytes, cudaStream_t, const Argument& argument) {
    constexpr int kMostSharedBytes = 163 * 1024;  // of sm_80
    const bool fits = threads % 32 == 0 && shared_bytes <= kMostSharedBytes && grid.x && grid.y - 1 < 65535 && grid.z - 1 < 65535;
    if (!fits) cuda_on_host::fail("a grid, or a block, that cannot be launched");
    cuda_on_host::Block block(size_t(shared_bytes), threads);
    cuda_on_host::block = &block;
    gridDim = grid;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) block.run([&] { kernel(argument); });
        }
    }
    return cudaSuccess;
}

}  // namespace fastgan
