#include "lt_library.h"

#include <c10/util/Exception.h>
#include <cuda.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <string>

namespace halvit {
namespace {

LtLibrary open_library() {
  const std::string file =
      "libcublasLt.so." + std::to_string(CUDA_VERSION / 1000);
  void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(handle, "halvit: cannot open ", file, ": ", dlerror());
  LtLibrary library;
  const auto find = [&](auto& function, const char* name) {
    void* const address = dlsym(handle, name);
    TORCH_CHECK(address, "halvit: ", file, " has no ", name);
    function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
  };
#define HALVIT_FIND(name) find(library.name, #name)
  HALVIT_FIND(cublasLtCreate);
  HALVIT_FIND(cublasLtGetStatusString);
  HALVIT_FIND(cublasLtMatmul);
  HALVIT_FIND(cublasLtMatmulAlgoGetHeuristic);
  HALVIT_FIND(cublasLtMatmulDescCreate);
  HALVIT_FIND(cublasLtMatmulDescDestroy);
  HALVIT_FIND(cublasLtMatmulDescSetAttribute);
  HALVIT_FIND(cublasLtMatmulPreferenceCreate);
  HALVIT_FIND(cublasLtMatmulPreferenceDestroy);
  HALVIT_FIND(cublasLtMatmulPreferenceSetAttribute);
  HALVIT_FIND(cublasLtMatrixLayoutCreate);
  HALVIT_FIND(cublasLtMatrixLayoutDestroy);
#undef HALVIT_FIND
  return library;
}

}  // namespace

const LtLibrary& lt() {
  static const LtLibrary library = open_library();
  return library;
}

void lt_check(cublasStatus_t status, const char* what, const char* product) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  TORCH_CHECK(false, "halvit: ", what, " failed for ", product, ": ",
              lt().cublasLtGetStatusString(status));
}

cublasLtHandle_t lt_handle(int device) {
  // Never freed: the driver may be gone when static objects are destroyed.
  static auto* const handles = new std::map<int, cublasLtHandle_t>();
  static auto* const mutex = new std::mutex();
  const std::lock_guard<std::mutex> lock(*mutex);
  cublasLtHandle_t& handle = (*handles)[device];
  if (!handle) {
    lt_check(lt().cublasLtCreate(&handle), "cublasLtCreate", "the handle");
  }
  return handle;
}

}  // namespace halvit
