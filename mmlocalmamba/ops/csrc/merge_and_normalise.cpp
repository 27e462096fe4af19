// LocalVMamba's merge of the scans of all directions, on tensors.
#include "call.h"
#include "memory.h"
#include "merge_host.h"

namespace mmlocalmamba {

void merge_and_normalise_forward(const Call& call) {
  const MergeInputs in(call);
  const ChannelGate channel_gate(call, in);
  const Input z(call, in.per_token(call["z"]), in.dtype, Input::kRows);
  const Input out_norm_weight(call, in.per_channel(call["out_norm_weight"]), in.compute, Input::kDense);
  const Input out_norm_bias(call, in.per_channel(call["out_norm_bias"]), in.compute, Input::kDense);
  Output out(call, in.per_token(call["out"]).want_dtype(in.dtype), in.dtype);
  Output mean(call, in.per_direction(call["mean"]), in.compute),
      gates(call, in.per_direction(call["gates"]), in.compute);
  MergeAndNormaliseArguments args{};
  in.set(args);
  args.eps = call.number("eps");
  args.out_eps = call.number("out_eps");
  args.z = z.tokens();
  args.out = out.tokens();
  args.gates = gates.data();
  args.out_norm_weight = out_norm_weight.data();
  args.out_norm_bias = out_norm_bias.data();
  const Workspace sums = summed_over_tokens(call, in, args, in.directions(), call.kernels.merge_and_normalise_mean);
  channel_gate.run(call, in, sums, mean, gates);
  call.run(call.kernels.merge_and_normalise_sum, args, in.batch() * in.chunks());
  mean.finish();
  gates.finish();
}

void merge_and_normalise_grad_gates(const Call& call) {
  const MergeInputs in(call);
  const Input z(call, in.per_token(call["z"]), in.dtype, Input::kRows);
  const Input grad_out(call, in.per_token(call["grad_out"]), in.dtype, Input::kRows);
  const Input gates(call, in.per_direction(call["gates"]), in.compute, Input::kDense);
  const Input out_norm_weight(call, in.per_channel(call["out_norm_weight"]), in.compute, Input::kDense);
  const Input out_norm_bias(call, in.per_channel(call["out_norm_bias"]), in.compute, Input::kDense);
  const View grad_gates = in.per_direction(call["grad_gates"]).want_contiguous();
  const View grad_weight = in.per_channel(call["grad_out_norm_weight"]).want_contiguous();
  const View grad_bias = in.per_channel(call["grad_out_norm_bias"]).want_contiguous();
  Output grad_sum(call, in.per_token(call["grad_sum"]), in.dtype), grad_z(call, in.per_token(call["grad_z"]), in.dtype);
  MergeAndNormaliseArguments args{};
  in.set(args);
  args.out_eps = call.number("out_eps");
  args.z = z.tokens();
  args.grad_out = grad_out.tokens();
  args.gates = gates.data();
  args.out_norm_weight = out_norm_weight.data();
  args.out_norm_bias = out_norm_bias.data();
  args.grad_sum = grad_sum.tokens();
  args.grad_z = grad_z.tokens();
  const int64_t directions = in.directions(), channels = in.channels(), rows = directions + 2;
  const Workspace sums = summed_over_tokens(call, in, args, rows, call.kernels.merge_and_normalise_grad_gates);
  grad_sum.finish();
  grad_z.finish();

  // (batch, directions + 2, channels): the last two rows of each sample are gradients of the norm's weight and bias.
  Tensor of_gates = dense(sums.data(), in.compute, {in.batch(), rows, channels});
  of_gates.sizes[1] = directions;
  copy(call, of_gates, grad_gates.tensor().data, grad_gates.dtype());
  const int64_t bytes = bytes_of(in.compute);
  const Workspace of_norm(product({in.batch(), channels, bytes}));
  int64_t row = directions;
  for (const View& gradient : {grad_weight, grad_bias}) {
    Tensor of_samples =
        dense(static_cast<char*>(sums.data()) + row++ * channels * bytes, in.compute, {in.batch(), channels});
    of_samples.strides[0] = rows * channels;
    copy(call, of_samples, of_norm.data(), in.compute);
    const SumArguments sum{in.compute, gradient.dtype(), in.batch(), channels, of_norm.data(), gradient.tensor().data};
    call.run(call.kernels.sum_parts, sum, rounded_up(channels, kCopyBlock));
  }
}

void merge_and_normalise_backward(const Call& call) {
  const MergeInputs in(call);
  const Input grad_sum(call, in.per_token(call["grad_sum"]), in.dtype, Input::kRows);
  const Input gates(call, in.per_direction(call["gates"]), in.compute, Input::kDense);
  const Input grad_mean(call, in.per_direction(call["grad_mean"]), in.compute, Input::kDense);
  Output grad_y(call, call["grad_y"].want_same_sizes(in.y), in.dtype);
  MergeAndNormaliseArguments args{};
  in.set(args);
  args.eps = call.number("eps");
  args.grad_sum = grad_sum.tokens();
  args.gates = gates.data();
  args.grad_mean = grad_mean.data();
  args.grad_y = grad_y.tokens_by_direction();
  call.run(call.kernels.merge_and_normalise_backward, args, in.batch() * in.chunks());
  grad_y.finish();
}

}  // namespace mmlocalmamba
