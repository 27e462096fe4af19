// The selective scan of one block of channels (a vector of them), forward and backward.
//
// Included once per instruction set, after rows.h. A sequence is walked in chunks of kChunk tokens: first everything
// that does not depend on the state is computed for the chunk, which also overlaps the cache misses of gathering; then
// the states are taken a group at a time, so that they stay in registers over the chunk.

template <class Simd>
struct Block {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const ScanArguments& args;
  int64_t batch, direction, channel;
  int lanes;
  const int32_t* order;
  int64_t length;
  Array<T> zeros;
  Array<V> A2;  // A / ln 2, for exp2
  V dt_bias, D;

  Block(const ScanArguments& a, int64_t b, int64_t k, int64_t block)
      : args(a), batch(b), direction(k), channel(block * Simd::kWidth), zeros(a.states), A2(a.states) {
    lanes = int(smaller(Simd::kWidth, a.channels - channel));
    order = a.order + k * a.length;
    length = length_without_tail(order, a.length);
    load_transposed<Simd>(static_cast<const T*>(a.A) + parameter() * a.states, a.states, lanes, A2.data());
    for (int64_t n = 0; n < a.states; ++n) A2[n] = A2[n] * Simd::set(T(1.4426950408889634));
    dt_bias = load_row<T, Simd>(static_cast<const T*>(a.dt_bias) + parameter(), lanes);
    D = load_row<T, Simd>(static_cast<const T*>(a.D) + parameter(), lanes);
  }
  int64_t parameter() const { return direction * args.channels + channel; }
  int64_t slot() const { return batch * args.directions * args.channels + parameter(); }  // of a sum per sample
  // The row of tokens that position l of the scan reads, -1 for padding without values.
  int64_t row(int64_t l) const { return args.spatial ? order[l] : l; }
  T* checkpoint(int64_t chunk) const {
    const int64_t chunks = (args.length + kChunk - 1) / kChunk;
    const int64_t index = ((batch * args.directions + direction) * chunks + chunk) * args.states;
    return static_cast<T*>(args.checkpoints) + index * args.channels + channel;
  }
};

// Where a block's tokens are: kept apart from the arguments so that the compiler sees that no store changes it.
template <class S>
struct Rows {
  S* data;
  int64_t stride;
  Rows(const Tokens& tokens, int64_t batch, int64_t direction, int64_t channel)
      : data(at<S>(tokens, batch, 0, direction) + channel), stride(tokens.row) {}
  INLINE S* operator[](int64_t row) const { return data + row * stride; }
};

// Ask for the cache lines of a chunk's tokens while another chunk is being computed: rows in scan order are out of the
// hardware's sight. y is what the tokens' outputs are written to, or their gradients read from.
template <class Simd, class S>
INLINE void prefetch(const Block<Simd>& block, int64_t first, const Tokens& y) {
  const ScanArguments& args = block.args;
  if (first < 0) return;
  const Rows<const S> u(args.u, block.batch, block.direction, block.channel),
      dt(args.dt, block.batch, block.direction, block.channel), other(y, block.batch, block.direction, block.channel);
  const int64_t last = smaller(first + kChunk, block.length);
  for (int64_t l = first; l < last; ++l) {
    const int64_t row = block.row(l), token = block.order[l];
    if (row >= 0) {
      PREFETCH(u[row]);
      PREFETCH(dt[row]);
    }
    if (token >= 0) PREFETCH(other[token]);
  }
}

// What a chunk's tokens bring into the recurrence.
template <class Simd>
struct Chunk {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  V u[kChunk], raw_dt[kChunk], dt[kChunk], du[kChunk];
  const T *B[kChunk], *C[kChunk];
  bool padding[kChunk];  // without values: never in scan order, where every position has its row
  int size;

  template <class S>
  INLINE void gather(const Block<Simd>& block, int64_t first) {
    const ScanArguments& args = block.args;
    const Rows<const S> u_rows(args.u, block.batch, block.direction, block.channel),
        dt_rows(args.dt, block.batch, block.direction, block.channel);
    const Rows<const T> B_rows(args.B, block.batch, block.direction, 0), C_rows(args.C, block.batch, block.direction, 0);
    const int count = int(smaller(kChunk, block.length - first)), lanes = block.lanes;
    const V bias = block.dt_bias;
    size = count;
    for (int t = 0; t < count; ++t) {
      const int64_t row = block.row(first + t);
      padding[t] = row < 0;
      if (row < 0) {
        u[t] = Simd::set(T(0));
        raw_dt[t] = bias;
        B[t] = C[t] = block.zeros.data();
      } else {
        u[t] = load_row<S, Simd>(u_rows[row], lanes);
        raw_dt[t] = bias + load_row<S, Simd>(dt_rows[row], lanes);
        B[t] = B_rows[row];
        C[t] = C_rows[row];
      }
    }
    for (int t = 0; t < count; ++t) {
      const V step = Simd::softplus(raw_dt[t]);
      dt[t] = step;
      du[t] = step * u[t];
    }
  }
};

// Take G states, from the n-th on, through a chunk; their part of the output is added to y.
template <class Simd, int... I>
INLINE void scan_states(const Chunk<Simd>& chunk, const typename Simd::Vector* A2, typename Simd::Vector* state,
                        const typename Simd::Vector* pad_decay, int64_t n, typename Simd::Vector* y,
                        std::integer_sequence<int, I...>) {
  using V = typename Simd::Vector;
  constexpr int G = sizeof...(I);
  V h[G];
  ((h[I] = state[n + I]), ...);
  for (int t = 0; t < chunk.size; ++t) {
    if (chunk.padding[t]) {
      ((h[I] = h[I] * pad_decay[n + I]), ...);
      continue;
    }
    const V dt = chunk.dt[t], du = chunk.du[t];
    const auto *B = chunk.B[t] + n, *C = chunk.C[t] + n;
    V even = y[t], odd = Simd::set(0);
    ((h[I] = Simd::exp2_of_product(dt, A2[n + I]) * h[I] + du * Simd::set(B[I]),
      (I % 2 ? odd : even) = (I % 2 ? odd : even) + h[I] * Simd::set(C[I])), ...);
    y[t] = even + odd;
  }
  ((state[n + I] = h[I]), ...);
}

template <class Simd, class S>
void scan_forward_block(const Block<Simd>& block) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const ScanArguments& args = block.args;
  const int64_t states = args.states;
  Array<V> state(states, Simd::set(0)), pad_decay(states);
  const V pad_dt = Simd::softplus(block.dt_bias);
  for (int64_t n = 0; n < states; ++n) pad_decay[n] = Simd::exp2_of_product(pad_dt, block.A2[n]);

  const Rows<S> outputs(args.y, block.batch, block.direction, block.channel);
  Chunk<Simd> chunk;
  V y[kChunk];
  for (int64_t first = 0; first < block.length; first += kChunk) {
    chunk.template gather<S>(block, first);
    prefetch<Simd, S>(block, first + kChunk, args.y);
    if (args.checkpoints != nullptr) {
      T* kept = block.checkpoint(first / kChunk);
      for (int64_t n = 0; n < states; ++n) store_row<T, Simd>(kept + n * args.channels, state[n], block.lanes);
    }
    for (int t = 0; t < chunk.size; ++t) y[t] = block.D * chunk.u[t];
    int64_t n = 0;
    for (; n + SIMD_STATES <= states; n += SIMD_STATES)
      scan_states<Simd>(chunk, block.A2.data(), state.data(), pad_decay.data(), n, y,
                        std::make_integer_sequence<int, SIMD_STATES>());
    for (; n < states; ++n)
      scan_states<Simd>(chunk, block.A2.data(), state.data(), pad_decay.data(), n, y, std::integer_sequence<int, 0>());
    for (int t = 0; t < chunk.size; ++t) {
      const int32_t token = block.order[first + t];
      if (token >= 0)
        store_row<S, Simd>(outputs[token], y[t], block.lanes);
    }
  }
}

// Gradients of a chunk's tokens, summed over the states.
template <class Simd>
struct ChunkGrads {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  V y[kChunk], dt[kChunk], input[kChunk];  // input: of dt * u, before B
  Array<T> B, C;                           // (kChunk, states), summed over this block's channels
  explicit ChunkGrads(int64_t states) : B(kChunk * states), C(kChunk * states) {}
};

// Recompute G states over a chunk from its checkpoint, then run backwards through it.
template <class Simd, int... I>
INLINE void scan_states_backward(const Chunk<Simd>& chunk, const typename Simd::Vector* A2,
                                 const typename Simd::Vector* start, typename Simd::Vector* grad_state,
                                 typename Simd::Vector* grad_A, int64_t states, int64_t n, ChunkGrads<Simd>& grads,
                                 std::integer_sequence<int, I...>) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  constexpr int G = sizeof...(I);
  V decay[kChunk][G], decayed[kChunk][G], h[G], g[G], sum_A[G];
  ((h[I] = start[n + I]), ...);
  for (int t = 0; t < chunk.size; ++t) {
    const V dt = chunk.dt[t], du = chunk.du[t];
    const T* B = chunk.B[t] + n;
    ((decay[t][I] = Simd::exp2_of_product(dt, A2[n + I]), decayed[t][I] = decay[t][I] * h[I],
      h[I] = decayed[t][I] + du * Simd::set(B[I])), ...);
  }
  ((g[I] = grad_state[n + I], sum_A[I] = Simd::set(0)), ...);
  for (int t = chunk.size - 1; t >= 0; --t) {
    const V dt = chunk.dt[t], du = chunk.du[t], grad_y = grads.y[t];
    const T *B = chunk.B[t] + n, *C = chunk.C[t] + n;
    V for_B[G], for_C[G], exponent[G];
    ((g[I] = g[I] + grad_y * Simd::set(C[I]), for_B[I] = g[I] * du,
      for_C[I] = grad_y * (decayed[t][I] + du * Simd::set(B[I])), exponent[I] = g[I] * decayed[t][I]), ...);
    V input = grads.input[t], step = grads.dt[t];
    // grads.dt takes the part through the decay in units of log2 e: A2 is A times that.
    ((input = input + g[I] * Simd::set(B[I]), step = step + exponent[I] * A2[n + I],
      sum_A[I] = sum_A[I] + exponent[I] * dt, g[I] = g[I] * decay[t][I]), ...);
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

// Where a block adds its gradients of B and C.
template <class T>
struct PartRows {
  T *B, *C;
  int64_t stride;
};

// Add a chunk's gradients of B and C to those of its group of blocks.
template <class Simd>
INLINE void add_to_part(const Block<Simd>& block, const Chunk<Simd>& chunk, const ChunkGrads<Simd>& grads, int64_t first,
                        const PartRows<typename Simd::Value>& part) {
  const int64_t states = block.args.states;
  for (int t = 0; t < chunk.size; ++t) {
    const int64_t row = block.row(first + t);
    if (row < 0) continue;
    typename Simd::Value *to_B = part.B + row * part.stride, *to_C = part.C + row * part.stride;
    for (int64_t n = 0; n < states; ++n) to_B[n] += grads.B[t * states + n];
    for (int64_t n = 0; n < states; ++n) to_C[n] += grads.C[t * states + n];
  }
}

// Ask for the rows that a chunk's gradients will be written to.
template <class Simd, class S>
INLINE void prefetch_grads(const Block<Simd>& block, int64_t first, const PartRows<typename Simd::Value>& part) {
  const ScanArguments& args = block.args;
  if (first < 0) return;
  const Rows<const S> dt(args.grad_dt, block.batch, block.direction, block.channel);
  const Rows<const typename Simd::Value> u(args.grad_u, block.batch, block.direction, block.channel);
  const int64_t last = smaller(first + kChunk, block.length);
  for (int64_t l = first; l < last; ++l) {
    const int64_t row = block.row(l);
    if (row < 0) continue;
    PREFETCH(u[row]);
    PREFETCH(dt[row]);
    PREFETCH(part.B + row * part.stride);
    PREFETCH(part.C + row * part.stride);
  }
}

template <class Simd, class S>
void scan_backward_block(const Block<Simd>& block, const PartRows<typename Simd::Value>& part, bool add_to_u) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const ScanArguments& args = block.args;
  const int64_t states = args.states;
  const V zero = Simd::set(0);
  Array<V> start(states), grad_state(states, zero), grad_A(states, zero);
  V sum_D = zero, sum_bias = zero;
  Chunk<Simd> chunk;
  ChunkGrads<Simd> grads(states);
  const Rows<const S> grad_y(args.grad_y, block.batch, block.direction, block.channel);
  const Rows<S> grad_dts(args.grad_dt, block.batch, block.direction, block.channel);
  const Rows<T> grad_us(args.grad_u, block.batch, block.direction, block.channel);
  const int64_t chunks = (block.length + kChunk - 1) / kChunk;
  for (int64_t index = chunks - 1; index >= 0; --index) {
    const int64_t first = index * kChunk;
    chunk.template gather<S>(block, first);
    prefetch<Simd, S>(block, first - kChunk, args.grad_y);
    prefetch_grads<Simd, S>(block, first - kChunk, part);
    for (int64_t n = 0; n < states; ++n)
      start[n] = load_row<T, Simd>(block.checkpoint(index) + n * args.channels, block.lanes);
    for (int t = 0; t < chunk.size; ++t) {
      const int32_t token = block.order[first + t];
      grads.y[t] = token < 0 ? zero : load_row<S, Simd>(grad_y[token], block.lanes);
      grads.dt[t] = grads.input[t] = zero;
    }
    int64_t n = 0;
    for (; n + 4 <= states; n += 4)
      scan_states_backward<Simd>(chunk, block.A2.data(), start.data(), grad_state.data(), grad_A.data(), states, n,
                                 grads, std::make_integer_sequence<int, 4>());
    for (; n < states; ++n)
      scan_states_backward<Simd>(chunk, block.A2.data(), start.data(), grad_state.data(), grad_A.data(), states, n,
                                 grads, std::integer_sequence<int, 0>());
    add_to_part<Simd>(block, chunk, grads, first, part);
    for (int t = 0; t < chunk.size; ++t) {
      const V through_decay = grads.dt[t] * Simd::set(T(0.6931471805599453));
      const V grad_dt = (grads.input[t] * chunk.u[t] + through_decay) * Simd::logistic(chunk.raw_dt[t]);
      sum_bias = sum_bias + grad_dt;
      sum_D = sum_D + grads.y[t] * chunk.u[t];
      const int64_t row = block.row(first + t);
      if (row < 0) continue;
      store_row<S, Simd>(grad_dts[row], grad_dt, block.lanes);
      T* to_u = grad_us[row];
      V grad_u = grads.input[t] * chunk.dt[t] + grads.y[t] * block.D;
      if (add_to_u) grad_u = grad_u + load_row<T, Simd>(to_u, block.lanes);
      store_row<T, Simd>(to_u, grad_u, block.lanes);
    }
  }
  store_transposed<Simd>(grad_A.data(), states, block.lanes, static_cast<T*>(args.grad_A) + block.slot() * states);
  store_row<T, Simd>(static_cast<T*>(args.grad_D) + block.slot(), sum_D, block.lanes);
  store_row<T, Simd>(static_cast<T*>(args.grad_dt_bias) + block.slot(), sum_bias, block.lanes);
}

template <class Simd, class S>
void scan_forward(const ScanArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  for (int64_t task = first; task < last; ++task) {
    const int64_t sequence = task / blocks;
    scan_forward_block<Simd, S>(
        Block<Simd>(args, sequence / args.directions, sequence % args.directions, task % blocks));
  }
}

// A task takes a group of channel blocks through all directions, so that nobody else adds to its rows of grad_u, B, C.
template <class Simd, class S>
void scan_backward(const ScanArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  for (int64_t task = first; task < last; ++task) {
    const int64_t batch = task / args.parts, part = task % args.parts;
    for (int64_t direction = 0; direction < args.directions; ++direction) {
      const int64_t stride = args.directions * args.states;
      const int64_t offset = (part * args.batch + batch) * args.rows * stride + direction * args.states;
      const PartRows<T> rows{static_cast<T*>(args.grad_B) + offset, static_cast<T*>(args.grad_C) + offset, stride};
      for (int64_t block = part * blocks / args.parts; block < (part + 1) * blocks / args.parts; ++block)
        scan_backward_block<Simd, S>(Block<Simd>(args, batch, direction, block), rows, args.spatial && direction > 0);
    }
  }
}
