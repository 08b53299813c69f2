#include "activation.h"

#include "runtime.h"

namespace halvit {

void activation(Activation kind, const Tensor& u, bool is_signed,
                const Tensor& h) {
  ActivationForward p;
  p.activation = kind;
  p.u = source(u);
  p.is_signed = is_signed;
  p.h = target(h);
  p.rows = u.size(0);
  p.cols = u.size(1);
  p.stride = u.stride(0);
  TORCH_INTERNAL_ASSERT(h.stride(0) == p.stride);
  launch_activation(p, current_stream());
}

void activation_backward(Activation kind, const Tensor& dh, const Tensor& u,
                         bool is_signed, const ActivationGrads& grads) {
  ActivationBackward p;
  p.activation = kind;
  p.dh = source(dh);
  p.u = source(u);
  p.is_signed = is_signed;
  p.du = target(grads.du);
  p.h = target(grads.h);
  p.rows = u.size(0);
  p.cols = u.size(1);
  p.stride = u.stride(0);
  TORCH_INTERNAL_ASSERT(dh.stride(0) == p.stride);

  ReducePartials reduce;
  reduce.rows = activation_partials(p.rows, p.cols);
  reduce.cols = p.cols;
  Tensor partials;
  if (grads.bias.defined()) {
    partials = empty({reduce.rows, p.cols}, u, at::kFloat);
    p.partial_bias = partials.data_ptr<float>();
  }
  launch_activation_backward(p, current_stream());
  if (!grads.bias.defined()) return;
  reduce.partial[0] = p.partial_bias;
  reduce.out[0] = target(grads.bias);
  launch_reduce_partials(reduce, current_stream());
}

}  // namespace halvit
