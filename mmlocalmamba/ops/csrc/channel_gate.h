// SCAttn's channel gate: sigmoid(channel_select(GELU(global_reduce(norm(mean))))), one vector per sample and direction.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// The inner product of two rows.
template <class Simd>
INLINE typename Simd::Value dot(const typename Simd::Value* a, const typename Simd::Value* b, int64_t size) {
  using T = typename Simd::Value;
  typename Simd::Vector even = Simd::set(T(0)), odd = Simd::set(T(0));
  int64_t i = 0;
  for (; i + 2 * Simd::kWidth <= size; i += 2 * Simd::kWidth) {
    even = even + Simd::load(a + i) * Simd::load(b + i);
    odd = odd + Simd::load(a + i + Simd::kWidth) * Simd::load(b + i + Simd::kWidth);
  }
  for (; i + Simd::kWidth <= size; i += Simd::kWidth) even = even + Simd::load(a + i) * Simd::load(b + i);
  T sum = Simd::sum(even + odd);
  for (; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// Means and gates from the sums: too small for threads. A weight's row is used for all vectors while it is in cache.
template <class Simd, class S>
void channel_gate(const ChannelGateArguments& args, int64_t /*first*/, int64_t /*last*/) {
  using T = typename Simd::Value;
  const int64_t channels = args.channels, hidden = args.hidden;
  const T *const sums = static_cast<const T*>(args.sums), *const norm_weight = static_cast<const T*>(args.norm_weight),
                 *const norm_bias = static_cast<const T*>(args.norm_bias);
  T *const mean = static_cast<T*>(args.mean), *const gates = static_cast<T*>(args.gates);
  Array<T> normed(args.rows * channels), activated(args.rows * hidden);
  for (int64_t row = 0; row < args.rows; ++row)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t i = row * channels + c;
      mean[i] = sums[i] / T(args.tokens);
      normed[i] = mean[i] * norm_weight[c] + norm_bias[c];
    }
  for (int64_t h = 0; h < hidden; ++h)
    for (int64_t row = 0; row < args.rows; ++row) {
      const T x =
          static_cast<const T*>(args.reduce_bias)[h] +
          dot<Simd>(static_cast<const T*>(args.reduce_weight) + h * channels, normed.data() + row * channels, channels);
      activated[row * hidden + h] = x * T(0.5) * (1 + std::erf(x * T(0.7071067811865476)));  // GELU
    }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t row = 0; row < args.rows; ++row)
      gates[row * channels + c] =
          static_cast<const T*>(args.select_bias)[c] +
          dot<Simd>(static_cast<const T*>(args.select_weight) + c * hidden, activated.data() + row * hidden, hidden);
  for (int64_t i = 0; i < args.rows * channels; i += Simd::kWidth) {
    const int lanes = int(smaller(Simd::kWidth, args.rows * channels - i));
    store_row<T, Simd>(gates + i, logistic<Simd>(load_row<T, Simd>(gates + i, lanes)), lanes);
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
