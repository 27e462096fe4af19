#include "merge_host.h"

namespace mmlocalmamba {
namespace {

// Tokens in a task, each of which sums over its own: enough tasks for threads, and few sums of many tokens. A function
// of the problem's size alone, so that the sums do not depend on the threads.
int64_t chunk_of(int64_t tokens) {
  constexpr int64_t kTasks = 32, kFewest = 8, kMost = 256;
  return std::min(kMost, std::max(kFewest, rounded_up(tokens, kTasks)));
}

View shaped(const View& view, std::initializer_list<int64_t> sizes, const char* layout) {
  return view.want_sizes(sizes, layout).want_float();
}

}  // namespace

MergeInputs::MergeInputs(const Call& call)
    : y(call["y"].want_dims(4, "(batch, directions, tokens, channels)").want_float()),
      dtype(y.dtype()),
      compute(compute_type(dtype)),
      y_rows(call, y, dtype, Input::kRows) {}

void MergeInputs::set(MergeArguments& args) const {
  args.dtype = dtype;
  args.batch = batch();
  args.directions = directions();
  args.tokens = tokens();
  args.channels = channels();
  args.chunk = chunk_of(tokens());
  args.y = y_rows.tokens_by_direction();
}

int64_t MergeInputs::chunks() const { return rounded_up(tokens(), chunk_of(tokens())); }

View MergeInputs::per_token(const View& view) const {
  return shaped(view, {batch(), tokens(), channels()}, "(batch, tokens, channels)");
}

View MergeInputs::per_direction(const View& view) const {
  return shaped(view, {batch(), directions(), channels()}, "(batch, directions, channels)");
}

View MergeInputs::per_channel(const View& view) const { return shaped(view, {channels()}, "(channels,)"); }

ChannelGate::ChannelGate(const Call& call, const MergeInputs& in)
    : hidden_(call["reduce_weight"].want_dims(2, "(hidden, channels)").size(0)),
      norm_weight_(call, in.per_channel(call["norm_weight"]), in.compute, Input::kDense),
      norm_bias_(call, in.per_channel(call["norm_bias"]), in.compute, Input::kDense),
      reduce_weight_(call, shaped(call["reduce_weight"], {hidden_, in.channels()}, "(hidden, channels)"), in.compute,
                     Input::kDense),
      reduce_bias_(call, shaped(call["reduce_bias"], {hidden_}, "(hidden,)"), in.compute, Input::kDense),
      select_weight_(call, shaped(call["select_weight"], {in.channels(), hidden_}, "(channels, hidden)"), in.compute,
                     Input::kDense),
      select_bias_(call, in.per_channel(call["select_bias"]), in.compute, Input::kDense) {}

void ChannelGate::run(const Call& call, const MergeInputs& in, const Workspace& sums, const Output& mean,
                      const Output& gates) const {
  ChannelGateArguments args{};
  args.dtype = in.compute;
  args.rows = in.batch() * in.directions();
  args.channels = in.channels();
  args.hidden = hidden_;
  args.tokens = static_cast<double>(std::max<int64_t>(in.tokens(), 1));
  args.sums = sums.data();
  args.norm_weight = norm_weight_.data();
  args.norm_bias = norm_bias_.data();
  args.reduce_weight = reduce_weight_.data();
  args.reduce_bias = reduce_bias_.data();
  args.select_weight = select_weight_.data();
  args.select_bias = select_bias_.data();
  args.mean = mean.data();
  args.gates = gates.data();
  product({args.rows, std::max(args.channels, args.hidden), bytes_of(in.compute)});  // what the kernel allocates
  call.run(call.kernels.channel_gate, args, 1);
}

}  // namespace mmlocalmamba
