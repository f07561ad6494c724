// Which vector instructions this machine has. The library is compiled for the oldest machine of its kind: a kernel that is worth it exists
// in several versions (functions with a target attribute), and the best that can run here is chosen at run time.
#pragma once

namespace fastgan {

enum class Isa { generic, avx2, avx512, avx512_bf16 };  // each has everything before it; avx2 includes FMA and F16C

// The best of this machine, or a lesser one that a test has asked for.
Isa best_isa();

}  // namespace fastgan
