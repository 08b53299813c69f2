// Products that do nothing, to measure what the calls around them cost.
#include "products.h"

namespace halvit {

void multiply(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {}
void multiply_add(const Tensor&, const Tensor&, const Tensor&) {}

Tensor weight_grad(const Tensor& weight,
                   std::initializer_list<std::pair<Tensor, Tensor>>) {
  return empty(weight.sizes(), weight);
}

Tensor bias_grad(const Tensor&, const Tensor& weight, int64_t size) {
  return empty({size}, weight);
}

}  // namespace halvit
