#include "common.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "runtime.h"

namespace halvit {

Dtype to_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Dtype::kFloat32;
    case at::kHalf:
      return Dtype::kFloat16;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    default:
      TORCH_CHECK(false, "halvit: expected float32, float16 or bfloat16, got ",
                  type);
  }
}

void check(const char* op, const char* name, const Tensor& tensor,
           const Tensor& reference, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.device() == reference.device(), op, ": ", name, " is on ",
              tensor.device(), ", the first argument on ", reference.device());
  to_dtype(tensor.scalar_type());
  TORCH_CHECK(tensor.sizes() == sizes, op, ": ", name, " has shape ",
              tensor.sizes(), ", expected ", sizes);
}

void check(const char* op, const char* name, const OptTensor& tensor,
           const Tensor& reference, at::IntArrayRef sizes) {
  if (has(tensor)) check(op, name, *tensor, reference, sizes);
}

void check_rows(const char* op, const char* name, const Tensor& x) {
  TORCH_CHECK(x.device().type() == kDeviceType, op, ": ", name, " is on ",
              x.device(), ", expected ", kDeviceType);
  to_dtype(x.scalar_type());
  TORCH_CHECK(x.dim() >= 1, op, ": ", name, " has no dimensions");
  TORCH_CHECK(x.size(-1) > 0 && x.size(-1) % 8 == 0, op, ": ", name,
              " has a last dimension of ", x.size(-1),
              ", expected a positive multiple of 8");
}

void check_needs(const char* op, const c10::List<bool>& needs, size_t count) {
  TORCH_CHECK(needs.size() == count, op, ": needs has ", needs.size(),
              " entries, expected ", count);
}

Tensor dense(const Tensor& tensor) {
  const Tensor result = tensor.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(result.const_data_ptr());
  return address % 16 == 0 ? result
                           : result.clone(at::MemoryFormat::Contiguous);
}

Tensor dense_rows(const Tensor& x) {
  const int64_t cols = x.size(-1);
  return dense(x).view({x.numel() / cols, cols});
}

Tensor dense_grad(const char* op, const char* name, const OptTensor& grad,
                  const Tensor& x) {
  if (!has(grad)) return {};
  check(op, name, *grad, x, x.sizes());
  return dense_rows(grad->to(x.scalar_type()));
}

Tensor empty(at::IntArrayRef sizes, const Tensor& like, at::ScalarType type) {
  return at::empty(sizes, like.options().dtype(type));
}

Tensor zeros(at::IntArrayRef sizes, const Tensor& like, at::ScalarType type) {
  return at::zeros(sizes, like.options().dtype(type));
}

Tensor Caster::operator()(const OptTensor& tensor) {
  if (!has(tensor)) return {};
  if (tensor->scalar_type() == like_.scalar_type()) return dense(*tensor);
  const Tensor out = empty(tensor->sizes(), like_);
  into(*tensor, out);
  return out;
}

void Caster::into(const Tensor& tensor, const Tensor& out, bool transposed) {
  TORCH_INTERNAL_ASSERT(job_.count < kMaxSegments);
  sources_.push_back(dense(tensor));
  CastSegment& segment = job_.segment[job_.count++];
  segment.src = source(sources_.back());
  segment.dst = target(out);
  segment.cols = tensor.size(-1);
  segment.rows = tensor.numel() / segment.cols;
  segment.transposed = transposed;
}

void Caster::run() {
  if (job_.count > 0) launch_cast(job_, current_stream());
  sources_.clear();
  job_.count = 0;
}

}  // namespace halvit
