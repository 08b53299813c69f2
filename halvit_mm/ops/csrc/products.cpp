#include "products.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

namespace halvit {

void multiply(const Tensor& x, const Tensor& w, const Tensor& bias,
              const Tensor& out) {
  Tensor result = out;
  if (bias.defined()) {
    at::addmm_out(result, bias, x, w);
  } else {
    at::mm_out(result, x, w);
  }
}

void multiply_add(const Tensor& x, const Tensor& w, const Tensor& out) {
  Tensor result = out;
  at::addmm_out(result, out, x, w);  // the same tensor: nothing is copied
}

Tensor weight_grad(const Tensor& weight,
                   std::initializer_list<std::pair<Tensor, Tensor>> pairs) {
  const auto type = weight.scalar_type();
  Tensor sum;
  for (const auto& [b, a] : pairs) {
    if (!a.defined() || !b.defined()) continue;
    if (!sum.defined()) {
      sum = at::mm(b.t(), a).to(type);
    } else if (a.scalar_type() == type) {
      multiply_add(b.t(), a, sum);
    } else {
      sum.add_(at::mm(b.t(), a));
    }
  }
  return sum.defined() ? sum : zeros(weight.sizes(), weight, type);
}

Tensor bias_grad(const Tensor& grad, const Tensor& weight, int64_t size) {
  const auto type = weight.scalar_type();
  if (!grad.defined()) return zeros({size}, weight, type);
  return at::sum(grad, {0}, /*keepdim=*/false, type);
}

}  // namespace halvit
