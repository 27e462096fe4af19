// Gating the scans of all directions by SCAttn and adding them up, forward and backward, a chunk of tokens at a time.
//
// Included once per instruction set, after rows.h. With x_k = y_k silu(z), or y_k without z:
//   mean_k = sum over tokens of LN(x_k), without affine     out = sum over directions of gates_k x_k

template <class Simd>
struct MergeRow {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const MergeArguments& args;
  int64_t batch, token;
  const T* gate;  // silu(z) of the token, or null

  static INLINE int lanes(const MergeArguments& args, int64_t c) { return int(smaller(Simd::kWidth, args.channels - c)); }

  template <class S>
  INLINE V y(int64_t k, int64_t c) const {
    return load_row<S, Simd>(at<const S>(args.y, batch, token, k) + c, lanes(args, c));
  }
  template <class S>
  INLINE V x(int64_t k, int64_t c) const {
    return gate == nullptr ? y<S>(k, c) : y<S>(k, c) * Simd::load(gate + c);
  }
  template <class S>
  INLINE V grad_out(int64_t c) const {
    return load_row<S, Simd>(at<const S>(args.grad_out, batch, token, 0) + c, lanes(args, c));
  }
};

// A row of channels, and a margin so that whole vectors can be written.
template <class Simd>
INLINE int64_t padded_channels(const MergeArguments& args) {
  return (args.channels + Simd::kWidth - 1) / Simd::kWidth * Simd::kWidth;
}

// A contiguous (batch, directions, channels) table's row, padded with zeros.
template <class Simd>
struct Table {
  using T = typename Simd::Value;
  Array<T> values;
  int64_t stride;
  Table(const MergeArguments& args, const void* data, int64_t batch)
      : values(args.directions * padded_channels<Simd>(args)), stride(padded_channels<Simd>(args)) {
    if (data == nullptr) return;
    for (int64_t k = 0; k < args.directions; ++k)
      std::memcpy(row(k), static_cast<const T*>(data) + (batch * args.directions + k) * args.channels,
                  sizeof(T) * static_cast<size_t>(args.channels));
  }
  void copy_to(const MergeArguments& args, void* data, int64_t index) {
    for (int64_t k = 0; k < args.directions; ++k)
      std::memcpy(static_cast<T*>(data) + (index * args.directions + k) * args.channels, row(k),
                  sizeof(T) * static_cast<size_t>(args.channels));
  }
  T* row(int64_t k) { return values.data() + k * stride; }
};

// silu(z) of a token; with_slope, its derivative behind it.
template <class Simd, class S>
INLINE const typename Simd::Value* silu_row(const MergeArguments& args, int64_t batch, int64_t token,
                                            Array<typename Simd::Value>& gate, bool with_slope) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  if (args.z.data == nullptr) return nullptr;
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    const V z = load_row<S, Simd>(at<const S>(args.z, batch, token, 0) + c, MergeRow<Simd>::lanes(args, c));
    const V logistic = Simd::logistic(z);
    Simd::store(gate.data() + c, z * logistic);
    if (with_slope)
      Simd::store(gate.data() + padded_channels<Simd>(args) + c,
                  logistic * (Simd::set(T(1)) + z * (Simd::set(T(1)) - logistic)));
  }
  return gate.data();
}

// Moments of x over the channels; x is kept in row. Lanes past the end are left out of the sums.
template <class Simd, class S>
INLINE void moments(const MergeRow<Simd>& at_token, int64_t k, typename Simd::Value* row, typename Simd::Value& mean,
                    typename Simd::Value& rstd) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const MergeArguments& args = at_token.args;
  const int64_t whole = args.channels / Simd::kWidth * Simd::kWidth;
  V sum = Simd::set(T(0)), squares = Simd::set(T(0));
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    const V x = at_token.template x<S>(k, c);
    Simd::store(row + c, x);
    sum = sum + x;
  }
  mean = Simd::sum(sum) / T(args.channels);
  for (int64_t c = 0; c < whole; c += Simd::kWidth) {
    const V centred = Simd::load(row + c) - Simd::set(mean);
    squares = squares + centred * centred;
  }
  T variance = Simd::sum(squares);
  for (int64_t c = whole; c < args.channels; ++c) variance += (row[c] - mean) * (row[c] - mean);
  rstd = T(1) / std::sqrt(variance / T(args.channels) + T(args.eps));
}

// A task is a chunk of one sample's tokens.
struct MergeTask {
  int64_t batch, chunk, first, last;
  MergeTask(const MergeArguments& args, int64_t task) {
    const int64_t chunks = (args.tokens + kMergeChunk - 1) / kMergeChunk;
    batch = task / chunks;
    chunk = task % chunks;
    first = chunk * kMergeChunk;
    last = smaller(first + kMergeChunk, args.tokens);
  }
};

template <class Simd, class S>
void merge_mean(const MergeArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  Array<T> row(padded_channels<Simd>(args)), gate(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, nullptr, 0);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, silu_row<Simd, S>(args, task.batch, token, gate, false)};
      for (int64_t k = 0; k < args.directions; ++k) {
        T mean, rstd, *to = sums.row(k);
        moments<Simd, S>(at_token, k, row.data(), mean, rstd);
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
          Simd::store(to + c, Simd::load(to + c) + (Simd::load(row.data() + c) - Simd::set(mean)) * Simd::set(rstd));
      }
    }
    sums.copy_to(args, args.partial, task.chunk * args.batch + task.batch);
  }
}

template <class Simd, class S>
void merge_forward(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  Array<T> gate(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.gates, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, silu_row<Simd, S>(args, task.batch, token, gate, false)};
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        V sum = Simd::set(T(0));
        for (int64_t k = 0; k < args.directions; ++k)
          sum = sum + Simd::load(gates.row(k) + c) * at_token.template y<S>(k, c);
        if (at_token.gate != nullptr) sum = sum * Simd::load(at_token.gate + c);
        store_row<S, Simd>(at<S>(args.out, task.batch, token, 0) + c, sum, at_token.lanes(args, c));
      }
    }
  }
}

// The gradient of the gates.
template <class Simd, class S>
void merge_grad_gates(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  Array<T> gate(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, nullptr, 0);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, silu_row<Simd, S>(args, task.batch, token, gate, false)};
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        const V grad = at_token.template grad_out<S>(c);
        for (int64_t k = 0; k < args.directions; ++k) {
          T* to = sums.row(k) + c;
          Simd::store(to, Simd::load(to) + grad * at_token.template x<S>(k, c));
        }
      }
    }
    sums.copy_to(args, args.partial, task.chunk * args.batch + task.batch);
  }
}

// The gradients of y and z, through the sum and through the mean of the normalised tokens (args.grad_mean).
template <class Simd, class S>
void merge_backward(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args);
  Array<T> row(padded), gate(2 * padded), grad_gate(padded);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.gates, task.batch), grad_mean(args, args.grad_mean, task.batch);
    Array<T> mean_of_grad(args.directions);
    for (int64_t k = 0; k < args.directions; ++k) {
      for (int64_t c = 0; c < args.channels; ++c) mean_of_grad[k] += grad_mean.row(k)[c];
      mean_of_grad[k] /= T(args.channels);
    }
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, silu_row<Simd, S>(args, task.batch, token, gate, true)};
      for (int64_t c = 0; c < padded; ++c) grad_gate[c] = 0;
      for (int64_t k = 0; k < args.directions; ++k) {
        T mean, rstd;
        moments<Simd, S>(at_token, k, row.data(), mean, rstd);
        const T* through = grad_mean.row(k);
        V dot = Simd::set(T(0));  // lanes past the end have no gradient
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
          dot = dot + Simd::load(through + c) * (Simd::load(row.data() + c) - Simd::set(mean));
        const T slope = Simd::sum(dot) * rstd * rstd / T(args.channels);
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
          const V centred = Simd::load(row.data() + c) - Simd::set(mean);
          const V by_norm = (Simd::load(through + c) - Simd::set(mean_of_grad[k]) - centred * Simd::set(slope)) * Simd::set(rstd);
          V grad = at_token.template grad_out<S>(c) * Simd::load(gates.row(k) + c) + by_norm;
          if (at_token.gate != nullptr) {
            T* to = grad_gate.data() + c;
            Simd::store(to, Simd::load(to) + grad * at_token.template y<S>(k, c));
            grad = grad * Simd::load(at_token.gate + c);
          }
          store_row<S, Simd>(at<S>(args.grad_y, task.batch, token, k) + c, grad, at_token.lanes(args, c));
        }
      }
      if (at_token.gate == nullptr) continue;
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
        store_row<S, Simd>(at<S>(args.grad_z, task.batch, token, 0) + c,
                           Simd::load(grad_gate.data() + c) * Simd::load(gate.data() + padded + c),
                           at_token.lanes(args, c));
    }
  }
}
