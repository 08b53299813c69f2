// Residual add, DropPath scale and LayerNorm in one pass over the tokens.
//
// One warp a row up to 1024 columns, one block a row above that; a thread
// keeps its 8 kChunks values of the row in registers.
#include "device.cuh"

namespace halvit {
namespace {

template <int kLanes, int kChunks>
__global__ void __launch_bounds__(kThreads)
    add_layer_norm_kernel(const AddLayerNorm p) {
  constexpr int kRows = kThreads / kLanes;
  const int lane = threadIdx.x % kLanes;
  const float inverse = 1.f / static_cast<float>(p.cols);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRows;
  int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / kLanes;
  for (; row < p.rows; row += step) {
    Raw8 raw[kChunks], raw_delta[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols) continue;
      raw[c] = load_raw(p.residual, row * p.cols + col);
      if (p.delta.data) raw_delta[c] = load_raw(p.delta, row * p.cols + col);
    }
    const float scale =
        p.row_scale ? p.row_scale[row / p.rows_per_sample] : 1.f;

    float x[kChunks][8];
    float mean[1] = {0.f};
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols) continue;
      unpack(raw[c], p.residual.dtype, x[c]);
      if (p.delta.data) {
        float delta[8];
        unpack(raw_delta[c], p.delta.dtype, delta);
#pragma unroll
        for (int i = 0; i < kVec; ++i) x[c][i] += scale * delta[i];
        const Raw8 sum = pack(x[c], p.sum.dtype);
        store_raw(p.sum, row * p.cols + col, sum);
        // What is normalised is what the backward pass will read: rounded.
        unpack(sum, p.sum.dtype, x[c]);
      }
#pragma unroll
      for (int i = 0; i < kVec; ++i) mean[0] += x[c][i];
    }
    group_sum<kLanes>(mean);
    mean[0] *= inverse;

    float variance[1] = {0.f};
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if ((c * kLanes + lane) * kVec >= p.cols) continue;
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        const float centred = x[c][i] - mean[0];
        variance[0] += centred * centred;
      }
    }
    group_sum<kLanes>(variance);
    const float rstd = rsqrtf(variance[0] * inverse + p.eps);

#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t col = (c * kLanes + lane) * kVec;
      if (col >= p.cols) continue;
      float weight[8], bias[8];
      load(p.weight, col, weight);
      load(p.bias, col, bias);
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        x[c][i] = (x[c][i] - mean[0]) * rstd * weight[i] + bias[i];
      }
      store(p.y, row * p.cols + col, x[c]);
    }
    if (lane == 0) {
      p.mean[row] = mean[0];
      p.rstd[row] = rstd;
    }
  }
}

template <int kLanes, int kChunks>
void launch_norm(const AddLayerNorm& p, Stream stream) {
  const int64_t blocks = ceil_div(p.rows, kThreads / kLanes);
  const int64_t limit = static_cast<int64_t>(processors()) * 16;
  const dim3 grid(static_cast<unsigned>(blocks < limit ? blocks : limit));
  auto* add_layer_norm = add_layer_norm_kernel<kLanes, kChunks>;
  HALVIT_LAUNCH(add_layer_norm, grid, dim3(kThreads), stream, p);
}

}  // namespace

void launch_add_layer_norm(const AddLayerNorm& p, Stream stream) {
  if (p.cols <= kWarpCols) return launch_norm<32, 1>(p, stream);
  if (p.cols <= 2 * kWarpCols) return launch_norm<32, 2>(p, stream);
  if (p.cols <= 3 * kWarpCols) return launch_norm<32, 3>(p, stream);
  if (p.cols <= 4 * kWarpCols) return launch_norm<32, 4>(p, stream);
  if (p.cols <= kBlockCols) return launch_norm<kThreads, 1>(p, stream);
  static_assert(4 * kBlockCols == kMaxNormCols, "the widest row");
  return launch_norm<kThreads, 4>(p, stream);
}

}  // namespace halvit
