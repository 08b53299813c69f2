// Element-wise part of the hidden units: h = s * act(u).
#pragma once

#include "common.h"

namespace halvit {

// Shapes: u and h (T, F), the same distance from row to row; `is_signed`: s is
// -1 in the second half of the columns, else it is 1.
void activation(Activation kind, const Tensor& u, bool is_signed,
                const Tensor& h);

// Where to put the gradients; undefined: not wanted.
struct ActivationGrads {
  Tensor du, h;  // (T, F); du may be dh
  Tensor bias;   // (F,) sum of du over the tokens
};

void activation_backward(Activation kind, const Tensor& dh, const Tensor& u,
                         bool is_signed, const ActivationGrads& grads);

}  // namespace halvit
