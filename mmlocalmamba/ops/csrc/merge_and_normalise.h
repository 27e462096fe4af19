// LocalVMamba's merge, forward and backward: z gates last. out = LN(sum over k of gates_k y_k) silu(z).
#pragma once

#include "instruction_set.h"
#include "merge_common.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

template <class Simd, class S>
void merge_and_normalise_mean(const MergeAndNormaliseArguments& args, int64_t first, int64_t last) {
  Array<typename Simd::Value> x(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, args.directions);
    for (int64_t token = task.first; token < task.last; ++token)
      add_normalised<Simd, S>(MergeRow<Simd>{args, task.batch, token}, sums, x.data());
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

template <class Simd, class S>
void merge_and_normalise_sum(const MergeAndNormaliseArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args);
  Array<T> silu(padded), sum(padded);
  Table<Simd> weight(args, 1, args.out_norm_weight), bias(args, 1, args.out_norm_bias);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> row{args, task.batch, token};
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        Simd::store(sum.data() + c, gated_sum<Simd, S>(row, gates, c));
      T mean, rstd;
      moments<Simd>(args, sum.data(), args.out_eps, mean, rstd);
      silu_row<Simd, S>(row, silu.data(), nullptr);
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        const V normed = (Simd::load(sum.data() + c) - Simd::set(mean)) * Simd::set(rstd);
        const V affine = normed * Simd::load(weight.row(0) + c) + Simd::load(bias.row(0) + c);
        row.template store<S>(args.out, 0, c, affine * Simd::load(silu.data() + c));
      }
    }
  }
}

// The gradient of a token's sum of gated scans, through the norm and silu(z); adds to the gradients of the norm's
// weight and bias, and stores the gradient of z.
template <class Simd, class S>
class NormBackward {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;

 public:
  explicit NormBackward(const MergeAndNormaliseArguments& args)
      : args_(args),
        weight_(args, 1, args.out_norm_weight),
        bias_(args, 1, args.out_norm_bias),
        silu_(padded_channels<Simd>(args)),
        slope_(padded_channels<Simd>(args)) {}

  // The gradient comes to lie in a padded row, grad_sum.
  INLINE void take(const MergeRow<Simd>& row, Table<Simd>& gates, T* grad_weight, T* grad_bias, T* grad_sum) {
    T* const normed_row = grad_sum;  // until the gradient takes its place
    T* const by_norm_row = silu_.data();
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth)
      Simd::store(normed_row + c, gated_sum<Simd, S>(row, gates, c));
    T mean, rstd;
    moments<Simd>(args_, normed_row, args_.out_eps, mean, rstd);
    silu_row<Simd, S>(row, silu_.data(), slope_.data());
    V sum = Simd::set(T(0)), dot = Simd::set(T(0));  // lanes past the end have no gradient
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth) {
      const V normed = (Simd::load(normed_row + c) - Simd::set(mean)) * Simd::set(rstd);
      const V weight = Simd::load(weight_.row(0) + c), grad_out = row.template load<S>(args_.grad_out, c);
      const V affine = normed * weight + Simd::load(bias_.row(0) + c);
      row.template store<S>(args_.grad_z, 0, c, grad_out * affine * Simd::load(slope_.data() + c));
      const V grad = grad_out * Simd::load(silu_.data() + c), by_norm = grad * weight;
      Simd::store(grad_weight + c, Simd::load(grad_weight + c) + grad * normed);
      Simd::store(grad_bias + c, Simd::load(grad_bias + c) + grad);
      Simd::store(normed_row + c, normed);
      Simd::store(by_norm_row + c, by_norm);
      sum = sum + by_norm;
      dot = dot + by_norm * normed;
    }
    const V mean_grad = Simd::set(Simd::sum(sum) / T(args_.channels));
    const V slope = Simd::set(Simd::sum(dot) / T(args_.channels));
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth) {
      const V centred = Simd::load(by_norm_row + c) - mean_grad - Simd::load(normed_row + c) * slope;
      const V grad = centred * Simd::set(rstd);
      Simd::store(grad_sum + c, grad);
      row.template store<S>(args_.grad_sum, 0, c, grad);
    }
  }

 private:
  const MergeAndNormaliseArguments& args_;
  Table<Simd> weight_, bias_;
  Array<T> silu_, slope_;
};

// The sums' rows are the gradients of the gates, and behind them those of the norm's weight and bias.
template <class Simd, class S>
void merge_and_normalise_grad_gates(const MergeAndNormaliseArguments& args, int64_t first, int64_t last) {
  Array<typename Simd::Value> grad_sum(padded_channels<Simd>(args));
  NormBackward<Simd, S> norm(args);
  const int64_t directions = args.directions;
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, directions, args.gates, task.batch), sums(args, directions + 2);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> row{args, task.batch, token};
      norm.take(row, gates, sums.row(directions), sums.row(directions + 1), grad_sum.data());
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        add_grad_gates<Simd, S>(row, c, Simd::load(grad_sum.data() + c), sums);
    }
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

// The gradient of y: through the sum, and through the mean of the normalised tokens.
template <class Simd, class S>
void merge_and_normalise_backward(const MergeAndNormaliseArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    MeanGradient<Simd> through_mean(args, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> row{args, task.batch, token};
      for (int64_t k = 0; k < args.directions; ++k) {
        through_mean.template start<S>(row, k);
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
          const V through_sum = row.template load<S>(args.grad_sum, c) * Simd::load(gates.row(k) + c);
          row.template store<S>(args.grad_y, k, c, through_sum + through_mean.grad(c));
        }
      }
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
