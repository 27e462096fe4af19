// The gradients of the selective scan, from states kept before each chunk.
#pragma once

#include "scan_common.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// Where blocks add up their gradients of what all channels share: one sample and direction of their part.
template <class T>
struct PartRows {
  T *B, *C, *dt_low;
  int64_t stride, low_stride;

  PartRows(const ScanArguments& args, int64_t part, int64_t batch, int64_t direction)
      : stride(args.directions * args.states), low_stride(args.directions * args.padded_rank) {
    const int64_t first = (part * args.batch + batch) * args.rows;
    B = static_cast<T*>(args.grad_B) + first * stride + direction * args.states;
    C = static_cast<T*>(args.grad_C) + first * stride + direction * args.states;
    dt_low = static_cast<T*>(args.grad_dt_low);
    if (dt_low != nullptr) dt_low += first * low_stride + direction * args.padded_rank;
  }
  template <class Simd>
  INLINE void prefetch(const Sequence<Simd>& sequence, int64_t first) const {
    if (first < 0) return;
    const int64_t last = smaller(first + kChunk, sequence.length);
    for (int64_t l = first; l < last; ++l) {
      const int64_t row = sequence.row(l);
      if (row < 0) continue;
      PREFETCH(B + row * stride);
      PREFETCH(C + row * stride);
      if (dt_low != nullptr) PREFETCH(dt_low + row * low_stride);
    }
  }
};

// Gradients of a chunk's tokens, summed over the states.
template <class Simd>
struct ChunkGrads {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  V y[kChunk], dt[kChunk], input[kChunk];  // input: of dt * u, before B
  Array<T> B, C;                           // (kChunk, states), summed over the block's channels
  explicit ChunkGrads(int64_t states) : B(kChunk * states), C(kChunk * states) {}
};

// A block on its way back.
template <class Simd>
struct BackwardWalk {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  Block<Simd> block;
  Array<V> start, grad_state, grad_A, grad_dt_weight;
  Array<T> dt_weight;  // (width, padded rank): rows of zeros for channels past the end
  V sum_D, sum_bias;

  BackwardWalk(const Sequence<Simd>& sequence, int64_t index)
      : block(sequence, index),
        start(sequence.args.states),
        grad_state(sequence.args.states, Simd::set(T(0))),
        grad_A(sequence.args.states, Simd::set(T(0))),
        grad_dt_weight(sequence.args.rank, Simd::set(T(0))),
        dt_weight(Simd::kWidth * sequence.args.padded_rank),
        sum_D(Simd::set(T(0))),
        sum_bias(Simd::set(T(0))) {
    const ScanArguments& args = sequence.args;
    for (int i = 0; args.rank > 0 && i < block.lanes; ++i)
      std::memcpy(dt_weight.data() + i * args.padded_rank,
                  static_cast<const T*>(args.dt_weight) + (block.parameter() + i) * args.rank,
                  sizeof(T) * static_cast<size_t>(args.rank));
  }

  template <class S>
  INLINE void take(const SharedRows<Simd>& rows, ChunkGrads<Simd>& grads, const PartRows<T>& part, bool add_to_u) {
    const ScanArguments& args = block.sequence.args;
    const int64_t states = args.states;
    const Rows<const S> grad_y(args.grad_y, block.sequence, block.channel);
    Chunk<Simd> chunk;
    chunk.template load<S>(block, rows);
    prefetch<Simd, S>(block, rows.first - kChunk, args.grad_y);
    prefetch_grads<S>(rows.first - kChunk);
    for (int64_t n = 0; n < states; ++n)
      start[n] = load_row<T, Simd>(block.checkpoint(rows.first) + n * args.channels, block.lanes);
    for (int t = 0; t < rows.size; ++t) {
      grads.y[t] = rows.token[t] < 0 ? Simd::set(T(0)) : load_row<S, Simd>(grad_y[rows.token[t]], block.lanes);
      grads.dt[t] = grads.input[t] = Simd::set(T(0));
    }
    int64_t n = 0;
    for (; chunk.moderate && n + 4 <= states; n += 4)
      take_states(chunk, rows, n, grads, std::make_integer_sequence<int, 4>());
    for (; n < states; ++n) take_states(chunk, rows, n, grads, std::integer_sequence<int, 0>());
    add_to_part(rows, grads, part);
    for (int t = 0; t < rows.size; ++t) {
      const V through_decay = grads.dt[t] * Simd::set(T(0.6931471805599453));
      grads.dt[t] = (grads.input[t] * chunk.u[t] + through_decay) * logistic<Simd>(chunk.raw_dt[t]);
      sum_bias = sum_bias + grads.dt[t];
      sum_D = sum_D + grads.y[t] * chunk.u[t];
    }
    if (args.rank > 0) {
      take_dt_weight(rows, grads);
      take_dt_low(rows, grads, part);
    } else {
      const Rows<S> grad_dt(args.grad_dt, block.sequence, block.channel);
      for (int t = 0; t < rows.size; ++t)
        if (rows.row[t] >= 0) store_row<S, Simd>(grad_dt[rows.row[t]], grads.dt[t], block.lanes);
    }
    const Rows<T> grad_us(args.grad_u, block.sequence, block.channel);
    for (int t = 0; t < rows.size; ++t) {
      if (rows.row[t] < 0) continue;
      T* to_u = grad_us[rows.row[t]];
      V grad_u = grads.input[t] * chunk.dt[t] + grads.y[t] * block.D;
      if (add_to_u) grad_u = grad_u + load_row<T, Simd>(to_u, block.lanes);
      store_row<T, Simd>(to_u, grad_u, block.lanes);
    }
  }

  void store_sums() {
    const ScanArguments& args = block.sequence.args;
    const int64_t slot = block.slot();
    for (int64_t n = 0; args.log_A && n < args.states; ++n)
      grad_A[n] = grad_A[n] * block.A2[n] * Simd::set(T(0.6931471805599453));
    store_transposed<Simd>(grad_A.data(), args.states, block.lanes, static_cast<T*>(args.grad_A) + slot * args.states);
    if (args.rank > 0)
      store_transposed<Simd>(grad_dt_weight.data(), args.rank, block.lanes,
                             static_cast<T*>(args.grad_dt_weight) + slot * args.rank);
    store_row<T, Simd>(static_cast<T*>(args.grad_D) + slot, sum_D, block.lanes);
    store_row<T, Simd>(static_cast<T*>(args.grad_dt_bias) + slot, sum_bias, block.lanes);
  }

 private:
  // Ask for the rows that a chunk's gradients will be written to.
  template <class S>
  INLINE void prefetch_grads(int64_t first) const {
    const Sequence<Simd>& sequence = block.sequence;
    if (first < 0) return;
    const bool full = sequence.args.rank == 0;
    const Rows<const T> u(sequence.args.grad_u, sequence, block.channel);
    const int64_t last = smaller(first + kChunk, sequence.length);
    for (int64_t l = first; l < last; ++l)
      if (sequence.row(l) >= 0) PREFETCH(u[sequence.row(l)]);
    if (!full) return;
    const Rows<const S> dt(sequence.args.grad_dt, sequence, block.channel);
    for (int64_t l = first; l < last; ++l)
      if (sequence.row(l) >= 0) PREFETCH(dt[sequence.row(l)]);
  }

  // Recompute a few states over a chunk from its checkpoint, then run backwards through it. A single one may decay as
  // fast as it likes.
  template <int... I>
  INLINE void take_states(const Chunk<Simd>& chunk, const SharedRows<Simd>& rows, int64_t n, ChunkGrads<Simd>& grads,
                          std::integer_sequence<int, I...>) {
    constexpr int G = sizeof...(I);
    const int64_t states = start.size();
    const V* A2 = block.A2.data() + n;
    V decay[kChunk][G], decayed[kChunk][G], h[G], g[G], sum_A[G];
    ((h[I] = start[n + I]), ...);
    for (int t = 0; t < rows.size; ++t) {
      const V dt = chunk.dt[t], du = chunk.du[t];
      const T* B = rows.B[t] + n;
      ((decay[t][I] = decay_of<G == 1, Simd>(dt, A2[I]), decayed[t][I] = decay[t][I] * h[I],
        h[I] = decayed[t][I] + du * Simd::set(B[I])),
       ...);
    }
    ((g[I] = grad_state[n + I], sum_A[I] = Simd::set(0)), ...);
    for (int t = rows.size - 1; t >= 0; --t) {
      const V dt = chunk.dt[t], du = chunk.du[t], grad_y = grads.y[t];
      const T *B = rows.B[t] + n, *C = rows.C[t] + n;
      V for_B[G], for_C[G], exponent[G];
      ((g[I] = g[I] + grad_y * Simd::set(C[I]), for_B[I] = g[I] * du,
        for_C[I] = grad_y * (decayed[t][I] + du * Simd::set(B[I])), exponent[I] = g[I] * decayed[t][I]),
       ...);
      V input = grads.input[t], step = grads.dt[t];
      // grads.dt takes the part through the decay in units of log2 e: A2 is A times that.
      ((input = input + g[I] * Simd::set(B[I]), step = step + exponent[I] * A2[I],
        sum_A[I] = sum_A[I] + exponent[I] * dt, g[I] = g[I] * decay[t][I]),
       ...);
      grads.input[t] = input;
      grads.dt[t] = step;
      T *grad_B = grads.B.data() + t * states + n, *grad_C = grads.C.data() + t * states + n;
      if constexpr (G == 4) {
        Simd::store_sums(for_B, for_C, grad_B, grad_C);
      } else {
        ((grad_B[I] = Simd::sum(for_B[I]), grad_C[I] = Simd::sum(for_C[I])), ...);
      }
    }
    ((grad_state[n + I] = g[I], grad_A[n + I] = grad_A[n + I] + sum_A[I]), ...);
  }

  INLINE void add_to_part(const SharedRows<Simd>& rows, const ChunkGrads<Simd>& grads, const PartRows<T>& part) const {
    const int64_t states = start.size();
    for (int t = 0; t < rows.size; ++t) {
      if (rows.row[t] < 0) continue;
      T *to_B = part.B + rows.row[t] * part.stride, *to_C = part.C + rows.row[t] * part.stride;
      for (int64_t n = 0; n < states; ++n) to_B[n] += grads.B[t * states + n];
      for (int64_t n = 0; n < states; ++n) to_C[n] += grads.C[t * states + n];
    }
  }

  INLINE void take_dt_weight(const SharedRows<Simd>& rows, const ChunkGrads<Simd>& grads) {
    const int64_t rank = grad_dt_weight.size();
    int64_t r = 0;
    for (; r + 4 <= rank; r += 4) take_dt_weight(rows, grads, r, std::make_integer_sequence<int, 4>());
    for (; r < rank; ++r) take_dt_weight(rows, grads, r, std::integer_sequence<int, 0>());
  }
  template <int... I>
  INLINE void take_dt_weight(const SharedRows<Simd>& rows, const ChunkGrads<Simd>& grads, int64_t r,
                             std::integer_sequence<int, I...>) {
    V sum[sizeof...(I)];
    ((sum[I] = grad_dt_weight[r + I]), ...);
    for (int t = 0; t < rows.size; ++t) {
      const T* low = rows.dt_low[t] + r;
      const V grad = grads.dt[t];
      ((sum[I] = sum[I] + grad * Simd::set(low[I])), ...);
    }
    ((grad_dt_weight[r + I] = sum[I]), ...);
  }

  // Vectors are of ranks here: each channel's gradient is spread over them.
  INLINE void take_dt_low(const SharedRows<Simd>& rows, const ChunkGrads<Simd>& grads, const PartRows<T>& part) const {
    int t = 0;
    for (; t + 4 <= rows.size; t += 4) take_dt_low(rows, grads, part, t, std::make_integer_sequence<int, 4>());
    for (; t < rows.size; ++t) take_dt_low(rows, grads, part, t, std::integer_sequence<int, 0>());
  }
  template <int... I>
  INLINE void take_dt_low(const SharedRows<Simd>& rows, const ChunkGrads<Simd>& grads, const PartRows<T>& part, int t,
                          std::integer_sequence<int, I...>) const {
    constexpr int W = Simd::kWidth;
    const int64_t padded = block.sequence.args.padded_rank;
    T grad[sizeof...(I)][W];
    (Simd::store(grad[I], grads.dt[t + I]), ...);
    for (int64_t r = 0; r < padded; r += W) {
      V sum[sizeof...(I)];
      ((sum[I] = Simd::set(T(0))), ...);
      for (int c = 0; c < W; ++c) {
        const V weight = Simd::load(dt_weight.data() + c * padded + r);
        ((sum[I] = sum[I] + weight * Simd::set(grad[I][c])), ...);
      }
      (add_row(part.dt_low, rows.row[t + I], part.low_stride, r, sum[I]), ...);
    }
  }
  static INLINE void add_row(T* data, int64_t row, int64_t stride, int64_t r, const V& value) {
    if (row < 0) return;
    T* to = data + row * stride + r;
    Simd::store(to, Simd::load(to) + value);
  }
};

// A task takes a group of channel blocks through all directions, so that nobody else adds to its rows of grad_u, B, C
// and dt_low.
template <class Simd, class S>
void scan_backward(const ScanArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  ChunkGrads<Simd> grads(args.states);
  SharedRows<Simd> rows;
  for (int64_t task = first; task < last; ++task) {
    const int64_t batch = task / args.parts, part = task % args.parts;
    const int64_t from = part * blocks / args.parts, to = (part + 1) * blocks / args.parts;
    for (int64_t direction = 0; direction < args.directions; ++direction) {
      const Sequence<Simd> sequence(args, batch, direction);
      const PartRows<typename Simd::Value> sums(args, part, batch, direction);
      Array<BackwardWalk<Simd>> walks(to - from, [&](int64_t i) { return BackwardWalk<Simd>(sequence, from + i); });
      for (int64_t l = (sequence.length - 1) / kChunk * kChunk; l >= 0 && sequence.length > 0; l -= kChunk) {
        rows.gather(sequence, l);
        prefetch_shared(sequence, l - kChunk);
        sums.prefetch(sequence, l - kChunk);
        for (BackwardWalk<Simd>& walk : walks) walk.template take<S>(rows, grads, sums, args.spatial && direction > 0);
      }
      for (BackwardWalk<Simd>& walk : walks) walk.store_sums();
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
