// GELU of the hidden units (erf or tanh form), times a fixed sign.
//
// A warp covers 256 columns of a row, a block 8 rows at a time, and walks down
// the rows; so a thread's columns, signs and column sums stay in registers.
#include "device.cuh"

namespace halvit {
namespace {

constexpr int kUnroll = 2;  // rows whose loads are under way together

// tanh(z) = 1 - 2 / (exp(2 z) + 1); exp overflows to inf, which gives 1.
__device__ inline float fast_tanh(float z) {
  return 1.f - __fdividef(2.f, __expf(2.f * z) + 1.f);
}

template <Activation kAct>
__device__ inline float activate(float u) {
  if constexpr (kAct == Activation::kGelu) {
    return 0.5f * u * (1.f + erff(u * 0.70710678118654752f));
  } else {
    const float inner = 0.79788456080286536f * (u + 0.044715f * u * u * u);
    return 0.5f * u * (1.f + fast_tanh(inner));
  }
}

// The value and the derivative of the activation.
template <Activation kAct>
__device__ inline float activate(float u, float& slope) {
  if constexpr (kAct == Activation::kGelu) {
    const float cdf = 0.5f * (1.f + erff(u * 0.70710678118654752f));
    slope = cdf + u * 0.39894228040143268f * __expf(-0.5f * u * u);
    return u * cdf;
  } else {
    const float inner = 0.79788456080286536f * (u + 0.044715f * u * u * u);
    const float t = fast_tanh(inner);
    const float half = 0.5f * (1.f + t);
    slope = half + 0.5f * u * (1.f - t * t) * 0.79788456080286536f *
                       (1.f + 0.134145f * u * u);
    return u * half;
  }
}

// Half the columns may be a multiple of 4 only: a sign for each four.
__device__ inline void set_signs(bool is_signed, int64_t col, int64_t cols,
                                 float (&out)[2]) {
  out[0] = is_signed && 2 * col >= cols ? -1.f : 1.f;
  out[1] = is_signed && 2 * (col + 4) >= cols ? -1.f : 1.f;
}

template <Activation kAct, Dtype kDtype>
__global__ void __launch_bounds__(kThreads)
    activation_kernel(const ActivationForward p) {
  const ConstView u{p.u.data, kDtype};
  const View h{p.h.data, kDtype};
  const int64_t col =
      (static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x % 32) * kVec;
  if (col >= p.cols) return;
  float sign[2];
  set_signs(p.is_signed, col, p.cols, sign);
  const int64_t step = static_cast<int64_t>(gridDim.y) * kWarps;
  int64_t first = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.x / 32;
  for (; first < p.rows; first += kUnroll * step) {
    Raw8 raw[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t row = first + i * step;
      if (row < p.rows) raw[i] = load_raw(u, row * p.stride + col);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t row = first + i * step;
      if (row >= p.rows) continue;
      float x[8];
      unpack(raw[i], kDtype, x);
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] = sign[j / 4] * activate<kAct>(x[j]);
      store(h, row * p.stride + col, x);
    }
  }
}

// With 16-bit values four blocks fit on a processor: 64 registers a thread.
template <Activation kAct, Dtype kDtype>
__global__ void __launch_bounds__(kThreads, kDtype == Dtype::kFloat32 ? 3 : 4)
    activation_backward_kernel(const ActivationBackward p) {
  const ConstView u{p.u.data, kDtype}, dh{p.dh.data, kDtype};
  const View h{p.h.data, kDtype}, du{p.du.data, kDtype};
  const int64_t first_col = static_cast<int64_t>(blockIdx.x) * kWarpCols;
  const int64_t col = first_col + threadIdx.x % 32 * kVec;
  float sign[2], sum_bias[8] = {};
  const int64_t step = static_cast<int64_t>(gridDim.y) * kWarps;
  int64_t first = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.x / 32;
  if (col < p.cols) {
    set_signs(p.is_signed, col, p.cols, sign);
  } else {
    first = p.rows;  // no rows, but the block's sums need every thread
  }
  for (; first < p.rows; first += kUnroll * step) {
    Raw8 raw_u[kUnroll], raw_dh[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t row = first + i * step;
      if (row >= p.rows) continue;
      raw_u[i] = load_raw(u, row * p.stride + col);
      raw_dh[i] = load_raw(dh, row * p.stride + col);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t row = first + i * step;
      if (row >= p.rows) continue;
      float x[8], grad[8];
      unpack(raw_u[i], kDtype, x);
      unpack(raw_dh[i], kDtype, grad);
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        float slope;
        const float value = activate<kAct>(x[j], slope);
        grad[j] *= sign[j / 4] * slope;
        sum_bias[j] += grad[j];
        x[j] = sign[j / 4] * value;
      }
      if (p.du.data) store(du, row * p.stride + col, grad);
      if (p.h.data) store(h, row * p.stride + col, x);
    }
  }
  if (p.partial_bias) {
    write_block_sums(sum_bias, p.partial_bias + blockIdx.y * p.cols + first_col,
                     p.cols - first_col);
  }
}

// Blocks below each other, when each processor is to get `share` blocks: a
// multiple of how many fit at a time, or the last wave is not a full one.
int64_t blocks_down(int64_t rows, int64_t cols, int share) {
  const int64_t across = ceil_div(cols, kWarpCols);
  const int64_t wanted = ceil_div(int64_t{processors()} * share, across);
  const int64_t possible = ceil_div(rows, kWarps);
  return wanted < possible ? wanted : possible;
}

template <Dtype kDtype>
void launch_forward(const ActivationForward& p, dim3 grid, Stream stream) {
  auto* gelu = activation_kernel<Activation::kGelu, kDtype>;
  if (p.activation == Activation::kGeluTanh) {
    gelu = activation_kernel<Activation::kGeluTanh, kDtype>;
  }
  HALVIT_LAUNCH(gelu, grid, dim3(kThreads), stream, p);
}

template <Dtype kDtype>
void launch_backward(const ActivationBackward& p, dim3 grid, Stream stream) {
  auto* gelu_backward = activation_backward_kernel<Activation::kGelu, kDtype>;
  if (p.activation == Activation::kGeluTanh) {
    gelu_backward = activation_backward_kernel<Activation::kGeluTanh, kDtype>;
  }
  HALVIT_LAUNCH(gelu_backward, grid, dim3(kThreads), stream, p);
}

}  // namespace

int64_t activation_partials(int64_t rows, int64_t cols) {
  return blocks_down(rows, cols, 8);  // in two waves of 4
}

// 6 (erf) or 8 (tanh) blocks of 16-bit values fit at a time.
void launch_activation(const ActivationForward& p, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.cols, kWarpCols)),
                  static_cast<unsigned>(blocks_down(p.rows, p.cols, 24)));
  switch (p.u.dtype) {
    case Dtype::kFloat32:
      return launch_forward<Dtype::kFloat32>(p, grid, stream);
    case Dtype::kFloat16:
      return launch_forward<Dtype::kFloat16>(p, grid, stream);
    case Dtype::kBFloat16:
      return launch_forward<Dtype::kBFloat16>(p, grid, stream);
  }
}

void launch_activation_backward(const ActivationBackward& p, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(p.cols, kWarpCols)),
                  static_cast<unsigned>(activation_partials(p.rows, p.cols)));
  switch (p.u.dtype) {
    case Dtype::kFloat32:
      return launch_backward<Dtype::kFloat32>(p, grid, stream);
    case Dtype::kFloat16:
      return launch_backward<Dtype::kFloat16>(p, grid, stream);
    case Dtype::kBFloat16:
      return launch_backward<Dtype::kBFloat16>(p, grid, stream);
  }
}

}  // namespace halvit
