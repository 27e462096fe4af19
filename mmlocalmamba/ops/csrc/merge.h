// Gating the scans of all directions by SCAttn and adding them up, forward and backward, a chunk of tokens at a time.
//
// Included once per instruction set, after rows.h. With x_k = y_k silu(z), or y_k without z:
//   mean_k = sum over tokens of LN(x_k), without affine     out = sum over directions of gates_k x_k
// With a norm, z gates last: x_k = y_k, and out = norm(sum over directions of gates_k x_k) silu(z).

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
    for (int64_t k = 0; k < rows; ++k)
      std::memcpy(static_cast<T*>(data) + (index * rows + k) * channels, row(k), bytes());
  }
  size_t bytes() const { return sizeof(T) * static_cast<size_t>(channels); }
  T* row(int64_t k) { return values.data() + k * stride; }
};

// silu(z) of a token; with_slope, its derivative behind it.
template <class Simd, class S>
INLINE void silu_row(const MergeArguments& args, int64_t batch, int64_t token, typename Simd::Value* to,
                     bool with_slope) {
  using V = typename Simd::Vector;
  for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
    const V z = load_row<S, Simd>(at<const S>(args.z, batch, token, 0) + c, MergeRow<Simd>::lanes(args, c));
    const V logistic = Simd::logistic(z);
    Simd::store(to + c, z * logistic);
    if (with_slope) Simd::store(to + padded_channels<Simd>(args) + c, silu_slope<Simd>(z, logistic));
  }
}

// Whether z gates the scans, before everything else.
INLINE bool gates_first(const MergeArguments& args) { return args.z.data != nullptr && args.norm_weight == nullptr; }

// silu(z) where z gates first, else null.
template <class Simd, class S>
INLINE const typename Simd::Value* first_gate(const MergeArguments& args, int64_t batch, int64_t token,
                                              typename Simd::Value* to, bool with_slope) {
  if (!gates_first(args)) return nullptr;
  silu_row<Simd, S>(args, batch, token, to, with_slope);
  return to;
}

// Where the first kernel of the forward keeps it for the last one.
template <class Simd>
INLINE typename Simd::Value* kept_gate(const MergeArguments& args, int64_t batch, int64_t token) {
  if (!gates_first(args)) return nullptr;
  const int64_t row = batch * args.tokens + token;
  return static_cast<typename Simd::Value*>(args.kept_gate) + row * padded_channels<Simd>(args);
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

// Moments of x, which is kept in row.
template <class Simd, class S>
INLINE void moments_of_x(const MergeRow<Simd>& at_token, int64_t k, typename Simd::Value* row,
                         typename Simd::Value& mean, typename Simd::Value& rstd) {
  for (int64_t c = 0; c < at_token.args.channels; c += Simd::kWidth)
    Simd::store(row + c, at_token.template x<S>(k, c));
  moments<Simd>(at_token.args, row, at_token.args.eps, mean, rstd);
}

// The sum of the gated scans of a token, before anything is done to it.
template <class Simd, class S>
INLINE typename Simd::Vector gated_sum(const MergeRow<Simd>& at_token, Table<Simd>& gates, int64_t c) {
  typename Simd::Vector sum = Simd::set(typename Simd::Value(0));
  for (int64_t k = 0; k < at_token.args.directions; ++k)
    sum = sum + Simd::load(gates.row(k) + c) * at_token.template y<S>(k, c);
  return sum;
}

// A task is a chunk of one sample's tokens.
struct MergeTask {
  int64_t batch, chunk, first, last;
  MergeTask(const MergeArguments& args, int64_t task) {
    const int64_t chunks = (args.tokens + args.chunk - 1) / args.chunk;
    batch = task / chunks;
    chunk = task % chunks;
    first = chunk * args.chunk;
    last = smaller(first + args.chunk, args.tokens);
  }
};

template <class Simd, class S>
void merge_mean(const MergeArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  Array<T> row(padded_channels<Simd>(args));
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> sums(args, args.directions);
    for (int64_t token = task.first; token < task.last; ++token) {
      T* const kept = kept_gate<Simd>(args, task.batch, token);
      const MergeRow<Simd> at_token{args, task.batch, token, first_gate<Simd, S>(args, task.batch, token, kept, false)};
      for (int64_t k = 0; k < args.directions; ++k) {
        T mean, rstd, *to = sums.row(k);
        moments_of_x<Simd, S>(at_token, k, row.data(), mean, rstd);
        for (int64_t c = 0; c < args.channels; c += Simd::kWidth)
          Simd::store(to + c, Simd::load(to + c) + (Simd::load(row.data() + c) - Simd::set(mean)) * Simd::set(rstd));
      }
    }
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

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
template <class Simd>
void merge_gates(const GateArguments& args) {
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
      const T x = static_cast<const T*>(args.reduce_bias)[h] +
                  dot<Simd>(static_cast<const T*>(args.reduce_weight) + h * channels, normed.data() + row * channels,
                            channels);
      activated[row * hidden + h] = x * T(0.5) * (1 + std::erf(x * T(0.7071067811865476)));  // GELU
    }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t row = 0; row < args.rows; ++row)
      gates[row * channels + c] = static_cast<const T*>(args.select_bias)[c] +
                                  dot<Simd>(static_cast<const T*>(args.select_weight) + c * hidden,
                                            activated.data() + row * hidden, hidden);
  for (int64_t i = 0; i < args.rows * channels; i += Simd::kWidth) {
    const int lanes = int(smaller(Simd::kWidth, args.rows * channels - i));
    store_row<T, Simd>(gates + i, Simd::logistic(load_row<T, Simd>(gates + i, lanes)), lanes);
  }
}

template <class Simd, class S>
void merge_forward(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args);
  Array<T> gate(padded), row(padded);
  Table<Simd> weight(args, 1, args.norm_weight), bias(args, 1, args.norm_bias);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, kept_gate<Simd>(args, task.batch, token)};
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        V sum = gated_sum<Simd, S>(at_token, gates, c);
        if (at_token.gate != nullptr) sum = sum * Simd::load(at_token.gate + c);
        Simd::store(row.data() + c, sum);
      }
      T mean = 0, rstd = 1;
      if (args.norm_weight != nullptr) {
        moments<Simd>(args, row.data(), args.norm_eps, mean, rstd);
        silu_row<Simd, S>(args, task.batch, token, gate.data(), false);
      }
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        V out = Simd::load(row.data() + c);
        if (args.norm_weight != nullptr) {
          out = (out - Simd::set(mean)) * Simd::set(rstd) * Simd::load(weight.row(0) + c) + Simd::load(bias.row(0) + c);
          out = out * Simd::load(gate.data() + c);
        }
        store_row<S, Simd>(at<S>(args.out, task.batch, token, 0) + c, out, at_token.lanes(args, c));
      }
    }
  }
}

// The gradient of a token's sum of gated scans, through the norm and its gate; adds to the gradients of the norm's
// weight and bias, and stores the gradient of z.
template <class Simd, class S>
class NormBackward {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;

 public:
  explicit NormBackward(const MergeArguments& a)
      : args_(a), weight_(a, 1, a.norm_weight), bias_(a, 1, a.norm_bias), gate_(2 * padded_channels<Simd>(a)) {}

  INLINE void take(const MergeRow<Simd>& at_token, Table<Simd>& gates, T* grad_weight, T* grad_bias, T* row) {
    const int64_t batch = at_token.batch, token = at_token.token, padded = padded_channels<Simd>(args_);
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth)
      Simd::store(row + c, gated_sum<Simd, S>(at_token, gates, c));
    T mean, rstd;
    moments<Simd>(args_, row, args_.norm_eps, mean, rstd);
    silu_row<Simd, S>(args_, batch, token, gate_.data(), true);
    V sum = Simd::set(T(0)), dot = Simd::set(T(0));  // lanes past the end have no gradient
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth) {
      const V normed = (Simd::load(row + c) - Simd::set(mean)) * Simd::set(rstd);
      const V weight = Simd::load(weight_.row(0) + c), grad_out = at_token.template grad_out<S>(c);
      const V before = normed * weight + Simd::load(bias_.row(0) + c);
      store_row<S, Simd>(at<S>(args_.grad_z, batch, token, 0) + c,
                         grad_out * before * Simd::load(gate_.data() + padded + c), at_token.lanes(args_, c));
      const V grad = grad_out * Simd::load(gate_.data() + c), by_norm = grad * weight;
      Simd::store(grad_weight + c, Simd::load(grad_weight + c) + grad * normed);
      Simd::store(grad_bias + c, Simd::load(grad_bias + c) + grad);
      Simd::store(row + c, normed);
      Simd::store(gate_.data() + c, by_norm);
      sum = sum + by_norm;
      dot = dot + by_norm * normed;
    }
    const V mean_grad = Simd::set(Simd::sum(sum) / T(args_.channels));
    const V slope = Simd::set(Simd::sum(dot) / T(args_.channels));
    for (int64_t c = 0; c < args_.channels; c += Simd::kWidth) {
      const V grad = (Simd::load(gate_.data() + c) - mean_grad - Simd::load(row + c) * slope) * Simd::set(rstd);
      Simd::store(row + c, grad);
      store_row<S, Simd>(at<S>(args_.grad_sum, batch, token, 0) + c, grad, at_token.lanes(args_, c));
    }
  }

 private:
  const MergeArguments& args_;
  Table<Simd> weight_, bias_;
  Array<T> gate_;
};

// The gradients of the gates, and behind them those of the norm's weight and bias, if there is one.
template <class Simd, class S>
void merge_grad_gates(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args), num = args.directions;
  const bool normed = args.norm_weight != nullptr;
  Array<T> gate(padded), row(padded);
  NormBackward<Simd, S> norm(args);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, num, args.gates, task.batch), sums(args, normed ? num + 2 : num);
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, first_gate<Simd, S>(args, task.batch, token, gate.data(), false)};
      if (normed) norm.take(at_token, gates, sums.row(num), sums.row(num + 1), row.data());
      for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
        const V grad = normed ? Simd::load(row.data() + c) : at_token.template grad_out<S>(c);
        for (int64_t k = 0; k < num; ++k) {
          T* to = sums.row(k) + c;
          Simd::store(to, Simd::load(to) + grad * at_token.template x<S>(k, c));
        }
      }
    }
    sums.copy_to(args.partial, task.chunk * args.batch + task.batch);
  }
}

// The gradients of y, and of z where it gates first, through the sum (whose gradient is args.grad_out) and through the
// mean of the normalised tokens (args.grad_mean).
template <class Simd, class S>
void merge_backward(const MergeArguments& args, int64_t first, int64_t last) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const int64_t padded = padded_channels<Simd>(args);
  Array<T> row(padded), gate(2 * padded), grad_gate(padded);
  for (int64_t index = first; index < last; ++index) {
    const MergeTask task(args, index);
    Table<Simd> gates(args, args.directions, args.gates, task.batch);
    Table<Simd> grad_mean(args, args.directions, args.grad_mean, task.batch);
    Array<T> mean_of_grad(args.directions);
    for (int64_t k = 0; k < args.directions; ++k) {
      for (int64_t c = 0; c < args.channels; ++c) mean_of_grad[k] += grad_mean.row(k)[c];
      mean_of_grad[k] /= T(args.channels);
    }
    for (int64_t token = task.first; token < task.last; ++token) {
      const MergeRow<Simd> at_token{args, task.batch, token, first_gate<Simd, S>(args, task.batch, token, gate.data(), true)};
      for (int64_t c = 0; c < padded; ++c) grad_gate[c] = 0;
      for (int64_t k = 0; k < args.directions; ++k) {
        T mean, rstd;
        moments_of_x<Simd, S>(at_token, k, row.data(), mean, rstd);
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
