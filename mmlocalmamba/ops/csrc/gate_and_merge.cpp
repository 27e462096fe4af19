// LocalVim's merge of the scans of all directions, on tensors.
#include "call.h"
#include "memory.h"
#include "merge_host.h"

namespace mmlocalmamba {

void gate_and_merge_forward(const Call& call) {
  const MergeInputs in(call);
  const ChannelGate channel_gate(call, in);
  const Input z(call, in.per_token(call["z"]), in.dtype, Input::kRows);
  Output out(call, in.per_token(call["out"]).want_dtype(in.dtype), in.dtype);
  Output mean(call, in.per_direction(call["mean"]), in.compute),
      gates(call, in.per_direction(call["gates"]), in.compute);
  const int64_t padded = call.blocks(in.dtype, in.channels()) * call.kernels.block(in.dtype);
  const Workspace silu_z(product({in.batch(), in.tokens(), padded, bytes_of(in.compute)}));
  GateAndMergeArguments args{};
  in.set(args);
  args.eps = call.number("eps");
  args.z = z.tokens();
  args.out = out.tokens();
  args.gates = gates.data();
  args.silu_z = silu_z.data();
  const Workspace sums = summed_over_tokens(call, in, args, in.directions(), call.kernels.gate_and_merge_mean);
  channel_gate.run(call, in, sums, mean, gates);
  call.run(call.kernels.gate_and_merge_sum, args, in.batch() * in.chunks());
  mean.finish();
  gates.finish();
}

void gate_and_merge_grad_gates(const Call& call) {
  const MergeInputs in(call);
  const Input z(call, in.per_token(call["z"]), in.dtype, Input::kRows);
  const Input grad_out(call, in.per_token(call["grad_out"]), in.dtype, Input::kRows);
  const View grad_gates = in.per_direction(call["grad_gates"]).want_contiguous();
  GateAndMergeArguments args{};
  in.set(args);
  args.z = z.tokens();
  args.grad_out = grad_out.tokens();
  const Workspace sums = summed_over_tokens(call, in, args, in.directions(), call.kernels.gate_and_merge_grad_gates);
  copy(call, dense(sums.data(), in.compute, {in.batch(), in.directions(), in.channels()}), grad_gates.tensor().data,
       grad_gates.dtype());
}

void gate_and_merge_backward(const Call& call) {
  const MergeInputs in(call);
  const Input z(call, in.per_token(call["z"]), in.dtype, Input::kRows);
  const Input grad_out(call, in.per_token(call["grad_out"]), in.dtype, Input::kRows);
  const Input gates(call, in.per_direction(call["gates"]), in.compute, Input::kDense);
  const Input grad_mean(call, in.per_direction(call["grad_mean"]), in.compute, Input::kDense);
  Output grad_y(call, call["grad_y"].want_same_sizes(in.y), in.dtype);
  Output grad_z(call, in.per_token(call["grad_z"]), in.dtype);
  GateAndMergeArguments args{};
  in.set(args);
  args.eps = call.number("eps");
  args.z = z.tokens();
  args.grad_out = grad_out.tokens();
  args.gates = gates.data();
  args.grad_mean = grad_mean.data();
  args.grad_y = grad_y.tokens_by_direction();
  args.grad_z = grad_z.tokens();
  call.run(call.kernels.gate_and_merge_backward, args, in.batch() * in.chunks());
  grad_y.finish();
  grad_z.finish();
}

}  // namespace mmlocalmamba
