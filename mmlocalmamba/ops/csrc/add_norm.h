// Adding to the residual stream, rotating it and RMSNorm of it, forward and backward, a token at a time.
//
// With R turning each pair of channels by its angle:
//   new_residual = R (hidden + residual)
//   normed = new_residual * rstd * weight     rstd = 1 / sqrt(mean of new_residual^2 + eps)
// The backward computes rstd again.
#pragma once

#include "instruction_set.h"
#include "rows.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

template <class Simd>
struct AddNormToken {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const AddNormArguments& args;
  int64_t batch, row;

  AddNormToken(const AddNormArguments& a, int64_t token) : args(a), batch(token / a.tokens), row(token % a.tokens) {}
  INLINE int lanes(int64_t c) const { return int(smaller(Simd::kWidth, args.channels - c)); }
  template <class S>
  INLINE V load(const Tokens& from, int64_t c) const {
    return load_row<S, Simd>(at<const S>(from, batch, row, 0) + c, lanes(c));
  }
  template <class S>
  INLINE void store(const Tokens& to, int64_t c, const V& v) const {
    store_row<S, Simd>(at<S>(to, batch, row, 0) + c, v, lanes(c));
  }
  INLINE V weight(int64_t c) const { return load_row<T, Simd>(static_cast<const T*>(args.weight) + c, lanes(c)); }
  INLINE V table(const void* values, int64_t c) const {
    return load_row<T, Simd>(static_cast<const T*>(values) + row * args.channels + c, lanes(c));
  }
  INLINE V rotated(const V& x, int64_t c) const {
    if (args.cos == nullptr) return x;
    return x * table(args.cos, c) + Simd::turned(x) * table(args.sin, c);
  }
  // By the transposed matrix: the two channels of a pair need not have the same angle.
  INLINE V rotated_back(const V& x, int64_t c) const {
    if (args.cos == nullptr) return x;
    return x * table(args.cos, c) - Simd::turned(x * table(args.sin, c));
  }
  INLINE T rstd(const V& squares) const {
    return T(1) / std::sqrt(Simd::sum(squares) / T(args.channels) + T(args.eps));
  }
};

template <class Simd, class S>
INLINE void add_norm_forward_token(const AddNormToken<Simd>& token) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const AddNormArguments& args = token.args;
  V squares = Simd::set(0);
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    V sum = token.template load<S>(args.hidden, c);
    if (args.residual.data != nullptr) sum = sum + token.template load<T>(args.residual, c);
    sum = token.rotated(sum, c);
    token.template store<T>(args.new_residual, c, sum);
    squares = squares + sum * sum;
  }
  const V rstd = Simd::set(token.rstd(squares));
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
    token.template store<S>(args.normed, c, token.template load<T>(args.new_residual, c) * rstd * token.weight(c));
}

// The weight's gradient is added to a row of its own, padded to whole vectors.
template <class Simd, class S>
INLINE void add_norm_backward_token(const AddNormToken<Simd>& token, typename Simd::Value* grad_weight) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const AddNormArguments& args = token.args;
  V squares = Simd::set(0), products = Simd::set(0);
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    const V x = token.template load<T>(args.new_residual, c);
    squares = squares + x * x;
    products = products + x * token.weight(c) * token.template load<S>(args.grad_normed, c);
  }
  const T rstd = token.rstd(squares);
  const V scale = Simd::set(rstd), along = Simd::set(Simd::sum(products) / T(args.channels) * rstd * rstd);
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    const V x = token.template load<T>(args.new_residual, c), grad = token.template load<S>(args.grad_normed, c);
    Simd::store(grad_weight + c, Simd::load(grad_weight + c) + grad * (x * scale));
    const V through_norm = scale * (token.weight(c) * grad - along * x);
    const V whole = token.template load<T>(args.grad_residual, c) + through_norm;
    token.template store<T>(args.grad_sum, c, token.rotated_back(whole, c));
  }
}

// A task is a chunk of the tokens of all samples, one after the other.
template <class Simd, class S>
void add_norm_forward(const AddNormArguments& args, int64_t first, int64_t last) {
  const int64_t end = smaller(last * kNormChunk, args.batch * args.tokens);
  for (int64_t token = first * kNormChunk; token < end; ++token)
    add_norm_forward_token<Simd, S>(AddNormToken<Simd>(args, token));
}

template <class Simd, class S>
void add_norm_backward(const AddNormArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  for (int64_t task = first; task < last; ++task) {
    Array<T> grad_weight((args.channels + Simd::kWidth - 1) / Simd::kWidth * Simd::kWidth);
    const int64_t end = smaller((task + 1) * kNormChunk, args.batch * args.tokens);
    for (int64_t token = task * kNormChunk; token < end; ++token)
      add_norm_backward_token<Simd, S>(AddNormToken<Simd>(args, token), grad_weight.data());
    T* const sums = static_cast<T*>(args.grad_weight) + task * args.channels;
    for (int64_t c = 0; c < args.channels; ++c) sums[c] = grad_weight[c];
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
