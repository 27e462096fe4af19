// What the forward and the backward of the selective scan share: sequences, blocks of channels and chunks of tokens.
//
// A sequence, one direction of one sample, is walked in chunks of kChunk tokens by all blocks (vectors of channels) of
// a group together, so that what they share of a token is read once. In each chunk first comes everything that does not
// depend on the state, which also overlaps the cache misses of gathering; then the states are taken a few at a time, so
// that they stay in registers over the chunk.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// One direction of one sample.
template <class Simd>
struct Sequence {
  using T = typename Simd::Value;
  const ScanArguments& args;
  int64_t batch, direction;
  const int32_t* order;
  int64_t length;
  Array<T> zeros;

  Sequence(const ScanArguments& a, int64_t b, int64_t k)
      : args(a), batch(b), direction(k), zeros(a.states > a.rank ? a.states : a.rank) {
    order = a.order + k * a.length;
    length = length_without_tail(order, a.length);
  }
  // The row of tokens that position l of the scan reads, -1 for padding without values.
  int64_t row(int64_t l) const { return args.spatial ? order[l] : l; }
};

// The parameters of a block of channels.
template <class Simd>
struct Block {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const Sequence<Simd>& sequence;
  int64_t channel;
  int lanes;
  Array<V> A2;  // A / ln 2, for exp2
  Array<V> dt_weight;
  V dt_bias, D;
  V fastest;  // the largest of -A2

  Block(const Sequence<Simd>& of, int64_t index)
      : sequence(of), channel(index * Simd::kWidth), A2(of.args.states), dt_weight(of.args.rank) {
    const ScanArguments& a = of.args;
    lanes = int(smaller(Simd::kWidth, a.channels - channel));
    load_transposed<Simd>(static_cast<const T*>(a.A) + parameter() * a.states, a.states, lanes, A2.data());
    const V log2e = Simd::set(T(1.4426950408889634)), zero = Simd::set(T(0));
    // Beyond, a rate would be infinite, and not a number where the step is 0. Nothing is left of a state either way.
    fastest = zero;
    const V largest = Simd::set(T(sizeof(T) == sizeof(float) ? 88 : 708));
    for (int64_t n = 0; n < a.states; ++n) {
      if (a.log_A) A2[n] = zero - exp2_of_product<Simd>(Simd::min(largest, A2[n]), log2e);
      A2[n] = A2[n] * log2e;
      fastest = Simd::max(fastest, zero - A2[n]);
    }
    if (a.rank > 0)
      load_transposed<Simd>(static_cast<const T*>(a.dt_weight) + parameter() * a.rank, a.rank, lanes, dt_weight.data());
    dt_bias = load_row<T, Simd>(static_cast<const T*>(a.dt_bias) + parameter(), lanes);
    D = load_row<T, Simd>(static_cast<const T*>(a.D) + parameter(), lanes);
  }
  int64_t parameter() const { return sequence.direction * sequence.args.channels + channel; }
  // of a sum per sample
  int64_t slot() const { return sequence.batch * sequence.args.directions * sequence.args.channels + parameter(); }
  T* checkpoint(int64_t first) const {
    const ScanArguments& args = sequence.args;
    const int64_t chunks = (args.length + kChunk - 1) / kChunk;
    const int64_t index = (sequence.batch * args.directions + sequence.direction) * chunks + first / kChunk;
    return static_cast<T*>(args.checkpoints) + index * args.states * args.channels + channel;
  }
};

// Where a sequence's features are, from the given one on: kept apart from the arguments so that the compiler sees that
// no store changes it.
template <class S>
struct Rows {
  S* data;
  int64_t stride;
  template <class Simd>
  Rows(const Tokens& tokens, const Sequence<Simd>& of, int64_t feature)
      : data(at<S>(tokens, of.batch, 0, of.direction) + feature), stride(tokens.row) {}
  INLINE S* operator[](int64_t row) const { return data + row * stride; }
};

// What all channels share of a chunk's tokens.
template <class Simd>
struct SharedRows {
  using T = typename Simd::Value;
  int64_t first;
  int size;
  int64_t row[kChunk];
  int32_t token[kChunk];
  const T *B[kChunk], *C[kChunk], *dt_low[kChunk];

  INLINE void gather(const Sequence<Simd>& sequence, int64_t from) {
    const ScanArguments& args = sequence.args;
    const Rows<const T> B_rows(args.B, sequence, 0), C_rows(args.C, sequence, 0), low_rows(args.dt_low, sequence, 0);
    const T* const zeros = sequence.zeros.data();
    first = from;
    size = int(smaller(kChunk, sequence.length - first));
    for (int t = 0; t < size; ++t) {
      const int64_t at = sequence.row(first + t);
      row[t] = at;
      token[t] = sequence.order[first + t];
      B[t] = at < 0 ? zeros : B_rows[at];
      C[t] = at < 0 ? zeros : C_rows[at];
      dt_low[t] = at < 0 ? zeros : low_rows[at];
    }
  }
};

// Ask for the cache lines of a chunk while another one is being computed: rows in scan order are out of the hardware's
// sight.
template <class Simd>
INLINE void prefetch_shared(const Sequence<Simd>& sequence, int64_t first) {
  using T = typename Simd::Value;
  const ScanArguments& args = sequence.args;
  if (first < 0) return;
  const Rows<const T> B(args.B, sequence, 0), C(args.C, sequence, 0), low(args.dt_low, sequence, 0);
  const int64_t last = smaller(first + kChunk, sequence.length), states = args.states - 1;
  for (int64_t l = first; l < last; ++l) {
    const int64_t row = sequence.row(l);
    if (row < 0) continue;
    PREFETCH(B[row]);
    PREFETCH(B[row] + states);
    PREFETCH(C[row]);
    PREFETCH(C[row] + states);
    if (args.rank > 0) PREFETCH(low[row]);
  }
}

// y is what the tokens' outputs are written to, or their gradients read from.
template <class Simd, class S>
INLINE void prefetch(const Block<Simd>& block, int64_t first, const Tokens& y) {
  const Sequence<Simd>& sequence = block.sequence;
  const ScanArguments& args = sequence.args;
  if (first < 0) return;
  const bool full = args.rank == 0;
  const Rows<const S> u(args.u, sequence, block.channel), other(y, sequence, block.channel),
      dt(full ? args.dt : args.u, sequence, block.channel);
  const int64_t last = smaller(first + kChunk, sequence.length);
  for (int64_t l = first; l < last; ++l) {
    const int64_t row = sequence.row(l), token = sequence.order[l];
    if (row >= 0) PREFETCH(u[row]);
    if (row >= 0 && full) PREFETCH(dt[row]);
    if (token >= 0) PREFETCH(other[token]);
  }
}

// What is left of a state after a step dt.
template <bool kAnyRate, class Simd>
INLINE typename Simd::Vector decay_of(const typename Simd::Vector& dt, const typename Simd::Vector& A2) {
  return kAnyRate ? exp2_of_product<Simd>(dt, A2) : exp2_of_moderate_product<Simd>(dt, A2);
}

// What a chunk's tokens bring into a block's recurrence.
template <class Simd>
struct Chunk {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  V u[kChunk], raw_dt[kChunk], dt[kChunk], du[kChunk];
  bool moderate;  // whether no rate and no step is so large that exp2_of_moderate_product would not do

  template <class S>
  INLINE void load(const Block<Simd>& block, const SharedRows<Simd>& rows) {
    const ScanArguments& args = block.sequence.args;
    const Rows<const S> u_rows(args.u, block.sequence, block.channel);
    const int lanes = block.lanes;
    for (int t = 0; t < rows.size; ++t)
      u[t] = rows.row[t] < 0 ? Simd::set(T(0)) : load_row<S, Simd>(u_rows[rows.row[t]], lanes);
    if (args.rank > 0) {
      int t = 0;
      for (; t + 8 <= rows.size; t += 8) expand(block, rows, t, std::make_integer_sequence<int, 8>());
      for (; t < rows.size; ++t) expand(block, rows, t, std::integer_sequence<int, 0>());
    } else {
      const Rows<const S> dt_rows(args.dt, block.sequence, block.channel);
      const V bias = block.dt_bias;
      for (int t = 0; t < rows.size; ++t)
        raw_dt[t] = rows.row[t] < 0 ? bias : bias + load_row<S, Simd>(dt_rows[rows.row[t]], lanes);
    }
    // A rate of 2^60, by which a gradient is multiplied, makes something of 2^-126.
    constexpr double kFastest = 1LL << 60, kLargest = 1 << 16;
    V longest = Simd::set(T(kLargest / kFastest));
    for (int t = 0; t < rows.size; ++t) {
      const V step = softplus<Simd>(raw_dt[t]);
      dt[t] = step;
      du[t] = step * u[t];
      longest = Simd::max(longest, step);
    }
    T exponents[Simd::kWidth];
    Simd::store(exponents, longest * block.fastest);
    moderate = true;
    for (const T exponent : exponents) moderate = moderate && !(exponent >= T(kLargest));
  }

 private:
  // Step sizes of a few tokens from their low-rank form.
  template <int... I>
  INLINE void expand(const Block<Simd>& block, const SharedRows<Simd>& rows, int t, std::integer_sequence<int, I...>) {
    const V* weight = block.dt_weight.data();
    const int64_t rank = block.dt_weight.size();
    const T* const low[] = {rows.dt_low[t + I]...};
    V sum[sizeof...(I)];
    ((sum[I] = block.dt_bias), ...);
    for (int64_t r = 0; r < rank; ++r) {
      const V w = weight[r];
      ((sum[I] = sum[I] + w * Simd::set(low[I][r])), ...);
    }
    // What is not finite is not to come into sums over channels by way of lanes past the last one.
    if (block.lanes < Simd::kWidth) ((sum[I] = first_lanes<Simd>(sum[I], block.lanes)), ...);
    ((raw_dt[t + I] = sum[I]), ...);
  }
};

}  // namespace mmlocalmamba::SIMD_NAMESPACE
