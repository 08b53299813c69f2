// What differs between a GPU and the emulation on a CPU that the tests build:
// the device type, the current stream and the dispatch keys.
#pragma once

#include <c10/core/DeviceType.h>

#include "kernels.h"

#ifdef HALVIT_HOST_EMULATION
#define HALVIT_DISPATCH_KEY CPU
#define HALVIT_AUTOGRAD_KEY AutogradCPU
#else
#define HALVIT_DISPATCH_KEY CUDA
#define HALVIT_AUTOGRAD_KEY AutogradCUDA
#endif
// The keys are macros themselves: one step for them to be replaced.
#define HALVIT_REGISTER(key, m) TORCH_LIBRARY_IMPL(halvit, key, m)

namespace halvit {

#ifdef HALVIT_HOST_EMULATION
constexpr c10::DeviceType kDeviceType = c10::DeviceType::CPU;
#else
constexpr c10::DeviceType kDeviceType = c10::DeviceType::CUDA;
#endif

// The stream that PyTorch works on now, on the current device.
Stream current_stream();

}  // namespace halvit
