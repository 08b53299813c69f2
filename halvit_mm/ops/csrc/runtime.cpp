// The GPU's side of runtime.h and of check_launch().
#include "runtime.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace halvit {

Stream current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  TORCH_CHECK(status == cudaSuccess, "halvit: launch of ", kernel,
              " failed: ", cudaGetErrorString(status));
  C10_CUDA_KERNEL_LAUNCH_CHECK();  // waits under CUDA_LAUNCH_BLOCKING=1
}

}  // namespace halvit
