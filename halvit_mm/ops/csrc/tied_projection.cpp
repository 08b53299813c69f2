// The attention's tied projections: q, k, v from two matrices, and the output
// from the first of them.
//
// Shapes: T tokens, D width; x, q, k, v, o, y (..., D), wq and wkv (D, D).
//   q = x wq^T + bq, k = x wkv^T + bk, v = x wkv + bv, y = o wq + bias
// q, k and v come from three products: the outputs of an operator may not be
// views of one buffer.
#include "ops.h"
#include "products.h"

namespace halvit {
namespace {

void check_weights(const char* op, const Tensor& x, const Tensor& wq,
                   const Tensor& wkv) {
  const int64_t cols = x.size(-1);
  check(op, "wq", wq, x, {cols, cols});
  check(op, "wkv", wkv, x, {cols, cols});
  TORCH_CHECK(wq.scalar_type() == wkv.scalar_type(), op, ": wq is ",
              wq.scalar_type(), ", wkv ", wkv.scalar_type());
}

// [wq; wkv] in x's dtype, from an earlier call; or empty.
void check_packed(const char* op, const Tensor& x, const Tensor& packed,
                  int64_t rows) {
  if (packed.numel() == 0) return;
  const int64_t cols = x.size(-1);
  const bool fits =
      packed.dim() == 2 && packed.size(0) >= rows && packed.size(1) == cols &&
      packed.scalar_type() == x.scalar_type() && packed.device() == x.device();
  TORCH_CHECK(fits, op, ": packed is ", packed.scalar_type(), " ",
              packed.sizes(), ", expected ", x.scalar_type(), " with at least ",
              rows, " rows of ", cols);
}

// The i-th (D, D) matrix of `packed`, or the weight itself, cast if needed.
Tensor weight_of(const Tensor& packed, int64_t i, const Tensor& weight,
                 Caster& cast) {
  if (packed.numel() == 0) return cast(weight);
  const int64_t cols = weight.size(0);
  return packed.narrow(0, i * cols, cols);
}

}  // namespace

Tensors4 tied_qkv(const Tensor& x, const Tensor& wq, const Tensor& wkv,
                  const OptTensor& bq, const OptTensor& bk,
                  const OptTensor& bv) {
  const char* op = "tied_qkv";
  check_rows(op, "x", x);
  check_weights(op, x, wq, wkv);
  const int64_t cols = x.size(-1);
  check(op, "bq", bq, x, {cols});
  check(op, "bk", bk, x, {cols});
  check(op, "bv", bv, x, {cols});
  const OpScope scope(x);
  Caster cast(x);
  Tensor packed = nothing(x), w_q = wq, w_kv = wkv;
  if (wq.scalar_type() != x.scalar_type()) {
    packed = empty({2 * cols, cols}, x);
    w_q = packed.narrow(0, 0, cols);
    w_kv = packed.narrow(0, cols, cols);
    cast.into(wq, w_q);
    cast.into(wkv, w_kv);
  }
  const Tensor bias_q = cast(bq), bias_k = cast(bk), bias_v = cast(bv);
  cast.run();
  const Tensor q = empty(x.sizes(), x), k = empty(x.sizes(), x),
               v = empty(x.sizes(), x);
  const Tensor rows = x.reshape({-1, cols});
  if (rows.size(0) > 0) {
    multiply(rows, w_q.t(), bias_q, q.view(rows.sizes()));
    multiply(rows, w_kv.t(), bias_k, k.view(rows.sizes()));
    multiply(rows, w_kv, bias_v, v.view(rows.sizes()));
  }
  return {q, k, v, packed};
}

// dx is added up in its own dtype; inside each product the sum is float32. In
// 16 bits that moves 2 + 4 + 4 bytes per token and channel; with a float32
// buffer and a cast it would be 4 + 8 + 8 + 6. Separate projections round as
// often: each dx once, before autograd adds them.
Tensors6 tied_qkv_backward(const OptTensor& dq, const OptTensor& dk,
                           const OptTensor& dv, const Tensor& x,
                           const Tensor& wq, const Tensor& wkv,
                           const Tensor& packed, Needs needs) {
  const char* op = "tied_qkv_backward";
  check_rows(op, "x", x);
  check_weights(op, x, wq, wkv);
  check_needs(op, needs, 6);
  const int64_t cols = x.size(-1);
  check_packed(op, x, packed, 2 * cols);
  const OpScope scope(x);
  const Tensor gq = dense_grad(op, "dq", dq, x);
  const Tensor gk = dense_grad(op, "dk", dk, x);
  const Tensor gv = dense_grad(op, "dv", dv, x);
  const Tensor rows = x.reshape({-1, cols});

  Tensor dx = nothing(x);
  if (needs.get(0)) {
    Caster cast(x);
    const Tensor w_q = weight_of(packed, 0, wq, cast);
    const Tensor w_kv = weight_of(packed, 1, wkv, cast);
    cast.run();
    const std::pair<Tensor, Tensor> terms[] = {
        {gq, w_q}, {gk, w_kv}, {gv, w_kv.t()}};
    dx = empty(x.sizes(), x);
    const Tensor out = dx.view(rows.sizes());
    bool first = true;
    for (const auto& [grad, w] : terms) {
      if (!grad.defined()) continue;
      first ? multiply(grad, w, {}, out) : multiply_add(grad, w, out);
      first = false;
    }
    if (first) dx.zero_();
  }
  const auto bias = [&](int i, const Tensor& grad) {
    return needs.get(i) ? bias_grad(grad, wq, cols) : nothing(wq);
  };
  return {
      dx,
      needs.get(1) ? weight_grad(wq, {{gq, rows}}) : nothing(wq),
      needs.get(2) ? weight_grad(wkv, {{gk, rows}, {rows, gv}}) : nothing(wq),
      bias(3, gq),
      bias(4, gk),
      bias(5, gv)};
}

Tensor tied_out(const Tensor& o, const Tensor& wq, const Tensor& packed,
                const OptTensor& bias) {
  const char* op = "tied_out";
  check_rows(op, "o", o);
  check_weights(op, o, wq, wq);
  const int64_t cols = o.size(-1);
  check_packed(op, o, packed, cols);
  check(op, "bias", bias, o, {cols});
  const OpScope scope(o);
  const Tensor y = empty(o.sizes(), o);
  if (o.numel() == 0) return y;
  Caster cast(o);
  const Tensor w = weight_of(packed, 0, wq, cast);
  const Tensor b = cast(bias);
  cast.run();
  multiply(o.reshape({-1, cols}), w, b, y.view({-1, cols}));
  return y;
}

Tensors3 tied_out_backward(const Tensor& g, const Tensor& o, const Tensor& wq,
                           const Tensor& packed, Needs needs) {
  const char* op = "tied_out_backward";
  check_rows(op, "o", o);
  check_weights(op, o, wq, wq);
  check_needs(op, needs, 3);
  const int64_t cols = o.size(-1);
  check_packed(op, o, packed, cols);
  const OpScope scope(o);
  const Tensor grad = dense_grad(op, "g", g, o);
  Tensor d_o = nothing(o);
  if (needs.get(0)) {
    d_o = empty(o.sizes(), o);
    Caster cast(o);
    const Tensor w = weight_of(packed, 0, wq, cast);
    cast.run();
    multiply(grad, w.t(), {}, d_o.view(grad.sizes()));
  }
  return {d_o,
          needs.get(1) ? weight_grad(wq, {{o.reshape({-1, cols}), grad}})
                       : nothing(wq),
          needs.get(2) ? bias_grad(grad, wq, cols) : nothing(wq)};
}

Tensor pack_qkv(const Tensor& wq, const Tensor& wkv, at::ScalarType dtype) {
  check_rows("pack_qkv", "wq", wq);
  check_weights("pack_qkv", wq, wq, wkv);
  to_dtype(dtype);
  const OpScope scope(wq);
  const int64_t cols = wq.size(-1);
  const Tensor packed = empty({3 * cols, cols}, wq, dtype);
  Caster cast(packed);
  cast.into(wq, packed.narrow(0, 0, cols));
  cast.into(wkv, packed.narrow(0, cols, cols));
  cast.into(wkv, packed.narrow(0, 2 * cols, cols), /*transposed=*/true);
  cast.run();
  return packed;
}

}  // namespace halvit
