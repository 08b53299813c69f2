// cublasLt, opened at run time: PyTorch has it loaded already, and a link
// against it would tie the build to one place of the library.
#pragma once

#include <cublasLt.h>

namespace halvit {

struct LtLibrary {
#define HALVIT_LT(name) decltype(&::name) name = nullptr
  HALVIT_LT(cublasLtCreate);
  HALVIT_LT(cublasLtGetStatusString);
  HALVIT_LT(cublasLtMatmul);
  HALVIT_LT(cublasLtMatmulAlgoGetHeuristic);
  HALVIT_LT(cublasLtMatmulDescCreate);
  HALVIT_LT(cublasLtMatmulDescDestroy);
  HALVIT_LT(cublasLtMatmulDescSetAttribute);
  HALVIT_LT(cublasLtMatmulPreferenceCreate);
  HALVIT_LT(cublasLtMatmulPreferenceDestroy);
  HALVIT_LT(cublasLtMatmulPreferenceSetAttribute);
  HALVIT_LT(cublasLtMatrixLayoutCreate);
  HALVIT_LT(cublasLtMatrixLayoutDestroy);
#undef HALVIT_LT
};

// Opened on the first call; throws when it is not there.
const LtLibrary& lt();

// The handle of the current device, whose index is given; made on first use.
cublasLtHandle_t lt_handle(int device);

// Throws on a failure, naming the call and the product.
void lt_check(cublasStatus_t status, const char* what, const char* product);

}  // namespace halvit
