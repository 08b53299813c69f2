#include "activation.h"

#include "runtime.h"

namespace halvit {

void activation(Activation kind, const Tensor& u, const Tensor& gain,
                bool is_signed, const Tensor& h) {
  ActivationForward p;
  p.activation = kind;
  p.u = source(u);
  p.gain = source(gain);
  p.is_signed = is_signed;
  p.h = target(h);
  p.rows = u.size(0);
  p.cols = u.size(1);
  p.stride = u.stride(0);
  TORCH_INTERNAL_ASSERT(h.stride(0) == p.stride);
  launch_activation(p, current_stream());
}

void activation_backward(Activation kind, const Tensor& dh, const Tensor& u,
                         const Tensor& gain, bool is_signed,
                         const ActivationGrads& grads) {
  ActivationBackward p;
  p.activation = kind;
  p.dh = source(dh);
  p.u = source(u);
  p.gain = source(gain);
  p.is_signed = is_signed;
  p.du = target(grads.du);
  p.h = target(grads.h);
  p.rows = u.size(0);
  p.cols = u.size(1);
  p.stride = u.stride(0);
  TORCH_INTERNAL_ASSERT(dh.stride(0) == p.stride);

  const bool sums = grads.bias.defined() || grads.gain.defined();
  ReducePartials reduce;
  reduce.rows = activation_partials(p.rows, p.cols);
  reduce.cols = p.cols;
  Tensor partials;
  if (sums) partials = empty({2, reduce.rows, p.cols}, u, at::kFloat);
  if (grads.bias.defined()) p.partial_bias = partials[0].data_ptr<float>();
  if (grads.gain.defined()) p.partial_gain = partials[1].data_ptr<float>();
  launch_activation_backward(p, current_stream());
  if (!sums) return;
  reduce.partial[0] = p.partial_bias;
  reduce.partial[1] = p.partial_gain;
  reduce.out[0] = target(grads.bias);
  reduce.out[1] = target(grads.gain);
  launch_reduce_partials(reduce, current_stream());
}

}  // namespace halvit
