// Launchers of the hand-written kernels: plain pointers, no ATen, so that a
// .cu file compiles in seconds and the same source runs on a CPU in tests.
//
// Shapes: rows = T tokens, cols = D (width) or F (hidden width). Matrices are
// row-major; pointers are aligned to 16 bytes and cols is a multiple of 8.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace halvit {

using Stream = CUstream_st*;  // cudaStream_t

enum class Dtype : int { kFloat32, kFloat16, kBFloat16 };

// A null pointer stands for an argument that is absent or not needed.
struct ConstView {
  const void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
};

struct View {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
};

constexpr int64_t kMaxNormCols = 8192;

// sum = residual + row_scale * delta, y = LayerNorm(sum) * weight + bias.
// Without delta, residual is normalised and sum is not written.
struct AddLayerNorm {
  ConstView residual, delta, weight, bias;
  const float* row_scale = nullptr;  // (rows / rows_per_sample,)
  View sum, y;
  float* mean = nullptr;  // (rows,)
  float* rstd = nullptr;  // (rows,)
  float eps = 0.f;
  int64_t rows = 0, cols = 0, rows_per_sample = 1;
};

// d_residual = grad_residual + LayerNorm'(grad_y), d_delta = row_scale *
// d_residual. The partials are (norm_partials(rows, cols), cols).
struct AddLayerNormBackward {
  ConstView grad_residual, grad_y, residual, weight;
  const float *mean = nullptr, *rstd = nullptr, *row_scale = nullptr;
  View d_residual, d_delta;
  float *partial_weight = nullptr, *partial_bias = nullptr;
  int64_t rows = 0, cols = 0, rows_per_sample = 1;
};

enum class Activation : int { kGelu, kGeluTanh };

// h = s * act(u). s is 1 or, with is_signed, -1 in the second half of the
// columns. h may be u.
struct ActivationForward {
  Activation activation = Activation::kGelu;
  ConstView u;
  bool is_signed = false;
  View h;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;  // from row to row, of every matrix
};

// du = dh * s * act'(u), h = s * act(u), and per-block sums of du in
// (activation_partials(rows, cols), cols). du may be dh.
struct ActivationBackward {
  Activation activation = Activation::kGelu;
  ConstView dh, u;
  bool is_signed = false;
  View du, h;
  float* partial_bias = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;
};

// out_i[col] = sum over rows of partial_i[row, col], for i = 0, 1.
struct ReducePartials {
  const float* partial[2] = {nullptr, nullptr};
  View out[2];
  int64_t rows = 0, cols = 0;
};

// dst (rows, cols), or (cols, rows) when transposed, = src in another dtype.
struct CastSegment {
  ConstView src;
  View dst;
  int64_t rows = 0, cols = 0;
  bool transposed = false;
  int64_t first_block = 0;  // filled in by the launcher
};

constexpr int kMaxSegments = 6;

struct CastSegments {
  CastSegment segment[kMaxSegments];
  int count = 0;
};

int64_t norm_partials(int64_t rows, int64_t cols);
int64_t activation_partials(int64_t rows, int64_t cols);

// Each is one launch. No argument may have zero rows.
void launch_add_layer_norm(const AddLayerNorm& params, Stream stream);
void launch_add_layer_norm_backward(const AddLayerNormBackward& params,
                                    Stream stream);
void launch_activation(const ActivationForward& params, Stream stream);
void launch_activation_backward(const ActivationBackward& params,
                                Stream stream);
void launch_reduce_partials(const ReducePartials& params, Stream stream);
void launch_cast(CastSegments params, Stream stream);

// Throws when the launch just made was refused.
void check_launch(const char* kernel);

}  // namespace halvit
