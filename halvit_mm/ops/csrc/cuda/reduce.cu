// Second step of the column sums: adds the rows of per-block partials.
//
// partial (rows, cols) float32 -> out (cols,). A block takes 32 columns, its
// warps walk down the rows; blockIdx.y tells which of two sums.
#include "device.cuh"

namespace halvit {
namespace {

template <typename T>
__device__ inline void put(void* out, int64_t index, T value) {
  static_cast<T*>(out)[index] = value;
}

__global__ void __launch_bounds__(kThreads)
    reduce_partials_kernel(const ReducePartials p) {
  __shared__ float sums[kWarps][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  // Not p.partial[blockIdx.y]: a run-time index copies the struct to memory.
  const float* partial = blockIdx.y ? p.partial[1] : p.partial[0];
  const View out = blockIdx.y ? p.out[1] : p.out[0];
  if (!partial) return;  // the whole block
  float sum = 0.f;
  if (col < p.cols) {
#pragma unroll 4
    for (int64_t row = warp; row < p.rows; row += kWarps) {
      sum += partial[row * p.cols + col];
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || col >= p.cols) return;
  sum = 0.f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += sums[i][lane];
  if (out.dtype == Dtype::kFloat32) {
    put<float>(out.data, col, sum);
  } else {
    put<uint16_t>(out.data, col,
                  static_cast<uint16_t>(pack_pair(sum, 0.f, out.dtype)));
  }
}

}  // namespace

void launch_reduce_partials(const ReducePartials& p, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.cols, 32)), 2);
  HALVIT_LAUNCH(reduce_partials_kernel, grid, dim3(kThreads), stream, p);
}

}  // namespace halvit
