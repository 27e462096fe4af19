// What both ways of merging the scans of all directions share: rows of tokens, moments, sums, and the gradient through
// the mean of the normalised tokens.
//
// With x_k what a direction brings to the merge: mean_k = sum over tokens of LN(x_k), without affine. The channel gate
// makes gates_k of these means. A task is a chunk of one sample's tokens.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// The tokens that a task takes.
struct MergeTask {
  int64_t batch, chunk, first, last;
  INLINE MergeTask(const MergeArguments& args, int64_t task) {
    const int64_t chunks = (args.tokens + args.chunk - 1) / args.chunk;
    batch = task / chunks;
    chunk = task % chunks;
    first = chunk * args.chunk;
    last = smaller(first + args.chunk, args.tokens);
  }
};

// A row of channels, and a margin so that whole vectors can be written.
template <class Simd>
INLINE int64_t padded_channels(const MergeArguments& args) {
  return (args.channels + Simd::kWidth - 1) / Simd::kWidth * Simd::kWidth;
}

// A token of every direction, for a merge whose x_k is y_k.
template <class Simd>
struct MergeRow {
  using V = typename Simd::Vector;
  const MergeArguments& args;
  int64_t batch, token;

  INLINE int lanes(int64_t c) const { return int(smaller(Simd::kWidth, args.channels - c)); }
  template <class S>
  INLINE V y(int64_t k, int64_t c) const {
    return load_row<S, Simd>(at<const S>(args.y, batch, token, k) + c, lanes(c));
  }
  template <class S>
  INLINE V x(int64_t k, int64_t c) const {
    return y<S>(k, c);
  }
  template <class S>
  INLINE V load(const Tokens& tokens, int64_t c) const {
    return load_row<S, Simd>(at<const S>(tokens, batch, token, 0) + c, lanes(c));
  }
  template <class S>
  INLINE void store(const Tokens& tokens, int64_t k, int64_t c, const V& v) const {
    store_row<S, Simd>(at<S>(tokens, batch, token, k) + c, v, lanes(c));
  }
};

// A sample of a contiguous (batch, rows, channels) table, its rows padded with zeros; all zero without data.
template <class Simd>
struct Table {
  using T = typename Simd::Value;
  int64_t rows, channels, stride;
  Array<T> values;
  Table(const MergeArguments& args, int64_t num_rows, const void* data = nullptr, int64_t batch = 0)
      : rows(num_rows), channels(args.channels), stride(padded_channels<Simd>(args)), values(rows * stride) {
    for (int64_t k = 0; data != nullptr && k < rows; ++k)
      std::memcpy(row(k), static_cast<const T*>(data) + (batch * rows + k) * channels, bytes());
  }
  void copy_to(void* data, int64_t index) {
    for (int64_t k = 0; channels > 0 && k < rows; ++k)  // there may be no memory for nothing
      std::memcpy(static_cast<T*>(data) + (index * rows + k) * channels, row(k), bytes());
  }
  size_t bytes() const { return sizeof(T) * static_cast<size_t>(channels); }
  T* row(int64_t k) { return values.data() + k * stride; }
};

// silu(z) of a token, and its derivative where there is a place for it.
template <class Simd, class S>
INLINE void silu_row(const MergeRow<Simd>& row, typename Simd::Value* silu, typename Simd::Value* slope) {
  using V = typename Simd::Vector;
  for (int64_t c = 0; c < row.args.channels; c += Simd::kWidth) {
    const V z = row.template load<S>(row.args.z, c), gate = logistic<Simd>(z);
    Simd::store(silu + c, z * gate);
    if (slope != nullptr) Simd::store(slope + c, silu_slope<Simd>(z, gate));
  }
}

// Moments over the channels of a padded row. Lanes past the end, which hold zeros, are left out of the sums.
template <class Simd>
INLINE void moments(const MergeArguments& args, const typename Simd::Value* row, double eps, typename Simd::Value& mean,
                    typename Simd::Value& rstd) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t whole = args.channels / Simd::kWidth * Simd::kWidth;
  V sum = Simd::set(T(0)), squares = Simd::set(T(0));
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) sum = sum + Simd::load(row + c);
  mean = Simd::sum(sum) / T(args.channels);
  for (int64_t c = 0; c < whole; c += Simd::kWidth) {
    const V centred = Simd::load(row + c) - Simd::set(mean);
    squares = squares + centred * centred;
  }
  T variance = Simd::sum(squares);
  for (int64_t c = whole; c < args.channels; ++c) variance += (row[c] - mean) * (row[c] - mean);
  rstd = T(1) / std::sqrt(variance / T(args.channels) + T(eps));
}

// Moments of x_k of a token, which is kept in a padded row.
template <class Simd, class S, class Row>
INLINE void moments_of_x(const Row& row, int64_t k, typename Simd::Value* x, typename Simd::Value& mean,
                         typename Simd::Value& rstd) {
  for (int64_t c = 0; c < row.args.channels; c += Simd::kWidth) Simd::store(x + c, row.template x<S>(k, c));
  moments<Simd>(row.args, x, row.args.eps, mean, rstd);
}

// Add a token's LN(x_k) to the sums of each direction; x is a padded row of scratch.
template <class Simd, class S, class Row>
INLINE void add_normalised(const Row& row, Table<Simd>& sums, typename Simd::Value* x) {
  using T = typename Simd::Value;
  for (int64_t k = 0; k < row.args.directions; ++k) {
    T mean, rstd, *to = sums.row(k);
    moments_of_x<Simd, S>(row, k, x, mean, rstd);
    for (int64_t c = 0; c < row.args.channels; c += Simd::kWidth)
      Simd::store(to + c, Simd::load(to + c) + (Simd::load(x + c) - Simd::set(mean)) * Simd::set(rstd));
  }
}

// The sum over directions of gates_k y_k of a token.
template <class Simd, class S>
INLINE typename Simd::Vector gated_sum(const MergeRow<Simd>& row, Table<Simd>& gates, int64_t c) {
  typename Simd::Vector sum = Simd::set(typename Simd::Value(0));
  for (int64_t k = 0; k < row.args.directions; ++k) sum = sum + Simd::load(gates.row(k) + c) * row.template y<S>(k, c);
  return sum;
}

// Add a token's part of the gates' gradients to their sums: the gradient of its gated sum, times x_k.
template <class Simd, class S, class Row>
INLINE void add_grad_gates(const Row& row, int64_t c, const typename Simd::Vector& grad, Table<Simd>& sums) {
  for (int64_t k = 0; k < row.args.directions; ++k) {
    typename Simd::Value* to = sums.row(k) + c;
    Simd::store(to, Simd::load(to) + grad * row.template x<S>(k, c));
  }
}

// The gradient of x_k through the mean of the normalised tokens, for one sample. Take a token's direction with start(),
// then ask for its channels with grad().
template <class Simd>
class MeanGradient {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;

 public:
  MeanGradient(const MergeArguments& args, int64_t batch)
      : grad_mean_(args, args.directions, args.grad_mean, batch),
        mean_of_grad_(args.directions),
        x_(padded_channels<Simd>(args)) {
    for (int64_t k = 0; k < args.directions; ++k) {
      for (int64_t c = 0; c < args.channels; ++c) mean_of_grad_[k] += grad_mean_.row(k)[c];
      mean_of_grad_[k] /= T(args.channels);
    }
  }
  template <class S, class Row>
  INLINE void start(const Row& row, int64_t k) {
    through_ = grad_mean_.row(k);
    mean_grad_ = mean_of_grad_[k];
    moments_of_x<Simd, S>(row, k, x_.data(), mean_, rstd_);
    V dot = Simd::set(T(0));  // lanes past the end have no gradient
    for (int64_t c = 0; c < row.args.channels; c += Simd::kWidth)
      dot = dot + Simd::load(through_ + c) * (Simd::load(x_.data() + c) - Simd::set(mean_));
    slope_ = Simd::sum(dot) * rstd_ * rstd_ / T(row.args.channels);
  }
  INLINE V grad(int64_t c) const {
    const V centred = Simd::load(x_.data() + c) - Simd::set(mean_);
    return (Simd::load(through_ + c) - Simd::set(mean_grad_) - centred * Simd::set(slope_)) * Simd::set(rstd_);
  }

 private:
  Table<Simd> grad_mean_;
  Array<T> mean_of_grad_, x_;
  const T* through_ = nullptr;
  T mean_grad_ = 0, mean_ = 0, rstd_ = 0, slope_ = 0;
};

}  // namespace mmlocalmamba::SIMD_NAMESPACE
