#include "host.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace mmlocalmamba {
namespace {

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> usable;
#if defined(MMLOCALMAMBA_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    usable.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&kAvx2);
#endif
  usable.push_back(&kBaseline);
  return usable;
}

template <class T>
void add_up(const T* parts, int64_t count, int64_t size, T* sum) {
  at::parallel_for(0, size, 1 << 14, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) sum[i] = parts[i];
    for (int64_t part = 1; part < count; ++part)
      for (int64_t i = first; i < last; ++i) sum[i] += parts[part * size + i];
  });
}

}  // namespace

const std::vector<const Kernels*>& all_kernels() {
  static const std::vector<const Kernels*> usable = usable_kernels();
  return usable;
}

const Kernels*& chosen_kernels() {
  static const Kernels* chosen = all_kernels().front();
  return chosen;
}

Dtype dtype_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return Dtype::kFloat;
    case at::kDouble: return Dtype::kDouble;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kHalf;
    default: TORCH_CHECK(false, "tokens must be float32, float64, bfloat16 or float16, got ", x.scalar_type());
  }
}

at::ScalarType compute_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

at::Tensor with_unit_stride(const at::Tensor& x) {
  return x.size(-1) > 1 && x.stride(-1) != 1 ? x.contiguous() : x;
}

Tokens tokens(const at::Tensor& x) {
  return {x.data_ptr(), x.stride(0), x.stride(1), x.dim() == 4 ? x.stride(2) : 0};
}

Tokens output_tokens(const at::Tensor& y) {
  return {y.data_ptr(), y.stride(0), y.stride(2), y.stride(1)};
}

at::Tensor sum_of_parts(const at::Tensor& parts, at::ScalarType dtype) {
  if (parts.size(0) == 1) return parts[0].to(dtype);
  if (parts.size(0) == 0) return at::zeros(parts.sizes().slice(1), parts.options().dtype(dtype));
  at::Tensor sum = at::empty(parts.sizes().slice(1), parts.options());
  if (parts.scalar_type() == at::kDouble) {
    add_up(parts.data_ptr<double>(), parts.size(0), sum.numel(), sum.data_ptr<double>());
  } else {
    add_up(parts.data_ptr<float>(), parts.size(0), sum.numel(), sum.data_ptr<float>());
  }
  return sum.to(dtype);
}

void for_tasks(int64_t tasks, const std::function<void(int64_t, int64_t)>& work) {
  if (tasks > 0) at::parallel_for(0, tasks, 1, work);
}

int64_t blocks_of(const at::Tensor& x) {
  const int64_t width = chosen_kernels()->block(dtype_of(x));
  return (x.size(-1) + width - 1) / width;
}

void check_order(const at::Tensor& order, int64_t num_tokens) {
  const int32_t* index = order.data_ptr<int32_t>();
  int32_t highest = -1;
  for (int64_t i = 0; i < order.numel(); ++i) highest = std::max(highest, index[i]);
  TORCH_CHECK(highest < num_tokens, "order holds ", highest, ", but there are only ", num_tokens, " tokens");
}

}  // namespace mmlocalmamba
