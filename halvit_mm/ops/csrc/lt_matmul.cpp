// One product through cublasLt, with a plan that is looked up once a shape.
//
// Shapes and the column-major convention: matmul.h.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>

#include "lru_cache.h"
#include "lt_library.h"
#include "matmul.h"
#include "runtime.h"

namespace halvit {
namespace {

constexpr size_t kMaxPlans = 512;  // detection has many token counts
constexpr int64_t kAlignment = 256;

using Key = std::array<int64_t, 18>;

template <typename T, cublasStatus_t (*LtLibrary::*kDestroy)(T)>
struct Destroy {
  void operator()(T handle) const { (lt().*kDestroy)(handle); }
};
using Desc = std::unique_ptr<
    cublasLtMatmulDescOpaque_t,
    Destroy<cublasLtMatmulDesc_t, &LtLibrary::cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<
    cublasLtMatrixLayoutOpaque_t,
    Destroy<cublasLtMatrixLayout_t, &LtLibrary::cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                    Destroy<cublasLtMatmulPreference_t,
                            &LtLibrary::cublasLtMatmulPreferenceDestroy>>;

struct Plan {
  bool found = false;
  cublasLtMatmulAlgo_t algo;
  size_t workspace = 0;
  Layout a, b, d;
};

// The name and the size of a product, for messages.
std::string describe(const Matmul& call) {
  std::ostringstream text;
  text << call.name << " (m, n, k) = (" << call.m << ", " << call.n << ", "
       << call.k << "), " << call.a.scalar_type() << " -> "
       << call.d.scalar_type();
  return text.str();
}

void check_status(cublasStatus_t status, const char* what, const Matmul& call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    lt_check(status, what, describe(call).c_str());
  }
}

cudaDataType_t data_type(const Tensor& tensor) {
  switch (to_dtype(tensor.scalar_type())) {
    case Dtype::kFloat32:
      return CUDA_R_32F;
    case Dtype::kFloat16:
      return CUDA_R_16F;
    default:
      return CUDA_R_16BF;
  }
}

bool allows_tf32() {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 11
  return at::globalContext().float32Precision(at::Float32Backend::CUDA,
                                              at::Float32Op::MATMUL) ==
         at::Float32Precision::TF32;
#else
  return at::globalContext().allowTF32CuBLAS();
#endif
}

cublasComputeType_t compute_type(const Matmul& call) {
  return call.a.scalar_type() == at::kFloat && allows_tf32()
             ? CUBLAS_COMPUTE_32F_FAST_TF32
             : CUBLAS_COMPUTE_32F;
}

cublasLtEpilogue_t epilogue(const Matmul& call) {
  const bool bias = call.bias.defined();
  switch (call.epilogue) {
    case Epilogue::kGelu:
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case Epilogue::kGeluAux:
      return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                  : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::kDGelu:
      return bias ? CUBLASLT_EPILOGUE_DGELU_BGRAD : CUBLASLT_EPILOGUE_DGELU;
    default:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

uint64_t address(const Tensor& tensor) {
  return tensor.defined() ? reinterpret_cast<uint64_t>(tensor.const_data_ptr())
                          : 0;
}

// The largest power of two, up to 256, that divides the address.
int64_t alignment(const Tensor& tensor) {
  const uint64_t bits = address(tensor) | kAlignment;
  return static_cast<int64_t>(bits & ~(bits - 1));
}

Key make_key(const Matmul& call, int device) {
  return {device,
          call.m,
          call.n,
          call.k,
          call.trans_a * 2 + call.trans_b,
          call.lda(),
          call.ldb(),
          call.ldd(),
          call.aux.defined() ? call.aux.stride(0) : 0,
          data_type(call.a),
          data_type(call.d),
          compute_type(call),
          epilogue(call),
          call.beta != 0.f,
          alignment(call.a),
          alignment(call.b),
          alignment(call.d),
          std::min(alignment(call.bias), alignment(call.aux))};
}

// Made for each call: it holds the pointers of bias and aux.
Desc make_desc(const Matmul& call) {
  cublasLtMatmulDesc_t raw = nullptr;
  check_status(
      lt().cublasLtMatmulDescCreate(&raw, compute_type(call), CUDA_R_32F),
      "cublasLtMatmulDescCreate", call);
  Desc desc(raw);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute,
                       const auto& value) {
    check_status(lt().cublasLtMatmulDescSetAttribute(raw, attribute, &value,
                                                     sizeof(value)),
                 "cublasLtMatmulDescSetAttribute", call);
  };
  const cublasOperation_t trans_a = call.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t trans_b = call.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(CUBLASLT_MATMUL_DESC_TRANSA, trans_a);
  set(CUBLASLT_MATMUL_DESC_TRANSB, trans_b);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(call));
  if (call.bias.defined()) {
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, address(call.bias));
  }
  if (call.aux.defined()) {
    const int64_t ld = call.aux.stride(0);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, address(call.aux));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
  }
  return desc;
}

Layout make_layout(const Tensor& tensor, int64_t rows, int64_t cols, int64_t ld,
                   const Matmul& call) {
  cublasLtMatrixLayout_t raw = nullptr;
  check_status(
      lt().cublasLtMatrixLayoutCreate(&raw, data_type(tensor), rows, cols, ld),
      "cublasLtMatrixLayoutCreate", call);
  return Layout(raw);
}

size_t workspace_limit(int device) {
  int major = 0;
  const cudaError_t status =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  TORCH_CHECK(status == cudaSuccess, "halvit: compute capability of device ",
              device, ": ", cudaGetErrorString(status));
  return size_t{major >= 9 ? 32u : 4u} << 20;
}

Preference make_preference(const Matmul& call, int device) {
  cublasLtMatmulPreference_t raw = nullptr;
  check_status(lt().cublasLtMatmulPreferenceCreate(&raw),
               "cublasLtMatmulPreferenceCreate", call);
  Preference preference(raw);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute,
                       const auto& value) {
    check_status(lt().cublasLtMatmulPreferenceSetAttribute(
                     raw, attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute", call);
  };
  const auto bytes = [](const Tensor& tensor) {
    return static_cast<uint32_t>(alignment(tensor));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_limit(device));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes(call.a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes(call.b));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes(call.d));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes(call.d));
  // Parts of a split sum are never added up in 16 bits.
  const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
  return preference;
}

std::shared_ptr<const Plan> make_plan(const Matmul& call, const Desc& desc,
                                      int device) {
  auto plan = std::make_shared<Plan>();
  plan->a = make_layout(call.a, call.trans_a ? call.k : call.m,
                        call.trans_a ? call.m : call.k, call.lda(), call);
  plan->b = make_layout(call.b, call.trans_b ? call.n : call.k,
                        call.trans_b ? call.k : call.n, call.ldb(), call);
  plan->d = make_layout(call.d, call.m, call.n, call.ldd(), call);
  const Preference preference = make_preference(call, device);
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  const cublasStatus_t status = lt().cublasLtMatmulAlgoGetHeuristic(
      lt_handle(device), desc.get(), plan->a.get(), plan->b.get(),
      plan->d.get(), plan->d.get(), preference.get(), 1, &result, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) {
    check_status(status, "cublasLtMatmulAlgoGetHeuristic", call);
    plan->found = count > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  }
  plan->algo = result.algo;
  plan->workspace = result.workspaceSize;
  return plan;
}

using PlanCache = LruCache<Key, std::shared_ptr<const Plan>>;

PlanCache& plans() {
  static auto* const cache = new PlanCache(kMaxPlans);  // see lt_handle()
  return *cache;
}

}  // namespace

bool lt_matmul(const Matmul& call) {
  const int device = call.d.get_device();
  const Desc desc = make_desc(call);
  const Key key = make_key(call, device);
  std::shared_ptr<const Plan> plan;
  if (!plans().find(key, plan)) {
    plan = make_plan(call, desc, device);
    plans().add(key, plan);
  }
  const bool plain = call.epilogue == Epilogue::kNone && !call.bias.defined();
  TORCH_CHECK(plan->found || !plain, "halvit: cublasLt has no plan for ",
              describe(call));
  if (!plan->found) return false;

  // From the caching allocator: aligned to 512 bytes, reused in stream order.
  const Tensor workspace =
      empty({static_cast<int64_t>(plan->workspace)}, call.d, at::kByte);
  TORCH_INTERNAL_ASSERT(address(workspace) % kAlignment == 0);
  const Tensor& d = call.d;
  void* const out = d.mutable_data_ptr();
  check_status(
      lt().cublasLtMatmul(
          lt_handle(device), desc.get(), &call.alpha, call.a.const_data_ptr(),
          plan->a.get(), call.b.const_data_ptr(), plan->b.get(), &call.beta,
          out, plan->d.get(), out, plan->d.get(), &plan->algo,
          workspace.mutable_data_ptr(), plan->workspace, current_stream()),
      "cublasLtMatmul", call);
  return true;
}

}  // namespace halvit
