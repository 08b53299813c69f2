// The tied feed-forward network: y = (s gelu(x w^T + b1)) w + b2. s is 1 or,
// with is_signed, -1 for the second half of the hidden units.
//
// Shapes: T tokens, D width, F hidden width; x and y (..., D), u and h
// (..., F), w (F, D), b1 (F,), b2 (D,).
// impl 0 has the GELU in a kernel of its own, impl 1 inside the products (the
// tanh form only). There a fixed sign of the second half of the hidden units
// becomes a second product with alpha = -1.
#include "activation.h"
#include "matmul.h"
#include "ops.h"

namespace halvit {
namespace {

struct Ffn {
  Activation kind;
  bool is_signed, fused;
  Tensor x, w;  // (T, D), (F, D): dense, in x's dtype
  int64_t tokens, hidden;
};

Activation activation_kind(const char* op, c10::string_view approximate) {
  if (approximate == "none") return Activation::kGelu;
  TORCH_CHECK(approximate == "tanh", op, ": approximate is '",
              std::string(approximate), "', expected 'none' or 'tanh'");
  return Activation::kGeluTanh;
}

Ffn check_ffn(const std::string& op, const Tensor& x, const Tensor& w,
              bool is_signed, c10::string_view approximate, int64_t impl) {
  check_rows(x, (op + ": x").c_str());
  TORCH_CHECK(w.dim() == 2, op, ": w has shape ", w.sizes());
  const int64_t hidden = w.size(0), cols = x.size(-1);
  check(w, (op + ": w").c_str(), x, {hidden, cols});
  TORCH_CHECK(hidden > 0 && hidden % 8 == 0, op, ": w has ", hidden,
              " rows, expected a positive multiple of 8");
  TORCH_CHECK(impl == 0 || impl == 1, op, ": impl is ", impl,
              ", expected 0 or 1");
  Ffn ffn;
  ffn.kind = activation_kind(op.c_str(), approximate);
  ffn.is_signed = is_signed;
  ffn.fused = impl == 1;
  if (ffn.fused) {
    TORCH_CHECK(ffn.kind == Activation::kGeluTanh, op,
                ": impl 1 is the tanh form");
    // Half a row must start at a multiple of 16 bytes.
    TORCH_CHECK(!is_signed || hidden % 16 == 0, op, ": impl 1 with signs ",
                "needs w's rows to be a multiple of 16, got ", hidden);
  }
  ffn.tokens = x.numel() / cols;
  ffn.hidden = hidden;
  return ffn;
}

void check_ffn_biases(const char* op, const Tensor& x, const Tensor& w,
                      const OptTensor& b1, const OptTensor& b2) {
  const std::string name(op);
  check(b1, (name + ": b1").c_str(), x, {w.size(0)});
  check(b2, (name + ": b2").c_str(), x, {w.size(1)});
}

// y = h w + b2; `signs` splits the hidden units: y = h1 w1 - h2 w2 + b2.
void second_product(const char* name, const Ffn& ffn, const Tensor& h,
                    const Tensor& bias, const Tensor& y) {
  if (!(ffn.fused && ffn.is_signed)) {
    Matmul call = times(name, h, ffn.w, y);
    call.bias = bias;
    return run(call);
  }
  const int64_t half = ffn.hidden / 2;
  Matmul first = times(name, h.narrow(1, 0, half), ffn.w.narrow(0, 0, half), y);
  first.bias = bias;
  run(first);
  Matmul second =
      times(name, h.narrow(1, half, half), ffn.w.narrow(0, half, half), y);
  second.alpha = -1.f;
  second.beta = 1.f;
  run(second);
}

// y and, with `keep`, u; h lives in u's place where u is not kept.
void forward(const char* name, const Ffn& ffn, const Tensor& b1,
             const Tensor& b2, const Tensor& y, const Tensor& u, bool keep) {
  const Tensor h = keep ? empty(u.sizes(), u) : u;
  Matmul call = times_transposed(name, ffn.x, ffn.w, u);
  call.bias = b1;
  if (ffn.fused) {
    call.d = h;
    call.epilogue = keep ? Epilogue::kGeluAux : Epilogue::kGelu;
    if (keep) call.aux = u;
    run(call);
  } else {
    run(call);
    activation(ffn.kind, u, ffn.is_signed, h);
  }
  second_product(name, ffn, h, b2, y);
}

// du from g, and what comes with it: h for the weight, and db1.
Tensor hidden_grads(const char* name, const Ffn& ffn, const Tensor& g,
                    const Tensor& u, ActivationGrads grads) {
  const Tensor du = empty(u.sizes(), u);
  if (!ffn.fused) {
    run(times_transposed(name, g, ffn.w, du));
    grads.du = du;  // in the place of dh
    activation_backward(ffn.kind, du, u, ffn.is_signed, grads);
    return du;
  }
  // The sums of the epilogue are in du's dtype.
  Tensor sums;
  if (grads.bias.defined()) sums = empty({ffn.hidden}, u);
  const int64_t parts = ffn.is_signed ? 2 : 1, size = ffn.hidden / parts;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t at = i * size;
    Matmul call = times_transposed(name, g, ffn.w.narrow(0, at, size),
                                   du.narrow(1, at, size));
    call.alpha = i == 0 ? 1.f : -1.f;
    call.epilogue = Epilogue::kDGelu;
    call.aux = u.narrow(1, at, size);
    if (sums.defined()) call.bias = sums.narrow(0, at, size);
    run(call);
  }
  if (sums.defined()) grads.bias.copy_(sums);
  if (grads.h.defined()) activation(ffn.kind, u, ffn.is_signed, grads.h);
  return du;
}

}  // namespace

Tensors3 tied_ffn(const Tensor& x, const Tensor& w, const OptTensor& b1,
                  const OptTensor& b2, bool is_signed,
                  c10::string_view approximate, int64_t impl) {
  const char* name = "tied_ffn";
  Ffn ffn = check_ffn(name, x, w, is_signed, approximate, impl);
  check_ffn_biases(name, x, w, b1, b2);
  const OpScope scope(x);
  Caster cast(x);
  const bool casts = w.scalar_type() != x.scalar_type();
  ffn.x = dense_rows(x);
  ffn.w = cast(w);
  const Tensor bias1 = cast(b1), bias2 = cast(b2);
  cast.run();
  auto u_sizes = x.sizes().vec();
  u_sizes.back() = ffn.hidden;
  const Tensor y = empty(x.sizes(), x), u = empty(u_sizes, x);
  if (ffn.tokens > 0) {
    forward(name, ffn, bias1, bias2, y.view(ffn.x.sizes()),
            u.view({ffn.tokens, ffn.hidden}), /*keep=*/true);
  }
  return {y, u, casts ? ffn.w : nothing(x)};
}

Tensor tied_ffn_inference(const Tensor& x, const Tensor& w, const OptTensor& b1,
                          const OptTensor& b2, bool is_signed,
                          c10::string_view approximate, int64_t impl) {
  const char* name = "tied_ffn_inference";
  Ffn ffn = check_ffn(name, x, w, is_signed, approximate, impl);
  check_ffn_biases(name, x, w, b1, b2);
  const OpScope scope(x);
  const Tensor y = empty(x.sizes(), x);
  if (ffn.tokens == 0) return y;
  Caster cast(x);
  ffn.x = dense_rows(x);
  ffn.w = cast(w);
  const Tensor bias1 = cast(b1), bias2 = cast(b2);
  cast.run();
  forward(name, ffn, bias1, bias2, y.view(ffn.x.sizes()),
          empty({ffn.tokens, ffn.hidden}, x), /*keep=*/false);
  return y;
}

Tensors4 tied_ffn_backward(const Tensor& g, const Tensor& x, const Tensor& u,
                           const Tensor& w, const Tensor& w_cast,
                           bool is_signed, c10::string_view approximate,
                           int64_t impl, Needs needs) {
  const char* name = "tied_ffn_backward";
  Ffn ffn = check_ffn(name, x, w, is_signed, approximate, impl);
  auto u_sizes = x.sizes().vec();
  u_sizes.back() = ffn.hidden;
  check(u, "tied_ffn_backward: u", x, u_sizes);
  TORCH_CHECK(u.scalar_type() == x.scalar_type(), name, ": u is ",
              u.scalar_type(), ", x ", x.scalar_type());
  TORCH_CHECK(needs.size() == 4, name, ": needs has ", needs.size(),
              " entries, expected 4");
  if (w_cast.numel() > 0) {
    check(w_cast, "tied_ffn_backward: w_cast", x, w.sizes());
    TORCH_CHECK(w_cast.scalar_type() == x.scalar_type(), name, ": w_cast is ",
                w_cast.scalar_type(), ", x ", x.scalar_type());
  }
  const OpScope scope(x);
  const auto type = w.scalar_type();
  Tensor dx = nothing(x), dw = nothing(w), db1 = nothing(w), db2 = nothing(w);
  const Tensor grad = dense_grad(g, "tied_ffn_backward: g", x);
  if (ffn.tokens == 0) {
    if (needs.get(0)) dx = empty(x.sizes(), x);
    if (needs.get(1)) dw = zeros(w.sizes(), w, type);
    if (needs.get(2)) db1 = zeros({ffn.hidden}, w, type);
    if (needs.get(3)) db2 = zeros({w.size(1)}, w, type);
    return {dx, dw, db1, db2};
  }
  if (needs.get(3)) db2 = sum_rows(grad, type);
  if (!(needs.get(0) || needs.get(1) || needs.get(2))) {
    return {dx, dw, db1, db2};
  }

  Caster cast(x);
  ffn.x = dense_rows(x);
  ffn.w = w_cast.numel() > 0 ? dense(w_cast) : cast(w);
  cast.run();
  const Tensor u_rows = dense_rows(u);
  ActivationGrads grads;
  if (needs.get(1)) grads.h = empty(u_rows.sizes(), x);
  if (needs.get(2)) grads.bias = db1 = empty({ffn.hidden}, w);
  const Tensor du =
      hidden_grads("tied_ffn_backward: du", ffn, grad, u_rows, grads);
  if (needs.get(0)) {
    dx = empty(x.sizes(), x);
    run(times("tied_ffn_backward: dx", du, ffn.w, dx.view(ffn.x.sizes())));
  }
  if (needs.get(1)) {
    const bool same = type == x.scalar_type();
    dw = empty(w.sizes(), x, same ? type : at::kFloat);
    run(weight_grad("tied_ffn_backward: dw", ffn.x, du, dw));
    Matmul second = weight_grad("tied_ffn_backward: dw", grad, grads.h, dw);
    second.beta = 1.f;
    run(second);
    dw = dw.to(type);
  }
  return {dx, dw, db1, db2};
}

}  // namespace halvit
