// The operators for the CPU, of the sources in ops/csrc as they are: the
// products and the language of the kernels are all that is replaced. One
// translation unit, because PyTorch's headers take most of the time.
#include "activation.cpp"
#include "add_layer_norm.cpp"
#include "autograd.cpp"
#include "common.cpp"
#include "cuda/activation.cu"
#include "cuda/add_layer_norm.cu"
#include "cuda/add_layer_norm_backward.cu"
#include "cuda/cast.cu"
#include "cuda/reduce.cu"
#include "emulation.cpp"
#include "library.cpp"
#include "products.cpp"
#include "tied_ffn.cpp"
#include "tied_projection.cpp"
