// What the host side of both ways of merging scans shares.
#pragma once

#include <algorithm>

#include "call.h"
#include "memory.h"

namespace mmlocalmamba {

// The tokens of a merge, checked and in the layout that the kernels read.
struct MergeInputs {
  const View y;
  const Dtype dtype, compute;
  const Input y_rows;

  explicit MergeInputs(const Call& call);
  // Fill in what every kernel of a merge takes.
  void set(MergeArguments& args) const;
  int64_t batch() const { return y.size(0); }
  int64_t directions() const { return y.size(1); }
  int64_t tokens() const { return y.size(2); }
  int64_t channels() const { return y.size(3); }
  // Tasks of a sample.
  int64_t chunks() const;
  // z, the output, and their gradients: (batch, tokens, channels).
  View per_token(const View& view) const;
  // Means, gates, and their gradients: (batch, directions, channels).
  View per_direction(const View& view) const;
  // A parameter: (channels,).
  View per_channel(const View& view) const;
};

// Run a kernel that sums rows of channels over each chunk of tokens, and add the chunks up: (batch, rows, channels).
template <class Arguments>
Workspace summed_over_tokens(const Call& call, const MergeInputs& in, Arguments args, int64_t rows,
                             void (*kernel)(const Arguments&, int64_t, int64_t)) {
  const InnerParts parts(call, in.compute, in.chunks(), product({in.batch(), rows, in.channels()}));
  args.partial = parts.data();
  call.run(kernel, args, in.batch() * in.chunks());
  return parts.sum();
}

// The weights of SCAttn's channel gate, in the compute type.
class ChannelGate {
 public:
  ChannelGate(const Call& call, const MergeInputs& in);
  // From sums over tokens of normalised scans: their means, and the gates.
  void run(const Call& call, const MergeInputs& in, const Workspace& sums, const Output& mean,
           const Output& gates) const;

 private:
  const int64_t hidden_;
  const Input norm_weight_, norm_bias_, reduce_weight_, reduce_bias_, select_weight_, select_bias_;
};

}  // namespace mmlocalmamba
