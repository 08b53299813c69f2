// Registration. The schemas are defined from Python, before this is loaded.
#include <torch/library.h>

#include "ops.h"
#include "runtime.h"

HALVIT_REGISTER(HALVIT_DISPATCH_KEY, m) {
  m.impl("add_layer_norm", halvit::add_layer_norm);
  m.impl("add_layer_norm_backward", halvit::add_layer_norm_backward);
  m.impl("tied_qkv", halvit::tied_qkv);
  m.impl("tied_qkv_backward", halvit::tied_qkv_backward);
  m.impl("tied_out", halvit::tied_out);
  m.impl("tied_out_backward", halvit::tied_out_backward);
  m.impl("tied_ffn", halvit::tied_ffn);
  m.impl("tied_ffn_backward", halvit::tied_ffn_backward);
  m.impl("tied_ffn_inference", halvit::tied_ffn_inference);
  m.impl("pack_qkv", halvit::pack_qkv);
}

#ifdef HALVIT_BUILD_TAG
// What the loader searches the file for before it loads it.
extern "C" {
extern const char halvit_mm_build_tag[];  // or const would make it local
__attribute__((used)) const char halvit_mm_build_tag[] = HALVIT_BUILD_TAG;
}
#endif
