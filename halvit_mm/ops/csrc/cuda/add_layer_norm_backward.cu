// Backward of the residual add and LayerNorm, one pass over the tokens.
//
// With xhat = (x - mean) rstd and g = grad_y weight:
//   d_residual = grad_residual + rstd (g - mean(g) - xhat mean(g xhat))
// The sums for weight and bias stay in registers while a warp walks over its
// rows; each block leaves one row of partials for reduce.cu.
#include "device.cuh"

namespace halvit {
namespace {

template <int kLanes>
__device__ inline void write_partials(const float (&values)[8], float* partial,
                                      int64_t first_col, int64_t cols) {
  if (!partial) return;  // the same for all threads
  float* row = partial + blockIdx.x * cols;
  if constexpr (kLanes == 32) {
    write_block_sums(values, row + first_col, cols - first_col);
  } else {
    const int64_t col = first_col + threadIdx.x * kVec;
    if (col < cols) store({row, Dtype::kFloat32}, col, values);
  }
}

template <int kLanes, int kChunks>
__global__ void __launch_bounds__(kThreads)
    add_layer_norm_backward_kernel(const AddLayerNormBackward p) {
  constexpr int kRows = kThreads / kLanes;
  const int lane = threadIdx.x % kLanes;
  const float inverse = 1.f / static_cast<float>(p.cols);
  float sum_weight[kChunks][8] = {}, sum_bias[kChunks][8] = {};
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRows;
  int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / kLanes;
  for (; row < p.rows; row += step) {
    const bool has_y = p.grad_y.data != nullptr;  // the same for all threads
    Raw8 raw_x[kChunks], raw_y[kChunks], raw_grad[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols) continue;
      if (has_y) {
        raw_x[c] = load_raw(p.residual, row * p.cols + col);
        raw_y[c] = load_raw(p.grad_y, row * p.cols + col);
      }
      if (p.grad_residual.data) {
        raw_grad[c] = load_raw(p.grad_residual, row * p.cols + col);
      }
    }
    const float mean = has_y ? p.mean[row] : 0.f;
    const float rstd = has_y ? p.rstd[row] : 0.f;

    float xhat[kChunks][8], g[kChunks][8];
    float means[2] = {0.f, 0.f};  // of g, of g xhat
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols || !has_y) continue;
      float weight[8];
      load(p.weight, col, weight);
      unpack(raw_x[c], p.residual.dtype, xhat[c]);
      unpack(raw_y[c], p.grad_y.dtype, g[c]);
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        xhat[c][i] = (xhat[c][i] - mean) * rstd;
        sum_weight[c][i] += g[c][i] * xhat[c][i];
        sum_bias[c][i] += g[c][i];
        g[c][i] *= weight[i];
        means[0] += g[c][i];
        means[1] += g[c][i] * xhat[c][i];
      }
    }
    if (has_y) group_sum<kLanes>(means);
    means[0] *= inverse;
    means[1] *= inverse;
    const float scale =
        p.row_scale ? p.row_scale[row / p.rows_per_sample] : 1.f;

#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols) continue;
      float dx[8] = {};
      if (p.grad_residual.data) {
        unpack(raw_grad[c], p.grad_residual.dtype, dx);
      }
      if (has_y) {
#pragma unroll
        for (int i = 0; i < kVec; ++i) {
          dx[i] += rstd * (g[c][i] - means[0] - xhat[c][i] * means[1]);
        }
      }
      store(p.d_residual, row * p.cols + col, dx);
      if (p.d_delta.data) {
#pragma unroll
        for (int i = 0; i < kVec; ++i) dx[i] *= scale;
        store(p.d_delta, row * p.cols + col, dx);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int64_t first_col = static_cast<int64_t>(c) * kLanes * kVec;
    if (first_col >= p.cols) break;
    write_partials<kLanes>(sum_weight[c], p.partial_weight, first_col, p.cols);
    write_partials<kLanes>(sum_bias[c], p.partial_bias, first_col, p.cols);
  }
}

// The instance for a width: its registers decide how many blocks fit.
auto* instance(int64_t cols) {
  if (cols <= kWarpCols) return add_layer_norm_backward_kernel<32, 1>;
  if (cols <= 2 * kWarpCols) return add_layer_norm_backward_kernel<32, 2>;
  if (cols <= 3 * kWarpCols) return add_layer_norm_backward_kernel<32, 3>;
  if (cols <= 4 * kWarpCols) return add_layer_norm_backward_kernel<32, 4>;
  if (cols <= kBlockCols) return add_layer_norm_backward_kernel<kThreads, 1>;
  return add_layer_norm_backward_kernel<kThreads, 4>;
}

}  // namespace

// One wave: a block walks down the rows, and so the sums of few are left.
int64_t norm_partials(int64_t rows, int64_t cols) {
  const int64_t rows_per_block = cols <= 4 * kWarpCols ? kWarps : 1;
  const int64_t possible = ceil_div(rows, rows_per_block);
  const int64_t resident = resident_blocks(instance(cols), kThreads);
  return resident < possible ? resident : possible;
}

void launch_add_layer_norm_backward(const AddLayerNormBackward& p,
                                    Stream stream) {
  const dim3 grid(static_cast<unsigned>(norm_partials(p.rows, p.cols)));
  auto* add_layer_norm_backward = instance(p.cols);
  HALVIT_LAUNCH(add_layer_norm_backward, grid, dim3(kThreads), stream, p);
}

}  // namespace halvit
