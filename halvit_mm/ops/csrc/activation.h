// Element-wise part of the hidden units: h = gain * act(u).
#pragma once

#include "common.h"

namespace halvit {

// Shapes: u and h (T, F), the same distance from row to row; gain (F,) or
// undefined; `is_signed`: the second half of the columns counts negative.
void activation(Activation kind, const Tensor& u, const Tensor& gain,
                bool is_signed, const Tensor& h);

// Where to put the gradients; undefined: not wanted.
struct ActivationGrads {
  Tensor du, h;  // (T, F); du may be dh
  Tensor bias;   // (F,) sum of du over the tokens
  Tensor gain;   // (F,) sum of dh * act(u)
};

void activation_backward(Activation kind, const Tensor& dh, const Tensor& u,
                         const Tensor& gain, bool is_signed,
                         const ActivationGrads& grads);

}  // namespace halvit
