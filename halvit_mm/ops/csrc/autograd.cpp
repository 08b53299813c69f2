// Gradients of the operators, at the autograd key of the device: what is saved
// and returned is what the Python files of the same names say, which serve
// where this library is not loaded. Python takes 40 to 150 us for a call, more
// than a GPU takes for the layers of a small detector.
//
// Forward and backward call the operators through the dispatcher, so that
// tracers, modes and counters see them.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops.h"
#include "runtime.h"

namespace halvit {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <typename Signature>
auto find(const char* name) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(name, "")
      .typed<Signature>();
}

// Calls an operator by its name, whatever serves it.
#define HALVIT_CALL(name, ...)                                             \
  [&] {                                                                    \
    static const auto op = find<decltype(halvit::name)>("halvit::" #name); \
    return op.call(__VA_ARGS__);                                           \
  }()

OptTensor optional(const Tensor& grad) {
  return grad.defined() ? OptTensor(grad) : std::nullopt;
}

template <typename... Tensors>
bool records(const Tensors&... tensors) {
  const auto needs = [](const OptTensor& t) {
    return has(t) && t->requires_grad();
  };
  return at::GradMode::is_enabled() && (needs(tensors) || ...);
}

// What a backward pass starts with: it cannot be differentiated itself.
void check_once(const char* op) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      !at::GradMode::is_enabled(), "halvit::", op,
      " has no second derivative; HALVIT_MM_OPS=plain computes by operators "
      "that have");
}

// Which arguments are there: needs_input_grad() counts only those.
void keep(AutogradContext* ctx, std::initializer_list<bool> there) {
  int64_t bits = 0, bit = 1;
  for (const bool is_there : there) {
    bits |= is_there ? bit : 0;
    bit <<= 1;
  }
  ctx->saved_data["there"] = bits;
}

Needs needs_of(AutogradContext* ctx, int count) {
  const int64_t bits = ctx->saved_data["there"].toInt();
  Needs needs;
  size_t edge = 0;
  for (int i = 0; i < count; ++i) {
    const bool is_there = bits >> i & 1;
    needs.push_back(is_there && ctx->needs_input_grad(edge));
    edge += is_there;
  }
  return needs;
}

Tensor if_needed(const Needs& needs, int i, const Tensor& grad) {
  return needs.get(i) ? grad : Tensor();
}

struct AddLayerNormGrad : torch::autograd::Function<AddLayerNormGrad> {
  static constexpr bool is_traceable = true;

  static variable_list forward(AutogradContext* ctx, const Tensor& residual,
                               const OptTensor& delta,
                               const OptTensor& row_scale, const Tensor& weight,
                               const Tensor& bias, double eps,
                               at::ScalarType dtype) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [sum, y, mean, rstd] = HALVIT_CALL(
        add_layer_norm, residual, delta, row_scale, weight, bias, eps, dtype);
    ctx->set_materialize_grads(false);
    variable_list constant{mean, rstd};
    if (!has(delta)) constant.push_back(sum);
    ctx->mark_non_differentiable(constant);
    ctx->save_for_backward({has(delta) ? sum : residual, mean, rstd, weight,
                            row_scale.value_or(Tensor())});
    keep(ctx, {true, has(delta), has(row_scale), true, true});
    ctx->saved_data["delta"] =
        has(delta) ? delta->scalar_type() : residual.scalar_type();
    return {sum, y, mean, rstd};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    check_once("add_layer_norm");
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(7);
    const auto saved = ctx->get_saved_variables();
    const auto delta_type = ctx->saved_data["delta"].toScalarType();
    const Needs all = needs_of(ctx, 5);
    const Needs needs{all.get(1), all.get(3), all.get(4)};
    auto [d_residual, d_delta, d_weight, d_bias] =
        HALVIT_CALL(add_layer_norm_backward, optional(grads[0]),
                    optional(grads[1]), saved[0], saved[1], saved[2], saved[3],
                    optional(saved[4]), delta_type, needs);
    // The operator leaves out an equal one. Not numel(): it may be symbolic.
    const bool has_own =
        saved[4].defined() || delta_type != saved[0].scalar_type();
    if (!has_own) d_delta = d_residual;
    return {if_needed(all, 0, d_residual),
            if_needed(all, 1, d_delta),
            {},
            if_needed(all, 3, d_weight),
            if_needed(all, 4, d_bias),
            {},
            {}};
  }
};

struct TiedQkvGrad : torch::autograd::Function<TiedQkvGrad> {
  static constexpr bool is_traceable = true;

  static variable_list forward(AutogradContext* ctx, const Tensor& x,
                               const Tensor& wq, const Tensor& wkv,
                               const OptTensor& bq, const OptTensor& bk,
                               const OptTensor& bv) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [q, k, v, packed] = HALVIT_CALL(tied_qkv, x, wq, wkv, bq, bk, bv);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({packed});
    ctx->save_for_backward({x, wq, wkv, packed});
    keep(ctx, {true, true, true, has(bq), has(bk), has(bv)});
    return {q, k, v, packed};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    check_once("tied_qkv");
    if (!grads[0].defined() && !grads[1].defined() && !grads[2].defined()) {
      return variable_list(6);
    }
    const auto saved = ctx->get_saved_variables();
    const Needs needs = needs_of(ctx, 6);
    const auto [dx, dwq, dwkv, dbq, dbk, dbv] = HALVIT_CALL(
        tied_qkv_backward, optional(grads[0]), optional(grads[1]),
        optional(grads[2]), saved[0], saved[1], saved[2], saved[3], needs);
    return {if_needed(needs, 0, dx),   if_needed(needs, 1, dwq),
            if_needed(needs, 2, dwkv), if_needed(needs, 3, dbq),
            if_needed(needs, 4, dbk),  if_needed(needs, 5, dbv)};
  }
};

struct TiedOutGrad : torch::autograd::Function<TiedOutGrad> {
  static constexpr bool is_traceable = true;

  static Tensor forward(AutogradContext* ctx, const Tensor& o, const Tensor& wq,
                        const Tensor& packed, const OptTensor& bias) {
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({o, wq, packed});
    keep(ctx, {true, true, true, has(bias)});
    return HALVIT_CALL(tied_out, o, wq, packed, bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    check_once("tied_out");
    const auto saved = ctx->get_saved_variables();
    const Needs all = needs_of(ctx, 4);
    const Needs needs{all.get(0), all.get(1), all.get(3)};
    const auto [d_o, dwq, dbias] = HALVIT_CALL(
        tied_out_backward, grads[0], saved[0], saved[1], saved[2], needs);
    return {if_needed(all, 0, d_o),
            if_needed(all, 1, dwq),
            {},
            if_needed(all, 3, dbias)};
  }
};

struct TiedFfnGrad : torch::autograd::Function<TiedFfnGrad> {
  static constexpr bool is_traceable = true;

  static variable_list forward(AutogradContext* ctx, const Tensor& x,
                               const Tensor& w, const OptTensor& b1,
                               const OptTensor& b2, bool is_signed,
                               c10::string_view approximate) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [y, u, w_cast] =
        HALVIT_CALL(tied_ffn, x, w, b1, b2, is_signed, approximate);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({u, w_cast});
    ctx->save_for_backward({x, u, w, w_cast});
    keep(ctx, {true, true, has(b1), has(b2)});
    ctx->saved_data["signed"] = is_signed;
    ctx->saved_data["approximate"] = std::string(approximate);
    return {y, u, w_cast};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    check_once("tied_ffn");
    if (!grads[0].defined()) return variable_list(6);
    const auto saved = ctx->get_saved_variables();
    const Needs needs = needs_of(ctx, 4);
    const std::string approximate =
        ctx->saved_data["approximate"].toStringRef();
    const auto [dx, dw, db1, db2] = HALVIT_CALL(
        tied_ffn_backward, grads[0], saved[0], saved[1], saved[2], saved[3],
        ctx->saved_data["signed"].toBool(), approximate, needs);
    return {if_needed(needs, 0, dx),
            if_needed(needs, 1, dw),
            if_needed(needs, 2, db1),
            if_needed(needs, 3, db2),
            {},
            {}};
  }
};

Tensors4 add_layer_norm_autograd(const Tensor& residual, const OptTensor& delta,
                                 const OptTensor& row_scale,
                                 const Tensor& weight, const Tensor& bias,
                                 double eps, at::ScalarType dtype) {
  if (!records(residual, delta, weight, bias)) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return HALVIT_CALL(add_layer_norm, residual, delta, row_scale, weight, bias,
                       eps, dtype);
  }
  const auto outs = AddLayerNormGrad::apply(residual, delta, row_scale, weight,
                                            bias, eps, dtype);
  return {outs[0], outs[1], outs[2], outs[3]};
}

Tensors4 tied_qkv_autograd(const Tensor& x, const Tensor& wq, const Tensor& wkv,
                           const OptTensor& bq, const OptTensor& bk,
                           const OptTensor& bv) {
  if (!records(x, wq, wkv, bq, bk, bv)) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return HALVIT_CALL(tied_qkv, x, wq, wkv, bq, bk, bv);
  }
  const auto outs = TiedQkvGrad::apply(x, wq, wkv, bq, bk, bv);
  return {outs[0], outs[1], outs[2], outs[3]};
}

Tensor tied_out_autograd(const Tensor& o, const Tensor& wq,
                         const Tensor& packed, const OptTensor& bias) {
  if (!records(o, wq, bias)) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return HALVIT_CALL(tied_out, o, wq, packed, bias);
  }
  return TiedOutGrad::apply(o, wq, packed, bias);
}

Tensors3 tied_ffn_autograd(const Tensor& x, const Tensor& w,
                           const OptTensor& b1, const OptTensor& b2,
                           bool is_signed, c10::string_view approximate) {
  if (!records(x, w, b1, b2)) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return HALVIT_CALL(tied_ffn, x, w, b1, b2, is_signed, approximate);
  }
  const auto outs = TiedFfnGrad::apply(x, w, b1, b2, is_signed, approximate);
  return {outs[0], outs[1], outs[2]};
}

}  // namespace
}  // namespace halvit

HALVIT_REGISTER(HALVIT_AUTOGRAD_KEY, m) {
  m.impl("add_layer_norm", halvit::add_layer_norm_autograd);
  m.impl("tied_qkv", halvit::tied_qkv_autograd);
  m.impl("tied_out", halvit::tied_out_autograd);
  m.impl("tied_ffn", halvit::tied_ffn_autograd);
}
