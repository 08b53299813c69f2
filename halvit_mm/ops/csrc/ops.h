// The operators; their schemas, shapes and meaning are in the Python files
// of the same names.
#pragma once

#include <c10/util/string_view.h>

#include <string>
#include <tuple>

#include "common.h"

namespace halvit {

using Needs = c10::List<bool>;
using Tensors2 = std::tuple<Tensor, Tensor>;
using Tensors3 = std::tuple<Tensor, Tensor, Tensor>;
using Tensors4 = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Tensors6 = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Tensors4 add_layer_norm(const Tensor& residual, const OptTensor& delta,
                        const OptTensor& row_scale, const Tensor& weight,
                        const Tensor& bias, double eps, at::ScalarType dtype);
Tensors4 add_layer_norm_backward(const OptTensor& grad_residual,
                                 const OptTensor& grad_y,
                                 const Tensor& residual, const Tensor& mean,
                                 const Tensor& rstd, const Tensor& weight,
                                 const OptTensor& row_scale,
                                 at::ScalarType delta_dtype, Needs needs);

Tensors4 tied_qkv(const Tensor& x, const Tensor& wq, const Tensor& wkv,
                  const OptTensor& bq, const OptTensor& bk,
                  const OptTensor& bv);
Tensors6 tied_qkv_backward(const OptTensor& dq, const OptTensor& dk,
                           const OptTensor& dv, const Tensor& x,
                           const Tensor& wq, const Tensor& wkv,
                           const Tensor& packed, Needs needs);
Tensor tied_out(const Tensor& o, const Tensor& wq, const Tensor& packed,
                const OptTensor& bias);
Tensors3 tied_out_backward(const Tensor& g, const Tensor& o, const Tensor& wq,
                           const Tensor& packed, Needs needs);
Tensor pack_qkv(const Tensor& wq, const Tensor& wkv, at::ScalarType dtype);

Tensors3 tied_ffn(const Tensor& x, const Tensor& w, const OptTensor& b1,
                  const OptTensor& b2, bool is_signed,
                  c10::string_view approximate);
Tensors4 tied_ffn_backward(const Tensor& g, const Tensor& x, const Tensor& u,
                           const Tensor& w, const Tensor& w_cast,
                           bool is_signed, c10::string_view approximate,
                           Needs needs);
Tensor tied_ffn_inference(const Tensor& x, const Tensor& w, const OptTensor& b1,
                          const OptTensor& b2, bool is_signed,
                          c10::string_view approximate);

}  // namespace halvit
