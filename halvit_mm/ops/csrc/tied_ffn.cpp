// The tied feed-forward network: y = (s gelu(x w^T + b1)) w + b2. s is 1 or,
// with is_signed, -1 for the second half of the hidden units.
//
// Shapes: T tokens, D width, F hidden width; x and y (..., D), u and h
// (..., F), w (F, D), b1 (F,), b2 (D,).
#include "activation.h"
#include "ops.h"
#include "products.h"

namespace halvit {
namespace {

// The arguments that all three operators check.
Activation check_ffn(const char* op, const Tensor& x, const Tensor& w,
                     const OptTensor& b1, const OptTensor& b2,
                     c10::string_view approximate) {
  check_rows(op, "x", x);
  TORCH_CHECK(w.dim() == 2, op, ": w has shape ", w.sizes());
  const int64_t hidden = w.size(0), cols = x.size(-1);
  check(op, "w", w, x, {hidden, cols});
  TORCH_CHECK(hidden > 0 && hidden % 8 == 0, op, ": w has ", hidden,
              " rows, expected a positive multiple of 8");
  check(op, "b1", b1, x, {hidden});
  check(op, "b2", b2, x, {cols});
  if (approximate == "none") return Activation::kGelu;
  TORCH_CHECK(approximate == "tanh", op, ": approximate is '",
              std::string(approximate), "', expected 'none' or 'tanh'");
  return Activation::kGeluTanh;
}

std::vector<int64_t> hidden_sizes(const Tensor& x, const Tensor& w) {
  auto sizes = x.sizes().vec();
  sizes.back() = w.size(0);
  return sizes;
}

}  // namespace

Tensors3 tied_ffn(const Tensor& x, const Tensor& w, const OptTensor& b1,
                  const OptTensor& b2, bool is_signed,
                  c10::string_view approximate) {
  const Activation kind = check_ffn("tied_ffn", x, w, b1, b2, approximate);
  const OpScope scope(x);
  Caster cast(x);
  const Tensor matrix = cast(w), bias1 = cast(b1), bias2 = cast(b2);
  cast.run();
  const Tensor y = empty(x.sizes(), x), u = empty(hidden_sizes(x, w), x);
  if (x.numel() > 0) {
    const Tensor rows = x.reshape({-1, x.size(-1)});
    const Tensor u_rows = u.view({rows.size(0), w.size(0)});
    multiply(rows, matrix.t(), bias1, u_rows);
    const Tensor h = empty(u_rows.sizes(), x);
    activation(kind, u_rows, is_signed, h);
    multiply(h, matrix, bias2, y.view(rows.sizes()));
  }
  const bool casts = w.scalar_type() != x.scalar_type();
  return {y, u, casts ? matrix : nothing(x)};
}

Tensor tied_ffn_inference(const Tensor& x, const Tensor& w, const OptTensor& b1,
                          const OptTensor& b2, bool is_signed,
                          c10::string_view approximate) {
  const Activation kind =
      check_ffn("tied_ffn_inference", x, w, b1, b2, approximate);
  const OpScope scope(x);
  const Tensor y = empty(x.sizes(), x);
  if (x.numel() == 0) return y;
  Caster cast(x);
  const Tensor matrix = cast(w), bias1 = cast(b1), bias2 = cast(b2);
  cast.run();
  const Tensor rows = x.reshape({-1, x.size(-1)});
  const Tensor h = empty({rows.size(0), w.size(0)}, x);
  multiply(rows, matrix.t(), bias1, h);
  activation(kind, h, is_signed, h);
  multiply(h, matrix, bias2, y.view(rows.sizes()));
  return y;
}

Tensors4 tied_ffn_backward(const Tensor& g, const Tensor& x, const Tensor& u,
                           const Tensor& w, const Tensor& w_cast,
                           bool is_signed, c10::string_view approximate,
                           Needs needs) {
  const char* op = "tied_ffn_backward";
  const Activation kind = check_ffn(op, x, w, {}, {}, approximate);
  check(op, "u", u, x, hidden_sizes(x, w));
  TORCH_CHECK(u.scalar_type() == x.scalar_type(), op, ": u is ",
              u.scalar_type(), ", x ", x.scalar_type());
  check_needs(op, needs, 4);
  if (w_cast.numel() > 0) {
    check(op, "w_cast", w_cast, x, w.sizes());
    TORCH_CHECK(w_cast.scalar_type() == x.scalar_type(), op, ": w_cast is ",
                w_cast.scalar_type(), ", x ", x.scalar_type());
  }
  const OpScope scope(x);
  const auto type = w.scalar_type();
  const int64_t hidden = w.size(0), cols = x.size(-1);
  Tensor dx = nothing(x), dw = nothing(w), db1 = nothing(w), db2 = nothing(w);
  const Tensor grad = dense_grad(op, "g", g, x);
  if (x.numel() == 0) {
    if (needs.get(0)) dx = empty(x.sizes(), x);
    if (needs.get(1)) dw = zeros(w.sizes(), w, type);
    if (needs.get(2)) db1 = zeros({hidden}, w, type);
    if (needs.get(3)) db2 = zeros({cols}, w, type);
    return {dx, dw, db1, db2};
  }
  if (needs.get(3)) db2 = bias_grad(grad, w, cols);
  if (!(needs.get(0) || needs.get(1) || needs.get(2))) {
    return {dx, dw, db1, db2};
  }

  Caster cast(x);
  const Tensor matrix = w_cast.numel() > 0 ? w_cast : cast(w);
  cast.run();
  const Tensor rows = x.reshape({-1, cols}), u_rows = dense_rows(u);
  ActivationGrads grads;
  grads.du = empty(u_rows.sizes(), x);
  multiply(grad, matrix.t(), {}, grads.du);  // dh, which du replaces
  if (needs.get(1)) grads.h = empty(u_rows.sizes(), x);
  if (needs.get(2)) grads.bias = db1 = empty({hidden}, w);
  activation_backward(kind, grads.du, u_rows, is_signed, grads);
  if (needs.get(0)) {
    dx = empty(x.sizes(), x);
    multiply(grads.du, matrix, {}, dx.view(rows.sizes()));
  }
  if (needs.get(1)) dw = weight_grad(w, {{grads.du, rows}, {grads.h, grad}});
  return {dx, dw, db1, db2};
}

}  // namespace halvit
