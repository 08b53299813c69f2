#include "matmul.h"

#include <utility>

#include "activation.h"

namespace halvit {
namespace {

void run_plain(Matmul call) {
  call.epilogue = Epilogue::kNone;
  call.bias = call.aux = Tensor();
  TORCH_CHECK(lt_matmul(call), call.name, ": no plan for a plain product");
}

// Shapes: d and aux (T, m), rows at the same distance.
void run_in_steps(const Matmul& call) {
  Matmul plain = call;
  if (call.epilogue == Epilogue::kGeluAux) plain.d = call.aux;
  run_plain(plain);
  if (call.epilogue == Epilogue::kDGelu) {
    TORCH_INTERNAL_ASSERT(call.d.stride(0) == call.aux.stride(0));
    ActivationGrads grads;
    grads.du = call.d;
    grads.bias = call.bias;
    activation_backward(Activation::kGeluTanh, call.d, call.aux, false, grads);
    return;
  }
  if (call.bias.defined()) plain.d.add_(call.bias);
  if (call.epilogue == Epilogue::kNone) return;
  activation(Activation::kGeluTanh, plain.d, false, call.d);
}

}  // namespace

Matmul times_transposed(const char* name, Tensor x, Tensor w, Tensor out) {
  return {name,  w.size(0),    x.size(0),    w.size(1),     true,
          false, std::move(w), std::move(x), std::move(out)};
}

Matmul times(const char* name, Tensor x, Tensor w, Tensor out) {
  return {name,  w.size(1),    x.size(0),    w.size(0),     false,
          false, std::move(w), std::move(x), std::move(out)};
}

Matmul weight_grad(const char* name, Tensor a, Tensor b, Tensor out) {
  return {name, a.size(1),    b.size(1),    a.size(0),     false,
          true, std::move(a), std::move(b), std::move(out)};
}

void run(const Matmul& call) {
  if (lt_matmul(call)) return;
  const bool plain = call.epilogue == Epilogue::kNone && !call.bias.defined();
  TORCH_CHECK(!plain, call.name, ": no plan for a plain product");
  run_in_steps(call);
}

}  // namespace halvit
