// Adding to the residual stream, rotating it and RMSNorm of it, on tensors.
#include "bindings.h"
#include "host.h"

namespace mmlocalmamba {
namespace {

struct AddNormInputs {
  at::Tensor weight, cos, sin;
  at::TensorOptions compute;
  AddNormArguments args{};

  // For a residual stream of a size and a compute type.
  AddNormInputs(at::IntArrayRef sizes, at::ScalarType dtype, const at::Tensor& weight_, double eps,
                const std::optional<at::Tensor>& cos_, const std::optional<at::Tensor>& sin_)
      : weight(weight_.to(dtype).contiguous()), compute(weight.options()) {
    args.batch = sizes[0];
    args.tokens = sizes[1];
    args.channels = sizes[2];
    args.eps = eps;
    args.weight = weight.data_ptr();
    if (!cos_.has_value()) return;
    cos = cos_->to(dtype).contiguous();
    sin = sin_->to(dtype).contiguous();
    args.cos = cos.data_ptr();
    args.sin = sin.data_ptr();
  }
  int64_t chunks() const { return (args.batch * args.tokens + kNormChunk - 1) / kNormChunk; }
};

// Kernels take what is not in the compute type only if that is float.
at::ScalarType stored_type(at::ScalarType dtype, at::ScalarType compute) {
  return compute == at::kDouble || dtype == at::kDouble ? compute : dtype;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> add_norm_forward(const at::Tensor& hidden_,
                                                    const std::optional<at::Tensor>& residual_,
                                                    const at::Tensor& weight, double eps,
                                                    const std::optional<at::Tensor>& cos,
                                                    const std::optional<at::Tensor>& sin) {
  const bool is_double = hidden_.scalar_type() == at::kDouble ||
                         (residual_.has_value() && residual_->scalar_type() == at::kDouble);
  const at::ScalarType dtype = is_double ? at::kDouble : at::kFloat;
  // Kernels take one type for hidden and normed.
  const bool same = hidden_.scalar_type() == weight.scalar_type();
  const at::Tensor hidden =
      with_unit_stride(hidden_.to(same ? stored_type(hidden_.scalar_type(), dtype) : dtype));
  AddNormInputs in(hidden.sizes(), dtype, weight, eps, cos, sin);
  AddNormArguments& args = in.args;
  at::Tensor before;
  if (residual_.has_value()) {
    before = with_unit_stride(residual_->to(dtype));
    args.before = tokens(before);
  }
  at::Tensor residual = at::empty(hidden.sizes(), in.compute);
  at::Tensor normed = at::empty(hidden.sizes(), hidden.options());
  args.dtype = dtype_of(hidden);
  args.hidden = tokens(hidden);
  args.residual = tokens(residual);
  args.normed = tokens(normed);
  for_tasks(in.chunks(), [&](int64_t first, int64_t last) { chosen_kernels()->add_norm_forward(args, first, last); });
  return {normed.to(weight.scalar_type()), residual};
}

std::tuple<at::Tensor, at::Tensor> add_norm_backward(const at::Tensor& grad_normed_, const at::Tensor& grad_residual_,
                                                     const at::Tensor& residual, const at::Tensor& weight, double eps,
                                                     const std::optional<at::Tensor>& cos,
                                                     const std::optional<at::Tensor>& sin) {
  const at::ScalarType dtype = residual.scalar_type();
  AddNormInputs in(residual.sizes(), dtype, weight, eps, cos, sin);
  AddNormArguments& args = in.args;
  const at::Tensor grad_normed = with_unit_stride(grad_normed_.to(stored_type(grad_normed_.scalar_type(), dtype)));
  const at::Tensor grad_residual = with_unit_stride(grad_residual_.to(dtype));
  at::Tensor grad_sum = at::empty(residual.sizes(), in.compute);
  at::Tensor grad_weight = at::empty({in.chunks(), args.channels}, in.compute);
  args.dtype = dtype_of(grad_normed);
  args.residual = tokens(residual);
  args.grad_normed = tokens(grad_normed);
  args.grad_residual = tokens(grad_residual);
  args.grad_sum = tokens(grad_sum);
  args.grad_weight = grad_weight.data_ptr();
  for_tasks(in.chunks(), [&](int64_t first, int64_t last) { chosen_kernels()->add_norm_backward(args, first, last); });
  return {grad_sum, sum_of_parts(grad_weight, weight.scalar_type())};
}

}  // namespace mmlocalmamba
