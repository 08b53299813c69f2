// Residual add + DropPath scale + LayerNorm.
//
// Shapes: T tokens, D width; residual and delta (..., D), row_scale (B,) with
// B = residual.size(0), mean and rstd (T,).
#include "ops.h"
#include "runtime.h"

namespace halvit {
namespace {

void check_norm(const char* op, const Tensor& residual) {
  check_rows(op, "residual", residual);
  TORCH_CHECK(residual.size(-1) <= kMaxNormCols, op, ": residual has ",
              residual.size(-1), " columns, expected at most ", kMaxNormCols);
}

// float32 and contiguous, one factor a sample.
Tensor dense_scale(const OptTensor& row_scale, const Tensor& residual) {
  if (!has(row_scale)) return {};
  TORCH_CHECK(residual.dim() >= 2, "add_layer_norm: row_scale needs samples, ",
              "residual has shape ", residual.sizes());
  check("add_layer_norm", "row_scale", *row_scale, residual,
        {residual.size(0)});
  return row_scale->to(at::kFloat).contiguous();
}

int64_t rows_per_sample(const Tensor& residual) {
  const int64_t rows = residual.numel() / residual.size(-1);
  return residual.dim() >= 2 && rows > 0 ? rows / residual.size(0) : 1;
}

}  // namespace

Tensors4 add_layer_norm(const Tensor& residual, const OptTensor& delta,
                        const OptTensor& row_scale, const Tensor& weight,
                        const Tensor& bias, double eps, at::ScalarType dtype) {
  const char* op = "add_layer_norm";
  check_norm(op, residual);
  const int64_t cols = residual.size(-1);
  check(op, "delta", delta, residual, residual.sizes());
  check(op, "weight", weight, residual, {cols});
  check(op, "bias", bias, residual, {cols});
  to_dtype(dtype);
  TORCH_CHECK(has(delta) || !has(row_scale), op, ": row_scale without delta");
  const OpScope scope(residual);
  const Tensor x = dense_rows(residual);
  const Tensor scale = dense_scale(row_scale, residual);
  const Tensor w = dense(weight), b = dense(bias);
  const Tensor d = has(delta) ? dense_rows(*delta) : Tensor();
  const Tensor sum =
      has(delta) ? empty(residual.sizes(), residual) : nothing(residual);
  const Tensor y = empty(residual.sizes(), residual, dtype);
  const Tensor mean = empty({x.size(0)}, residual, at::kFloat);
  const Tensor rstd = empty({x.size(0)}, residual, at::kFloat);
  if (x.size(0) == 0) return {sum, y, mean, rstd};

  AddLayerNorm p;
  p.residual = source(x);
  p.delta = source(d);
  p.weight = source(w);
  p.bias = source(b);
  if (scale.defined()) p.row_scale = scale.const_data_ptr<float>();
  if (d.defined()) p.sum = target(sum);
  p.y = target(y);
  p.mean = mean.data_ptr<float>();
  p.rstd = rstd.data_ptr<float>();
  p.eps = static_cast<float>(eps);
  p.rows = x.size(0);
  p.cols = cols;
  p.rows_per_sample = rows_per_sample(residual);
  launch_add_layer_norm(p, current_stream());
  return {sum, y, mean, rstd};
}

// d_delta is empty where it would equal d_residual: outputs may not alias.
Tensors4 add_layer_norm_backward(const OptTensor& grad_residual,
                                 const OptTensor& grad_y,
                                 const Tensor& residual, const Tensor& mean,
                                 const Tensor& rstd, const Tensor& weight,
                                 const OptTensor& row_scale,
                                 at::ScalarType delta_dtype, Needs needs) {
  const char* op = "add_layer_norm_backward";
  check_norm(op, residual);
  const int64_t cols = residual.size(-1), rows = residual.numel() / cols;
  check(op, "weight", weight, residual, {cols});
  check(op, "grad_y", grad_y, residual, residual.sizes());
  check(op, "mean", mean, residual, {rows});
  check(op, "rstd", rstd, residual, {rows});
  TORCH_CHECK(
      mean.scalar_type() == at::kFloat && rstd.scalar_type() == at::kFloat, op,
      ": mean and rstd are not float32");
  check_needs(op, needs, 3);
  to_dtype(delta_dtype);
  const OpScope scope(residual);
  const auto weight_type = weight.scalar_type();
  const bool has_y = has(grad_y), has_residual = has(grad_residual);
  const Tensor grad = dense_grad(op, "grad_residual", grad_residual, residual);
  const bool needs_delta =
      needs.get(0) && (delta_dtype != residual.scalar_type() || has(row_scale));
  if (rows == 0 || (!has_y && !has_residual)) {
    const auto no_grad = [&](bool needed, at::IntArrayRef sizes,
                             at::ScalarType type) {
      return needed ? zeros(sizes, residual, type) : nothing(residual);
    };
    return {zeros(residual.sizes(), residual, residual.scalar_type()),
            no_grad(needs_delta, residual.sizes(), delta_dtype),
            no_grad(needs.get(1), {cols}, weight_type),
            no_grad(needs.get(2), {cols}, weight_type)};
  }

  const Tensor x = dense_rows(residual), w = dense(weight);
  const Tensor means = mean.contiguous(), rstds = rstd.contiguous();
  const Tensor scale = dense_scale(row_scale, residual);
  const Tensor dy = has_y ? dense_rows(*grad_y) : Tensor();
  const Tensor d_residual = empty(residual.sizes(), residual);
  const Tensor d_delta = needs_delta
                             ? empty(residual.sizes(), residual, delta_dtype)
                             : nothing(residual);
  AddLayerNormBackward p;
  p.grad_residual = source(grad);
  p.grad_y = source(dy);
  p.residual = source(x);
  p.weight = source(w);
  p.mean = means.const_data_ptr<float>();
  p.rstd = rstds.const_data_ptr<float>();
  if (scale.defined()) p.row_scale = scale.const_data_ptr<float>();
  p.d_residual = target(d_residual);
  if (needs_delta) p.d_delta = target(d_delta);
  p.rows = rows;
  p.cols = cols;
  p.rows_per_sample = rows_per_sample(residual);

  ReducePartials reduce;
  reduce.rows = norm_partials(rows, cols);
  reduce.cols = cols;
  Tensor partials, d_weight = nothing(weight), d_bias = nothing(weight);
  if (needs.get(1) || needs.get(2)) {
    partials = empty({2, reduce.rows, cols}, residual, at::kFloat);
  }
  if (needs.get(1)) {
    d_weight = empty({cols}, weight);
    p.partial_weight = partials[0].data_ptr<float>();
    reduce.out[0] = target(d_weight);
  }
  if (needs.get(2)) {
    d_bias = empty({cols}, weight);
    p.partial_bias = partials[1].data_ptr<float>();
    reduce.out[1] = target(d_bias);
  }
  launch_add_layer_norm_backward(p, current_stream());
  reduce.partial[0] = p.partial_weight;
  reduce.partial[1] = p.partial_bias;
  if (partials.defined()) launch_reduce_partials(reduce, current_stream());
  return {d_residual, d_delta, d_weight, d_bias};
}

}  // namespace halvit
