// cublasLt's product on a CPU, from the same description of the call.
//
// Column-major: D (m, n) = epilogue(alpha op(A) op(B) + beta D).
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "host.h"
#include "matmul.h"

namespace halvit {
namespace {

std::string record_text, record_given;
bool refuses = false;

float gelu_tanh(double x, bool slope) {
  const double c = std::sqrt(2.0 / M_PI);
  const double t = std::tanh(c * (x + 0.044715 * x * x * x));
  if (!slope) return static_cast<float>(0.5 * x * (1 + t));
  return static_cast<float>(0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c *
                                                (1 + 3 * 0.044715 * x * x));
}

float get(const Tensor& tensor, int64_t index) {
  const void* data = tensor.const_data_ptr();
  switch (to_dtype(tensor.scalar_type())) {
    case Dtype::kFloat32:
      return static_cast<const float*>(data)[index];
    case Dtype::kFloat16:
      return static_cast<const c10::Half*>(data)[index];
    default:
      return static_cast<const c10::BFloat16*>(data)[index];
  }
}

void put(const Tensor& tensor, int64_t index, float value) {
  void* data = tensor.mutable_data_ptr();
  switch (to_dtype(tensor.scalar_type())) {
    case Dtype::kFloat32:
      static_cast<float*>(data)[index] = value;
      return;
    case Dtype::kFloat16:
      static_cast<c10::Half*>(data)[index] = value;
      return;
    default:
      static_cast<c10::BFloat16*>(data)[index] = value;
  }
}

// A matrix of `rows` by `cols`, column-major, must lie inside its storage.
void check_operand(const char* name, const Tensor& tensor, int64_t rows,
                   int64_t cols, int64_t ld) {
  const auto size = static_cast<int64_t>(tensor.storage().nbytes()) /
                        static_cast<int64_t>(tensor.element_size()) -
                    tensor.storage_offset();
  TORCH_CHECK(
      rows > 0 && cols > 0 && ld >= rows && ld * (cols - 1) + rows <= size,
      name, ": (", rows, ", ", cols, "), ld ", ld, " of ", size);
  const auto address = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  TORCH_CHECK(address % 16 == 0, name, " is not aligned");
}

// op(X) as rows of k values: A (m, k), and B's transpose (n, k).
std::vector<float> rows_of_k(const Tensor& x, int64_t rows, int64_t k,
                             int64_t row_step, int64_t k_step) {
  std::vector<float> out(rows * k);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t p = 0; p < k; ++p) {
      out[i * k + p] = get(x, i * row_step + p * k_step);
    }
  }
  return out;
}

void check_call(const Matmul& c) {
  check_operand("A", c.a, c.trans_a ? c.k : c.m, c.trans_a ? c.m : c.k,
                c.lda());
  check_operand("B", c.b, c.trans_b ? c.n : c.k, c.trans_b ? c.k : c.n,
                c.ldb());
  check_operand("D", c.d, c.m, c.n, c.ldd());
  TORCH_CHECK(c.a.scalar_type() == c.b.scalar_type());
  TORCH_CHECK(c.d.scalar_type() == c.a.scalar_type() ||
              c.d.scalar_type() == at::kFloat);
  TORCH_CHECK(!c.d.is_alias_of(c.a) && !c.d.is_alias_of(c.b));
  if (c.bias.defined()) {
    TORCH_CHECK(c.bias.sizes() == at::IntArrayRef({c.m}));
    TORCH_CHECK(c.bias.scalar_type() == c.d.scalar_type());
    TORCH_CHECK(!c.d.is_alias_of(c.bias));
    check_operand("bias", c.bias, c.m, 1, c.m);
  }
  const bool needs_aux =
      c.epilogue == Epilogue::kGeluAux || c.epilogue == Epilogue::kDGelu;
  TORCH_CHECK(c.aux.defined() == needs_aux);
  if (needs_aux) {
    TORCH_CHECK(c.aux.stride(0) % 8 == 0);
    TORCH_CHECK(c.aux.scalar_type() == c.d.scalar_type());
    TORCH_CHECK(!c.d.is_alias_of(c.aux));
    check_operand("aux", c.aux, c.m, c.n, c.aux.stride(0));
  }
}

}  // namespace

void record_launch(const char* kernel) {
  record_text += std::string(kernel) + "\n";
}

bool lt_matmul(const Matmul& c) {
  check_call(c);
  const bool has_bias = c.bias.defined();
  if (refuses && (c.epilogue != Epilogue::kNone || has_bias)) return false;
  std::ostringstream line;
  line << "matmul " << c.m << ' ' << c.n << ' ' << c.k << ' ' << "NT"[c.trans_a]
       << "NT"[c.trans_b] << ' ' << static_cast<int>(c.epilogue) << ' '
       << has_bias << ' ' << c.alpha << ' ' << c.beta << ' '
       << c.d.scalar_type() << '\n';
  record_text += line.str();

  const auto a = rows_of_k(c.a, c.m, c.k, c.trans_a ? c.lda() : 1,
                           c.trans_a ? 1 : c.lda());
  const auto b = rows_of_k(c.b, c.n, c.k, c.trans_b ? 1 : c.ldb(),
                           c.trans_b ? c.ldb() : 1);
  const bool backward = c.epilogue == Epilogue::kDGelu;
  std::vector<float> bias_grad(c.m, 0.f);
  for (int64_t j = 0; j < c.n; ++j) {
    for (int64_t i = 0; i < c.m; ++i) {
      float value = 0.f;
      for (int64_t p = 0; p < c.k; ++p)
        value += a[i * c.k + p] * b[j * c.k + p];
      value *= c.alpha;
      const int64_t at = j * c.ldd() + i;
      if (c.beta != 0.f) value += c.beta * get(c.d, at);
      if (has_bias && !backward) value += get(c.bias, i);
      if (c.epilogue == Epilogue::kGeluAux) {
        put(c.aux, j * c.aux.stride(0) + i, value);
      }
      if (backward) {
        value *= gelu_tanh(get(c.aux, j * c.aux.stride(0) + i), true);
        bias_grad[i] += value;
      } else if (c.epilogue != Epilogue::kNone) {
        value = gelu_tanh(value, false);
      }
      put(c.d, at, value);
    }
  }
  if (backward && has_bias) {
    for (int64_t i = 0; i < c.m; ++i) put(c.bias, i, bias_grad[i]);
  }
  return true;
}

}  // namespace halvit

const char* halvit_host_record() {
  halvit::record_given.swap(halvit::record_text);
  halvit::record_text.clear();
  return halvit::record_given.c_str();
}

void halvit_host_refuse(int refuse) { halvit::refuses = refuse != 0; }
