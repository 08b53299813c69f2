// The attention's tied projections: q, k, v from two matrices, and the output
// from the first of them.
//
// Shapes: T tokens, D width; x, q, k, v, o, y (..., D), wq and wkv (D, D).
//   q = x wq^T + bq, k = x wkv^T + bk, v = x wkv + bv, y = o wq + bias
// q, k and v come from three products: the outputs of an operator may not be
// views of one buffer.
#include "matmul.h"
#include "ops.h"

namespace halvit {
namespace {

struct Weights {
  Tensor wq, wkv;  // (D, D), in the dtype to compute in
};

void check_weights(const char* op, const Tensor& x, const Tensor& wq,
                   const Tensor& wkv) {
  const int64_t cols = x.size(-1);
  const std::string name(op);
  check(wq, (name + ": wq").c_str(), x, {cols, cols});
  check(wkv, (name + ": wkv").c_str(), x, {cols, cols});
  TORCH_CHECK(wq.scalar_type() == wkv.scalar_type(), op, ": wq is ",
              wq.scalar_type(), ", wkv ", wkv.scalar_type());
}

void check_needs(const char* op, const Needs& needs, size_t count) {
  TORCH_CHECK(needs.size() == count, op, ": needs has ", needs.size(),
              " entries, expected ", count);
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
  return dense(packed.narrow(0, i * cols, cols));
}

void project(const char* name, const Tensor& x, const Tensor& w,
             bool transposed, const Tensor& bias, const Tensor& out) {
  const Tensor rows = out.view({x.size(0), out.size(-1)});
  Matmul call =
      transposed ? times_transposed(name, x, w, rows) : times(name, x, w, rows);
  call.bias = bias;
  run(call);
}

// The dtype of a weight's gradient while it is added up: float32 wherever the
// weight is not of the dtype that is computed in.
at::ScalarType grad_type(const Tensor& weight, const Tensor& x) {
  return weight.scalar_type() == x.scalar_type() ? x.scalar_type() : at::kFloat;
}

// out (O, I) = sum of b^T a over the pairs whose tensors are defined.
Tensor sum_of_products(const char* name, const Tensor& x, const Tensor& weight,
                       std::initializer_list<std::pair<Tensor, Tensor>> pairs) {
  Tensor out;
  for (const auto& [a, b] : pairs) {
    if (!a.defined() || !b.defined() || a.size(0) == 0) continue;
    const bool first = !out.defined();
    if (first) out = empty(weight.sizes(), x, grad_type(weight, x));
    Matmul call = weight_grad(name, a, b, out);
    call.beta = first ? 0.f : 1.f;
    run(call);
  }
  if (!out.defined()) return zeros(weight.sizes(), x, weight.scalar_type());
  return out.to(weight.scalar_type());
}

Tensor bias_grad(const Tensor& grad, const Tensor& weight) {
  if (grad.defined()) return sum_rows(grad, weight.scalar_type());
  return zeros({weight.size(1)}, weight, weight.scalar_type());
}

}  // namespace

Tensors4 tied_qkv(const Tensor& x, const Tensor& wq, const Tensor& wkv,
                  const OptTensor& bq, const OptTensor& bk,
                  const OptTensor& bv) {
  check_rows(x, "tied_qkv: x");
  check_weights("tied_qkv", x, wq, wkv);
  const int64_t cols = x.size(-1);
  check(bq, "tied_qkv: bq", x, {cols});
  check(bk, "tied_qkv: bk", x, {cols});
  check(bv, "tied_qkv: bv", x, {cols});
  const OpScope scope(x);
  const Tensor rows = dense_rows(x);
  Caster cast(x);
  Tensor packed = nothing(x);
  Weights w;
  if (wq.scalar_type() == x.scalar_type()) {
    w = {dense(wq), dense(wkv)};
  } else {
    packed = empty({2 * cols, cols}, x);
    w = {packed.narrow(0, 0, cols), packed.narrow(0, cols, cols)};
    cast.into(wq, w.wq);
    cast.into(wkv, w.wkv);
  }
  const Tensor bias_q = cast(bq), bias_k = cast(bk), bias_v = cast(bv);
  cast.run();
  const Tensor q = empty(x.sizes(), x), k = empty(x.sizes(), x),
               v = empty(x.sizes(), x);
  if (rows.size(0) > 0) {
    project("tied_qkv: q", rows, w.wq, true, bias_q, q);
    project("tied_qkv: k", rows, w.wkv, true, bias_k, k);
    project("tied_qkv: v", rows, w.wkv, false, bias_v, v);
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
  check_rows(x, "tied_qkv_backward: x");
  check_weights("tied_qkv_backward", x, wq, wkv);
  check_needs("tied_qkv_backward", needs, 6);
  check_packed("tied_qkv_backward", x, packed, 2 * x.size(-1));
  const OpScope scope(x);
  const Tensor gq = dense_grad(dq, "tied_qkv_backward: dq", x);
  const Tensor gk = dense_grad(dk, "tied_qkv_backward: dk", x);
  const Tensor gv = dense_grad(dv, "tied_qkv_backward: dv", x);
  const Tensor rows = dense_rows(x);

  Tensor dx = nothing(x);
  const bool none = !gq.defined() && !gk.defined() && !gv.defined();
  if (needs.get(0) && (none || rows.size(0) == 0)) {
    dx = zeros(x.sizes(), x, x.scalar_type());
  } else if (needs.get(0)) {
    dx = empty(x.sizes(), x);
    const Tensor out = dx.view(rows.sizes());
    Caster cast(x);
    const Weights w{weight_of(packed, 0, wq, cast),
                    weight_of(packed, 1, wkv, cast)};
    cast.run();
    float beta = 0.f;
    const auto add = [&](Matmul call) {
      call.beta = beta;
      beta = 1.f;
      run(call);
    };
    const char* name = "tied_qkv_backward: dx";
    if (gq.defined()) add(times(name, gq, w.wq, out));
    if (gk.defined()) add(times(name, gk, w.wkv, out));
    if (gv.defined()) add(times_transposed(name, gv, w.wkv, out));
  }
  return {dx,
          needs.get(1)
              ? sum_of_products("tied_qkv_backward: dwq", x, wq, {{rows, gq}})
              : nothing(wq),
          needs.get(2) ? sum_of_products("tied_qkv_backward: dwkv", x, wkv,
                                         {{rows, gk}, {gv, rows}})
                       : nothing(wq),
          needs.get(3) ? bias_grad(gq, wq) : nothing(wq),
          needs.get(4) ? bias_grad(gk, wq) : nothing(wq),
          needs.get(5) ? bias_grad(gv, wq) : nothing(wq)};
}

Tensor tied_out(const Tensor& o, const Tensor& wq, const Tensor& packed,
                const OptTensor& bias) {
  check_rows(o, "tied_out: o");
  check_weights("tied_out", o, wq, wq);
  const int64_t cols = o.size(-1);
  check_packed("tied_out", o, packed, cols);
  check(bias, "tied_out: bias", o, {cols});
  const OpScope scope(o);
  const Tensor rows = dense_rows(o);
  const Tensor y = empty(o.sizes(), o);
  if (rows.size(0) == 0) return y;
  Caster cast(o);
  const Tensor w = weight_of(packed, 0, wq, cast);
  const Tensor b = cast(bias);
  cast.run();
  project("tied_out: y", rows, w, false, b, y);
  return y;
}

Tensors3 tied_out_backward(const Tensor& g, const Tensor& o, const Tensor& wq,
                           const Tensor& packed, Needs needs) {
  check_rows(o, "tied_out_backward: o");
  check_weights("tied_out_backward", o, wq, wq);
  check_needs("tied_out_backward", needs, 3);
  check_packed("tied_out_backward", o, packed, o.size(-1));
  const OpScope scope(o);
  const Tensor grad = dense_grad(g, "tied_out_backward: g", o);
  Tensor d_o = nothing(o);
  if (needs.get(0)) {
    d_o = empty(o.sizes(), o);
    if (grad.size(0) > 0) {
      Caster cast(o);
      const Tensor w = weight_of(packed, 0, wq, cast);
      cast.run();
      project("tied_out_backward: do", grad, w, true, {}, d_o);
    }
  }
  return {d_o,
          needs.get(1) ? sum_of_products("tied_out_backward: dwq", o, wq,
                                         {{grad, dense_rows(o)}})
                       : nothing(wq),
          needs.get(2) ? bias_grad(grad, wq) : nothing(wq)};
}

Tensor pack_qkv(const Tensor& wq, const Tensor& wkv, at::ScalarType dtype) {
  check_rows(wq, "pack_qkv: wq");
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
