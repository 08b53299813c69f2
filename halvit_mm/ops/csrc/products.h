// Matrix products of the tied layers, by ATen: its addmm adds a bias in
// cuBLAS's epilogue, and a transposed view costs no copy.
#pragma once

#include "common.h"

namespace halvit {

// out = x w + bias; x (T, K), w (K, N), any of both a transposed view; bias
// (N,), undefined for none.
void multiply(const Tensor& x, const Tensor& w, const Tensor& bias,
              const Tensor& out);
// out += x w.
void multiply_add(const Tensor& x, const Tensor& w, const Tensor& out);

// The gradient of a weight (O, I): the sum of b^T a over the pairs (b, a),
// b (T, O), a (T, I), whose tensors are defined. Each product has their dtype,
// the sum that of the weight.
Tensor weight_grad(const Tensor& weight,
                   std::initializer_list<std::pair<Tensor, Tensor>> pairs);
// The gradient of a bias, in the dtype of its matrix, added up in float32:
// grad (T, N) -> (N,). Undefined: zeros.
Tensor bias_grad(const Tensor& grad, const Tensor& weight, int64_t size);

}  // namespace halvit
