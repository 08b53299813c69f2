// What the kernels share: eight values a thread at a time, in 16-byte
// accesses, and sums over a warp or a block.
//
// The dtype of an access is a run-time value: these kernels are bound by
// memory and the branch is uniform. Where it is a constant, it folds away.
#pragma once

#include <cstdint>

#include "../kernels.h"

#ifdef HALVIT_HOST_EMULATION
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define HALVIT_LAUNCH(kernel, grid, block, stream, params) \
  do {                                                     \
    (kernel)<<<(grid), (block), 0, (stream)>>>(params);    \
    ::halvit::check_launch(#kernel);                       \
  } while (0)

namespace halvit {

__device__ inline uint32_t pack_half(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline uint32_t pack_bfloat(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline void unpack_half(uint32_t word, float& low, float& high) {
  const float2 pair = __half22float2(*reinterpret_cast<__half2*>(&word));
  low = pair.x;
  high = pair.y;
}

// In PTX: the compiler would split `*at = value` into four stores of a word.
__device__ inline void store_vector(void* at, uint4 value) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(
                   __cvta_generic_to_global(at)),
               "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

inline int processors() {
  int device = 0, count = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count > 0 ? count : 1;
}

// How many blocks of a kernel the device runs at a time.
template <typename Kernel>
int64_t resident_blocks(Kernel* kernel, int threads) {
  int count = 1;  // a failure is told by the launch
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, threads, 0);
  return int64_t{processors()} * (count > 0 ? count : 1);
}

}  // namespace halvit
#endif

namespace halvit {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kVec = 8;               // values a thread handles at a time
constexpr int kWarpCols = 32 * kVec;  // columns a warp covers at a time
constexpr int kBlockCols = kThreads * kVec;

struct Raw8 {
  uint4 low, high;  // high: only float32 needs it
};

// Loads and conversions are apart, so that several loads are under way before
// the first of them is waited for. `index` is a multiple of 8.
__device__ inline Raw8 load_raw(ConstView view, int64_t index) {
  Raw8 raw{};
  if (view.dtype == Dtype::kFloat32) {
    const auto* at = reinterpret_cast<const uint4*>(
        static_cast<const float*>(view.data) + index);
    raw.low = at[0];
    raw.high = at[1];
  } else {
    raw.low = *reinterpret_cast<const uint4*>(
        static_cast<const uint16_t*>(view.data) + index);
  }
  return raw;
}

__device__ inline void store_raw(View view, int64_t index, const Raw8& raw) {
  if (view.dtype == Dtype::kFloat32) {
    auto* at = static_cast<float*>(view.data) + index;
    store_vector(at, raw.low);
    store_vector(at + 4, raw.high);
  } else {
    store_vector(static_cast<uint16_t*>(view.data) + index, raw.low);
  }
}

__device__ inline void unpack_pair(uint32_t word, Dtype dtype, float& low,
                                   float& high) {
  if (dtype == Dtype::kFloat16) {
    unpack_half(word, low, high);
  } else {
    low = __uint_as_float(word << 16);
    high = __uint_as_float(word & 0xffff0000u);
  }
}

__device__ inline uint32_t pack_pair(float low, float high, Dtype dtype) {
  return dtype == Dtype::kFloat16 ? pack_half(low, high)
                                  : pack_bfloat(low, high);
}

__device__ inline void unpack(const Raw8& raw, Dtype dtype, float (&out)[8]) {
  if (dtype == Dtype::kFloat32) {
    out[0] = __uint_as_float(raw.low.x);
    out[1] = __uint_as_float(raw.low.y);
    out[2] = __uint_as_float(raw.low.z);
    out[3] = __uint_as_float(raw.low.w);
    out[4] = __uint_as_float(raw.high.x);
    out[5] = __uint_as_float(raw.high.y);
    out[6] = __uint_as_float(raw.high.z);
    out[7] = __uint_as_float(raw.high.w);
  } else {
    unpack_pair(raw.low.x, dtype, out[0], out[1]);
    unpack_pair(raw.low.y, dtype, out[2], out[3]);
    unpack_pair(raw.low.z, dtype, out[4], out[5]);
    unpack_pair(raw.low.w, dtype, out[6], out[7]);
  }
}

__device__ inline Raw8 pack(const float (&in)[8], Dtype dtype) {
  Raw8 raw{};
  if (dtype == Dtype::kFloat32) {
    raw.low.x = __float_as_uint(in[0]);
    raw.low.y = __float_as_uint(in[1]);
    raw.low.z = __float_as_uint(in[2]);
    raw.low.w = __float_as_uint(in[3]);
    raw.high.x = __float_as_uint(in[4]);
    raw.high.y = __float_as_uint(in[5]);
    raw.high.z = __float_as_uint(in[6]);
    raw.high.w = __float_as_uint(in[7]);
  } else {
    raw.low.x = pack_pair(in[0], in[1], dtype);
    raw.low.y = pack_pair(in[2], in[3], dtype);
    raw.low.z = pack_pair(in[4], in[5], dtype);
    raw.low.w = pack_pair(in[6], in[7], dtype);
  }
  return raw;
}

__device__ inline void load(ConstView view, int64_t index, float (&out)[8]) {
  unpack(load_raw(view, index), view.dtype, out);
}

__device__ inline void store(View view, int64_t index, const float (&in)[8]) {
  store_raw(view, index, pack(in, view.dtype));
}

// Sums of kCount values over kLanes threads: a warp (32) or the whole block.
// With the whole block, all threads must get here together.
template <int kLanes, int kCount>
__device__ inline void group_sum(float (&values)[kCount]) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] += __shfl_xor_sync(0xffffffffu, values[i], offset);
    }
  }
  if constexpr (kLanes > 32) {
    static_assert(kLanes == kThreads, "a warp or a block");
    __shared__ float sums[kCount][kWarps];
    __syncthreads();  // what the call before left there has been read
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i][threadIdx.x / 32] = values[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = 0.f;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) values[i] += sums[i][warp];
    }
  }
}

// Adds up the block's warps, where lane l holds 8 l .. 8 l + 7 of kWarpCols
// columns, and writes those left of `limit`. All threads must get here.
__device__ inline void write_block_sums(const float (&values)[8], float* out,
                                        int64_t limit) {
  __shared__ float sums[kWarps][kWarpCols];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // what the call before left there has been read
#pragma unroll
  for (int i = 0; i < kVec; ++i) sums[warp][lane * kVec + i] = values[i];
  __syncthreads();
  static_assert(kThreads == kWarpCols, "one thread a column");
  if (threadIdx.x < limit) {
    float sum = 0.f;
#pragma unroll
    for (int row = 0; row < kWarps; ++row) sum += sums[row][threadIdx.x];
    out[threadIdx.x] = sum;
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace halvit
