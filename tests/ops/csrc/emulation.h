// CUDA's language on a CPU: enough of it for the kernels in ops/csrc/cuda.
//
// The threads of a block are fibers that run one after the other, each until
// it waits. Nothing is written by the others before they had their turn, so a
// barrier that is missing gives wrong values, every time.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__ static
#define __device__ static
#define __shared__ static
#define __launch_bounds__(...)

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

struct dim3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

namespace halvit {

namespace emulation {

struct Indices {
  dim3 thread, block, grid;
};
extern Indices indices;  // of the thread whose turn it is

void run(const char* name, dim3 grid, dim3 block,
         const std::function<void()>& kernel);
void sync_block();
float shuffle_xor(float value, int mask);

}  // namespace emulation

constexpr int processors() { return 3; }  // few, so that blocks must loop

template <typename Kernel>
int64_t resident_blocks(Kernel*, int) {
  return processors();
}

inline uint32_t pack_half(float low, float high) {
  return c10::Half(low).x | static_cast<uint32_t>(c10::Half(high).x) << 16;
}

inline uint32_t pack_bfloat(float low, float high) {
  return c10::BFloat16(low).x | static_cast<uint32_t>(c10::BFloat16(high).x)
                                    << 16;
}

inline void unpack_half(uint32_t word, float& low, float& high) {
  low = c10::Half(word & 0xffffu, c10::Half::from_bits());
  high = c10::Half(word >> 16, c10::Half::from_bits());
}

inline void store_vector(void* at, uint4 value) {
  *static_cast<uint4*>(at) = value;
}

}  // namespace halvit

#define threadIdx ::halvit::emulation::indices.thread
#define blockIdx ::halvit::emulation::indices.block
#define gridDim ::halvit::emulation::indices.grid

#define HALVIT_LAUNCH(kernel, grid, block, stream, params) \
  do {                                                     \
    ::halvit::emulation::run(#kernel, (grid), (block),     \
                             [&] { (kernel)(params); });   \
    ::halvit::check_launch(#kernel);                       \
  } while (0)

inline void __syncthreads() { halvit::emulation::sync_block(); }

inline float __shfl_xor_sync(uint32_t, float value, int mask) {
  return halvit::emulation::shuffle_xor(value, mask);
}

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
