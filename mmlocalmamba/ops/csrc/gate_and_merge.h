// LocalVim's merge, forward and backward: z gates the scans first. x_k = y_k silu(z), out = sum over k of gates_k x_k.
#pragma once

#include "instruction_set.h"
#include "merge_common.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// A token of every direction, with silu(z) in a padded row.
template <class Simd>
struct GatedRow : MergeRow<Simd> {
  using V = typename Simd::Vector;
  const typename Simd::Value* gate;

  template <class S>
  INLINE V x(int64_t k, int64_t c) const {
    return this->template y<S>(k, c) * Simd::load(gate + c);
  }
};

// Where the first kernel of the forward keeps silu(z) for the second.
template <class Simd>
INLINE typename Simd::Value* kept_silu(const GateAndMergeArguments& args, int64_t batch, int64_t token) {
  const int64_t row = batch * args.tokens + token;
  return static_cast<typename Simd::Value*>(args.silu_z) + row * padded_channels<Simd>(args);
}

template <class Simd, class S>
void gate_and_merge_mean(const GateAndMergeArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  Array<T> x(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, args.directions);
    for (int64_t token = task.first; token < task.last; ++token) {
      T* const silu = kept_silu<Simd>(args, task.batch, token);
      const GatedRow<Simd> row{{args, task.batch, token}, silu};
      silu_row<Simd, S>(row, silu, nullptr);
      add_normalised<Simd, S>(row, sums, x.data());
    }
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

template <class Simd, class S>
void gate_and_merge_sum(const GateAndMergeArguments& args, int64_t first, int64_t last) {
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const GatedRow<Simd> row{{args, task.batch, token}, kept_silu<Simd>(args, task.batch, token)};
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        row.template store<S>(args.out, 0, c, gated_sum<Simd, S>(row, gates, c) * Simd::load(row.gate + c));
    }
  }
}

template <class Simd, class S>
void gate_and_merge_grad_gates(const GateAndMergeArguments& args, int64_t first, int64_t last) {
  Array<typename Simd::Value> silu(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, args.directions);
    for (int64_t token = task.first; token < task.last; ++token) {
      const GatedRow<Simd> row{{args, task.batch, token}, silu.data()};
      silu_row<Simd, S>(row, silu.data(), nullptr);
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        add_grad_gates<Simd, S>(row, c, row.template load<S>(args.grad_out, c), sums);
    }
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

// The gradients of y and z: through the sum, and through the mean of the normalised tokens.
template <class Simd, class S>
void gate_and_merge_backward(const GateAndMergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args);
  Array<T> silu(padded), slope(padded), grad_silu(padded);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    MeanGradient<Simd> through_mean(args, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const GatedRow<Simd> row{{args, task.batch, token}, silu.data()};
      silu_row<Simd, S>(row, silu.data(), slope.data());
      for (T& value : grad_silu) value = 0;
      for (int64_t k = 0; k < args.directions; ++k) {
        through_mean.template start<S>(row, k);
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
          const V grad_out = row.template load<S>(args.grad_out, c);
          const V grad_x = grad_out * Simd::load(gates.row(k) + c) + through_mean.grad(c);
          T* to = grad_silu.data() + c;
          Simd::store(to, Simd::load(to) + grad_x * row.template y<S>(k, c));
          row.template store<S>(args.grad_y, k, c, grad_x * Simd::load(row.gate + c));
        }
      }
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        row.template store<S>(args.grad_z, 0, c, Simd::load(grad_silu.data() + c) * Simd::load(slope.data() + c));
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
