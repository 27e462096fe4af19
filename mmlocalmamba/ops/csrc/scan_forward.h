// The selective scan of a group of channel blocks.
#pragma once

#include "scan_common.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// A block on its way along a sequence.
template <class Simd>
struct ForwardWalk {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  Block<Simd> block;
  Array<V> state, pad_decay;

  ForwardWalk(const Sequence<Simd>& sequence, int64_t index)
      : block(sequence, index), state(sequence.args.states, Simd::set(T(0))), pad_decay(sequence.args.states) {
    const V pad_dt = softplus<Simd>(block.dt_bias);
    for (int64_t n = 0; n < pad_decay.size(); ++n) pad_decay[n] = exp2_of_product<Simd>(pad_dt, block.A2[n]);
  }

  template <class S>
  INLINE void take(const SharedRows<Simd>& rows) {
    const ScanArguments& args = block.sequence.args;
    const int64_t states = args.states;
    Chunk<Simd> chunk;
    V y[kChunk];
    chunk.template load<S>(block, rows);
    prefetch<Simd, S>(block, rows.first + kChunk, args.y);
    if (args.checkpoints != nullptr) {
      T* kept = block.checkpoint(rows.first);
      for (int64_t n = 0; n < states; ++n) store_row<T, Simd>(kept + n * args.channels, state[n], block.lanes);
    }
    for (int t = 0; t < rows.size; ++t) y[t] = block.D * chunk.u[t];
    int64_t n = 0;
    for (; chunk.moderate && n + SIMD_STATES <= states; n += SIMD_STATES)
      take_states(chunk, rows, n, y, std::make_integer_sequence<int, SIMD_STATES>());
    for (; n < states; ++n) take_states(chunk, rows, n, y, std::integer_sequence<int, 0>());
    const Rows<S> outputs(args.y, block.sequence, block.channel);
    for (int t = 0; t < rows.size; ++t)
      if (rows.token[t] >= 0) store_row<S, Simd>(outputs[rows.token[t]], y[t], block.lanes);
  }

 private:
  // Take a few states, from the n-th on, through a chunk; their part of the output is added to y. A single one may
  // decay as fast as it likes.
  template <int... I>
  INLINE void take_states(const Chunk<Simd>& chunk, const SharedRows<Simd>& rows, int64_t n, V* y,
                          std::integer_sequence<int, I...>) {
    const V* A2 = block.A2.data() + n;
    V h[sizeof...(I)];
    ((h[I] = state[n + I]), ...);
    for (int t = 0; t < rows.size; ++t) {
      if (rows.row[t] < 0) {
        ((h[I] = h[I] * pad_decay[n + I]), ...);
        continue;
      }
      const V dt = chunk.dt[t], du = chunk.du[t];
      const T *B = rows.B[t] + n, *C = rows.C[t] + n;
      V even = y[t], odd = Simd::set(0);
      ((h[I] = decay_of<sizeof...(I) == 1, Simd>(dt, A2[I]) * h[I] + du * Simd::set(B[I]),
        (I % 2 ? odd : even) = (I % 2 ? odd : even) + h[I] * Simd::set(C[I])),
       ...);
      y[t] = even + odd;
    }
    ((state[n + I] = h[I]), ...);
  }
};

template <class Simd, class S>
void scan_forward(const ScanArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  const int64_t groups = (blocks + args.group - 1) / args.group;
  for (int64_t task = first; task < last; ++task) {
    const int64_t index = task / groups, group = task % groups * args.group;
    const Sequence<Simd> sequence(args, index / args.directions, index % args.directions);
    Array<ForwardWalk<Simd>> walks(smaller(args.group, blocks - group),
                                   [&](int64_t i) { return ForwardWalk<Simd>(sequence, group + i); });
    SharedRows<Simd> rows;
    for (int64_t l = 0; l < sequence.length; l += kChunk) {
      rows.gather(sequence, l);
      prefetch_shared(sequence, l + kChunk);
      for (ForwardWalk<Simd>& walk : walks) walk.template take<S>(rows);
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
