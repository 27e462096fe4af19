// Vectors of channels and the functions of them that the kernels need.
//
// Included once per instruction set, inside a namespace of its own: no function compiled for one set can be taken for
// that of another. SIMD_WIDTH is the number of floats in a vector.

#define INLINE inline __attribute__((always_inline))
#if !defined(__GNUC__)
#undef INLINE
#define INLINE inline
#endif

// A vector in plain C++, for doubles and for compilers without vector types.
template <class T, int W>
struct Plain {
  T lanes[W];
  T& operator[](int i) { return lanes[i]; }
  T operator[](int i) const { return lanes[i]; }
};
#define PLAIN_OPERATOR(op)                                                  \
  template <class T, int W>                                                 \
  INLINE Plain<T, W> operator op(const Plain<T, W>& a, const Plain<T, W>& b) { \
    Plain<T, W> c;                                                          \
    for (int i = 0; i < W; ++i) c.lanes[i] = a.lanes[i] op b.lanes[i];      \
    return c;                                                               \
  }
PLAIN_OPERATOR(+)
PLAIN_OPERATOR(-)
PLAIN_OPERATOR(*)
PLAIN_OPERATOR(/)
#undef PLAIN_OPERATOR

// Every lane by the C library: exact to its rounding, and as slow as it is.
template <class T, int W>
struct PlainSimd {
  using Value = T;
  using Vector = Plain<T, W>;
  static constexpr int kWidth = W;

  static INLINE Vector set(T x) {
    Vector v;
    for (int i = 0; i < W; ++i) v.lanes[i] = x;
    return v;
  }
  static INLINE Vector load(const T* p) {
    Vector v;
    for (int i = 0; i < W; ++i) v.lanes[i] = p[i];
    return v;
  }
  static INLINE void store(T* p, const Vector& v) {
    for (int i = 0; i < W; ++i) p[i] = v.lanes[i];
  }
  static INLINE Vector exp2(const Vector& x) {
    Vector y;
    for (int i = 0; i < W; ++i) y.lanes[i] = std::exp2(x.lanes[i]);
    return y;
  }
  // softplus and its derivative, the logistic function
  static INLINE Vector softplus(const Vector& x, Vector& slope) {
    Vector y;
    for (int i = 0; i < W; ++i) {
      const T v = x.lanes[i], z = std::exp(-std::abs(v));
      y.lanes[i] = (v > 0 ? v : v == v ? T(0) : v) + std::log1p(z);
      slope.lanes[i] = (v > 0 ? T(1) : z) / (1 + z);
    }
    return y;
  }
  static INLINE T sum(const Vector& v) {
    T s = 0;
    for (int i = 0; i < W; ++i) s += v.lanes[i];
    return s;
  }
  // Add the sums of four vectors' lanes to four numbers, twice.
  static INLINE void add_sums(const Vector* a, const Vector* b, T* to_a, T* to_b) {
    for (int n = 0; n < 4; ++n) to_a[n] += sum(a[n]);
    for (int n = 0; n < 4; ++n) to_b[n] += sum(b[n]);
  }
};

#if defined(__GNUC__)

typedef float FloatVector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef int32_t IntVector __attribute__((vector_size(4 * SIMD_WIDTH)));

struct FloatSimd {
  using Value = float;
  using Vector = FloatVector;
  static constexpr int kWidth = SIMD_WIDTH;

  static INLINE Vector set(float x) { return x - Vector{}; }
  static INLINE Vector load(const float* p) {
    Vector v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
  }
  static INLINE void store(float* p, const Vector& v) { __builtin_memcpy(p, &v, sizeof(v)); }

  // A NaN in b stays.
  static INLINE Vector max(const Vector& a, const Vector& b) {
#if defined(SIMD_AVX512)
    return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(SIMD_AVX2)
    return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
  }

  // 2^x for x <= 0: relative error below 2e-7; what is below 2^-126 becomes 2^-126, and NaN stays NaN. Above 127 it
  // is undefined. x = n + f with n whole and |f| <= 1/2; minimax polynomial of 2^f (9e-8); n goes to the exponent.
  static INLINE Vector exp2(const Vector& x) {
    const Vector round = set(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
    const Vector bounded = max(set(-126.0f), x);
    const Vector shifted = bounded + round;
    const Vector f = bounded - (shifted - round);
    Vector p = set(1.326472423e-03f) * f + set(9.671513244e-03f);
    p = p * f + set(5.550733757e-02f);
    p = p * f + set(2.402224207e-01f);
    p = p * f + set(6.931469776e-01f);
    p = p * f + set(1.0f);
    return (Vector)((IntVector)p + ((IntVector)shifted << 23));
  }

  // softplus(x) = max(x, 0) + log1p(z), z = exp(-|x|), and its derivative; relative error of each below
  // 6e-7 + 8e-8 |x|, the latter from rounding x log2 e.
  // log1p(z) = 2 atanh(s), s = z / (2 + z) <= 1/3; minimax polynomial of 2 atanh(s) / s in s^2 (4e-9).
  static INLINE Vector softplus(const Vector& x, Vector& slope) {
    const Vector zero = set(0.0f), one = set(1.0f), positive = max(zero, x);
    const Vector z = exp2((x - positive - positive) * set(1.4426950408889634f));  // x - 2 max(x, 0) = -|x|
    const Vector s = z / (z + set(2.0f)), q = s * s;
    Vector p = set(2.817832670e-01f) * q + set(2.796060534e-01f);
    p = p * q + set(4.002491003e-01f);
    p = p * q + set(6.666631469e-01f);
    p = p * q + set(2.000000008e+00f);
    slope = (x > zero ? one : z) / (one + z);
    return positive + p * s;
  }

  static INLINE float sum(const Vector& v) {
    float s = 0;
    for (int i = 0; i < kWidth; ++i) s += v[i];
    return s;
  }

  static INLINE void add_sums(const Vector* a, const Vector* b, float* to_a, float* to_b) {
#if defined(SIMD_AVX512)
    const __m512 p = quads(a), q = quads(b);  // in each quarter, four partial sums
    const __m512 halves = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x88), _mm512_shuffle_f32x4(p, q, 0xdd));
    const __m512 sums = _mm512_add_ps(halves, _mm512_shuffle_f32x4(halves, halves, 0xb1));
    _mm_storeu_ps(to_a, _mm_add_ps(_mm_loadu_ps(to_a), _mm512_castps512_ps128(sums)));
    _mm_storeu_ps(to_b, _mm_add_ps(_mm_loadu_ps(to_b), _mm512_extractf32x4_ps(sums, 2)));
#elif defined(SIMD_AVX2)
    const __m256 p = quads(a), q = quads(b);
    const __m128 sum_a = _mm_add_ps(_mm256_castps256_ps128(p), _mm256_extractf128_ps(p, 1));
    const __m128 sum_b = _mm_add_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
    _mm_storeu_ps(to_a, _mm_add_ps(_mm_loadu_ps(to_a), sum_a));
    _mm_storeu_ps(to_b, _mm_add_ps(_mm_loadu_ps(to_b), sum_b));
#else
    for (int n = 0; n < 4; ++n) to_a[n] += sum(a[n]);
    for (int n = 0; n < 4; ++n) to_b[n] += sum(b[n]);
#endif
  }

 private:
  // Transpose 4 x 4 numbers in each 128 bits while adding them up.
#if defined(SIMD_AVX512)
  static INLINE __m512 quads(const Vector* v) {
    const __m512 a = (__m512)v[0], b = (__m512)v[1], c = (__m512)v[2], d = (__m512)v[3];
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  }
#elif defined(SIMD_AVX2)
  static INLINE __m256 quads(const Vector* v) {
    const __m256 a = (__m256)v[0], b = (__m256)v[1], c = (__m256)v[2], d = (__m256)v[3];
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  }
#endif
};

#else

using FloatSimd = PlainSimd<float, SIMD_WIDTH>;

#endif

using DoubleSimd = PlainSimd<double, SIMD_WIDTH / 2>;

// Numbers as they are stored, to and from the compute type.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

INLINE float to_compute(float x) { return x; }
INLINE double to_compute(double x) { return x; }
INLINE float to_compute(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
INLINE float to_compute(Half x) {
  // Exponent and mantissa moved into place and scaled: right for subnormals too. Infinity and NaN get their exponent.
  const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  uint32_t bits = magnitude;
  float y;
  std::memcpy(&y, &bits, 4);
  y *= 5.192296858534828e+33f;  // 2^112
  std::memcpy(&bits, &y, 4);
  if (magnitude >= 0x0f800000u) bits |= 0x7f800000u;
  bits |= uint32_t(x.bits & 0x8000) << 16;
  std::memcpy(&y, &bits, 4);
  return y;
}

INLINE void from_compute(float x, float& y) { y = x; }
INLINE void from_compute(double x, double& y) { y = x; }
INLINE void from_compute(float x, BFloat16& y) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) {
    y.bits = 0x7fc0;
  } else {
    y.bits = uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
  }
}
INLINE void from_compute(float x, Half& y) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) {
    y.bits = uint16_t(sign | 0x7e00);
  } else if (bits >= 0x477ff000u) {
    y.bits = uint16_t(sign | 0x7c00);  // from 65520 on, the nearest is infinity
  } else if (bits < 0x38800000u) {
    // Subnormal: adding 1/2 leaves the mantissa in the low bits, rounded to nearest even by the processor.
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    y.bits = uint16_t(sign | (bits - 0x3f000000u));
  } else {
    y.bits = uint16_t(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1)) >> 13));
  }
}
