// Adding to the residual stream, rotating it and RMSNorm of it, on tensors.
#include "call.h"
#include "memory.h"

namespace mmlocalmamba {
namespace {

// What forward and backward take alike, for a residual stream of a compute type.
struct AddNormInputs {
  const View weight, cos, sin;
  const Input weight_dense, cos_dense, sin_dense;
  AddNormArguments args{};

  // like: (batch, tokens, channels)
  AddNormInputs(const Call& call, const View& like, Dtype compute)
      : weight(call["weight"]),
        cos(call["cos"]),
        sin(call["sin"]),
        weight_dense(call, weight, compute, Input::kDense),
        cos_dense(call, cos, compute, Input::kDense),
        sin_dense(call, sin, compute, Input::kDense) {
    args.batch = like.size(0);
    args.tokens = like.size(1);
    args.channels = like.size(2);
    args.eps = call.number("eps");
    weight.want_sizes({args.channels}, "(channels,)");
    args.weight = weight_dense.data();
    if (!cos.present() && !sin.present()) return;
    if (args.channels % 2 != 0)
      like.refuse("its channels must be an even number for cos and sin to turn pairs of them");
    cos.want_sizes({args.tokens, args.channels}, "(tokens, channels)");
    sin.want_sizes({args.tokens, args.channels}, "(tokens, channels)");
    args.cos = cos_dense.data();
    args.sin = sin_dense.data();
  }
  int64_t chunks() const { return rounded_up(args.batch * args.tokens, kNormChunk); }
};

// Kernels take what is not in the compute type only if that is float.
Dtype stored_type(Dtype dtype, Dtype compute) {
  return compute == Dtype::kDouble || dtype == Dtype::kDouble ? compute : dtype;
}

}  // namespace

void add_norm_forward(const Call& call) {
  const View hidden = call["hidden"].want_dims(3, "(batch, tokens, channels)").want_float(),
             residual = call["residual"];
  const View normed = call["normed"].want_same_sizes(hidden),
             new_residual = call["new_residual"].want_same_sizes(hidden);
  if (residual.present()) residual.want_same_sizes(hidden).want_float();
  const bool is_double = hidden.dtype() == Dtype::kDouble || (residual.present() && residual.dtype() == Dtype::kDouble);
  const Dtype compute = is_double ? Dtype::kDouble : Dtype::kFloat;
  AddNormInputs in(call, hidden, compute);
  AddNormArguments& args = in.args;
  // Kernels take one type for hidden and normed.
  args.dtype = hidden.dtype() == normed.dtype() ? stored_type(hidden.dtype(), compute) : compute;
  const Input hidden_rows(call, hidden, args.dtype, Input::kRows), residual_rows(call, residual, compute, Input::kRows);
  Output normed_rows(call, normed.want_dtype(in.weight.dtype()), args.dtype);
  Output stream(call, new_residual.want_dtype(compute), compute);
  args.hidden = hidden_rows.tokens();
  if (residual.present()) args.residual = residual_rows.tokens();
  args.normed = normed_rows.tokens();
  args.new_residual = stream.tokens();
  call.run(call.kernels.add_norm_forward, args, in.chunks());
  normed_rows.finish();
}

void add_norm_backward(const Call& call) {
  const View residual = call["residual"].want_dims(3, "(batch, tokens, channels)");
  if (residual.dtype() != Dtype::kFloat && residual.dtype() != Dtype::kDouble)
    residual.refuse("must be float32 or float64, as the forward has made it");
  const View grad_normed = call["grad_normed"].want_same_sizes(residual).want_float();
  const Dtype compute = residual.dtype();
  AddNormInputs in(call, residual, compute);
  AddNormArguments& args = in.args;
  args.dtype = stored_type(grad_normed.dtype(), compute);
  const Input stream(call, residual, compute, Input::kRows),
      grad_normed_rows(call, grad_normed, args.dtype, Input::kRows);
  const Input grad_residual(call, call["grad_residual"].want_same_sizes(residual), compute, Input::kRows);
  Output grad_sum(call, call["grad_sum"].want_same_sizes(residual), compute);
  Parts grad_weight(call, call["grad_weight"].want_same_sizes(in.weight), compute, in.chunks());
  args.new_residual = stream.tokens();
  args.grad_normed = grad_normed_rows.tokens();
  args.grad_residual = grad_residual.tokens();
  args.grad_sum = grad_sum.tokens();
  args.grad_weight = grad_weight.data();
  call.run(call.kernels.add_norm_backward, args, in.chunks());
  grad_sum.finish();
  grad_weight.finish();
}

}  // namespace mmlocalmamba
