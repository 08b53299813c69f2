// Checks, layout and dtypes of the operators' arguments.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <optional>

#include "kernels.h"

namespace halvit {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

// Inside an operator: its device is current, and the calls to ATen neither
// record gradients nor cast.
class OpScope {
 public:
  explicit OpScope(const Tensor& x)
      : device_(x.device()), autocast_(c10::autocast_dispatch_keyset) {}

 private:
  c10::DeviceGuard device_;
  at::AutoDispatchBelowADInplaceOrView below_autograd_;
  c10::impl::ExcludeDispatchKeyGuard autocast_;
};

// Throws unless the dtype is float32, float16 or bfloat16.
Dtype to_dtype(at::ScalarType type);

// Device, dtype and sizes of an argument of an operator.
void check(const char* op, const char* name, const Tensor& tensor,
           const Tensor& reference, at::IntArrayRef sizes);
void check(const char* op, const char* name, const OptTensor& tensor,
           const Tensor& reference, at::IntArrayRef sizes);
// A first argument (..., D), D a multiple of 8, on the right device.
void check_rows(const char* op, const char* name, const Tensor& x);
// The number of flags that tell which gradients are needed.
void check_needs(const char* op, const c10::List<bool>& needs, size_t count);

inline bool has(const OptTensor& tensor) {
  return tensor.has_value() && tensor->defined();
}

// The same values, contiguous and aligned for 16-byte accesses.
Tensor dense(const Tensor& tensor);
// dense(), with the leading dimensions made one: (..., D) -> (T, D).
Tensor dense_rows(const Tensor& x);
// The same for a gradient: in x's dtype; undefined stays undefined.
Tensor dense_grad(const char* op, const char* name, const OptTensor& grad,
                  const Tensor& x);

Tensor empty(at::IntArrayRef sizes, const Tensor& like, at::ScalarType type);
inline Tensor empty(at::IntArrayRef sizes, const Tensor& like) {
  return empty(sizes, like, like.scalar_type());
}
// What an operator returns for a tensor that is not needed.
inline Tensor nothing(const Tensor& like) { return empty({0}, like); }
Tensor zeros(at::IntArrayRef sizes, const Tensor& like, at::ScalarType type);

inline ConstView source(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.const_data_ptr(), to_dtype(tensor.scalar_type())};
}
inline View target(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.mutable_data_ptr(), to_dtype(tensor.scalar_type())};
}

// Collects tensors to be cast to one dtype, then casts all in one launch.
class Caster {
 public:
  explicit Caster(const Tensor& like) : like_(like) {}

  // The tensor itself where the dtype fits already; without run(), what is
  // returned otherwise has no values yet. Undefined stays undefined.
  Tensor operator()(const OptTensor& tensor);
  // Into `out`, of any dtype, transposed where asked; always a copy.
  void into(const Tensor& tensor, const Tensor& out, bool transposed = false);
  void run();

 private:
  Tensor like_;
  CastSegments job_;
  std::vector<Tensor> sources_;  // alive until the launch
};

}  // namespace halvit
