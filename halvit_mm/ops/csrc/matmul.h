// Matrix products of the tied layers, as cublasLt sees them.
//
// cublasLt is column-major: D (m, n) = epilogue(alpha op(A) op(B) + beta D),
// with op(A) (m, k) and op(B) (k, n). A row-major (r, c) tensor is a
// column-major (c, r) one with leading dimension stride(0), so three layouts
// serve every product here:
//
//   product                  m  n  k  A     B     D
//   x (T, K) w^T, w (N, K)   N  T  K  w, T  x, N  out (T, N)
//   x (T, K) w,   w (K, N)   N  T  K  w, N  x, N  out (T, N)
//   b^T a, b (T, O), a (T, I)  I  O  T  a, N  b, T  out (O, I)
#pragma once

#include "common.h"

namespace halvit {

enum class Epilogue {
  kNone,
  kGelu,     // d = gelu(. + bias), tanh form
  kGeluAux,  // the same, and aux = . + bias
  kDGelu,    // d = . * gelu'(aux), bias = the sum of d over the tokens
};

struct Matmul {
  const char* name;  // of the operator, for messages
  int64_t m, n, k;
  bool trans_a, trans_b;
  Tensor a, b, d;  // 2-D, unit stride in the last dimension
  float alpha = 1.f, beta = 0.f;
  Epilogue epilogue = Epilogue::kNone;
  Tensor bias;  // (m,), in d's dtype; undefined for none
  Tensor aux;   // as d

  int64_t lda() const { return a.stride(0); }
  int64_t ldb() const { return b.stride(0); }
  int64_t ldd() const { return d.stride(0); }
};

// The three layouts; `out` is written. Change what is returned, then run().
Matmul times_transposed(const char* name, Tensor x, Tensor w, Tensor out);
Matmul times(const char* name, Tensor x, Tensor w, Tensor out);
Matmul weight_grad(const char* name, Tensor a, Tensor b, Tensor out);

// Runs the product; where no plan has its epilogue, in separate steps.
void run(const Matmul& call);

// One call of cublasLt. False where it has no plan for the epilogue; a product
// without epilogue that has no plan throws, as every other failure does.
bool lt_matmul(const Matmul& call);

}  // namespace halvit
