// Vectors of channels and the functions of them that the kernels need.
//
// Included once per instruction set, after numbers.h. SIMD_WIDTH is the number of floats in a vector.

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
  template <class S>
  static INLINE Vector load(const S* p) {
    Vector v;
    for (int i = 0; i < W; ++i) v.lanes[i] = to_compute(p[i]);
    return v;
  }
  template <class S>
  static INLINE void store(S* p, const Vector& v) {
    for (int i = 0; i < W; ++i) from_compute(v.lanes[i], p[i]);
  }
  static INLINE Vector exp2(const Vector& x) {
    Vector y;
    for (int i = 0; i < W; ++i) y.lanes[i] = std::exp2(x.lanes[i]);
    return y;
  }
  static INLINE Vector exp2_of_product(const Vector& a, const Vector& b) { return exp2(a * b); }
  static INLINE Vector softplus(const Vector& x) {
    Vector y;
    for (int i = 0; i < W; ++i) {
      const T v = x.lanes[i];
      y.lanes[i] = (v > 0 ? v : v == v ? T(0) : v) + std::log1p(std::exp(-std::abs(v)));
    }
    return y;
  }
  // the derivative of softplus
  static INLINE Vector logistic(const Vector& x) {
    Vector y;
    for (int i = 0; i < W; ++i) {
      const T v = x.lanes[i], z = std::exp(-std::abs(v));
      y.lanes[i] = (v > 0 ? T(1) : z) / (1 + z);
    }
    return y;
  }
  // (-b, a) of each pair of neighbours (a, b).
  static INLINE Vector turned(const Vector& v) {
    Vector y;
    for (int i = 0; i < W; i += 2) {
      y.lanes[i] = -v.lanes[i + 1];
      y.lanes[i + 1] = v.lanes[i];
    }
    return y;
  }
  static INLINE T sum(const Vector& v) {
    T s = 0;
    for (int i = 0; i < W; ++i) s += v.lanes[i];
    return s;
  }
  // Store the sums of four vectors' lanes, twice.
  static INLINE void store_sums(const Vector* a, const Vector* b, T* to_a, T* to_b) {
    for (int n = 0; n < 4; ++n) to_a[n] = sum(a[n]);
    for (int n = 0; n < 4; ++n) to_b[n] = sum(b[n]);
  }
};

#if defined(__GNUC__)

#if defined(SIMD_AVX512)
// 2^(i/32)
alignas(64) static const float kRoots[32] = {
    1.0f, 1.0218972f, 1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f, 1.13878858f, 1.1637249f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f, 1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f, 1.87416768f, 1.91520655f, 1.95714414f,
};
#endif

typedef float FloatVector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef int32_t IntVector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef uint32_t BitsVector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef uint16_t ShortVector __attribute__((vector_size(2 * SIMD_WIDTH)));

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

  // As to_compute and from_compute, which compilers do not vectorise.
  static INLINE Vector load(const BFloat16* p) {
    ShortVector v;
    __builtin_memcpy(&v, p, sizeof(v));
    return (Vector)(__builtin_convertvector(v, BitsVector) << 16);
  }
  static INLINE void store(BFloat16* p, const Vector& v) {
    const BitsVector bits = (BitsVector)v, nan = BitsVector{} + 0x7fc0u;
    const BitsVector rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const ShortVector out = __builtin_convertvector(v == v ? rounded : nan, ShortVector);
    __builtin_memcpy(p, &out, sizeof(out));
  }
  static INLINE Vector load(const Half* p) {
#if defined(SIMD_AVX512)
    return (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
    float row[kWidth];
    for (int i = 0; i < kWidth; ++i) row[i] = to_compute(p[i]);
    return load(row);
#endif
  }
  static INLINE void store(Half* p, const Vector& v) {
#if defined(SIMD_AVX512)
    const __m256i out = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), out);
#else
    for (int i = 0; i < kWidth; ++i) from_compute(v[i], p[i]);
#endif
  }

  // (-b, a) of each pair of neighbours (a, b).
  static INLINE Vector turned(const Vector& v) {
#if defined(SIMD_AVX512)
    const __m512 swapped = _mm512_permute_ps((__m512)v, 0xb1);
    return (Vector)_mm512_mask_sub_ps(swapped, 0x5555, _mm512_setzero_ps(), swapped);
#elif defined(SIMD_AVX2)
    return (Vector)_mm256_addsub_ps(_mm256_setzero_ps(), _mm256_permute_ps((__m256)v, 0xb1));
#else
    Vector y;
    for (int i = 0; i < kWidth; i += 2) {
      y[i] = -v[i + 1];
      y[i + 1] = v[i];
    }
    return y;
#endif
  }

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

  // 2^(a b) for a b <= 0: relative error below 2e-7, zero where it is too small for a normal number. a b is never
  // rounded: the nearest multiple of 1/32 is split off its exact value.
  static INLINE Vector exp2_of_product(const Vector& a, const Vector& b) {
#if defined(SIMD_AVX512)
    const __m512 product_of = (__m512)a, with = (__m512)b;
    const __m512 round = _mm512_set1_ps(393216.0f);  // 1.5 * 2^18: the low bits then count 32nds
    const __m512 shifted = _mm512_fmadd_ps(product_of, with, round);
    const __m512 nearest = _mm512_sub_ps(shifted, round);
    const __m512 f = _mm512_fmsub_ps(product_of, with, nearest);  // |f| <= 1/64
    // 2^(i/32) by the low five bits, times 2^f by a minimax polynomial (6e-8), times 2^floor(nearest)
    const __m512 root = _mm512_permutex2var_ps(_mm512_loadu_ps(kRoots), _mm512_castps_si512(shifted),
                                               _mm512_loadu_ps(kRoots + 16));
    const __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(2.40226507e-01f), f, _mm512_set1_ps(6.93157344e-01f));
    return (Vector)_mm512_scalef_ps(_mm512_fmadd_ps(_mm512_mul_ps(root, f), slope, root), nearest);
#else
    return exp2(a * b);
#endif
  }

  // softplus(x) = max(x, 0) + log1p(exp(-|x|)): relative error below 6e-7 + 8e-8 |x|, the latter from rounding
  // x log2 e. Minimax polynomial of log1p(z) / z (3e-8).
  static INLINE Vector softplus(const Vector& x) {
    const Vector z = exp_of_minus_abs(x);
    Vector p = set(5.232676398e-03f) * z + set(-2.950516529e-02f);
    p = p * z + set(7.822582871e-02f);
    p = p * z + set(-1.366323531e-01f);
    p = p * z + set(1.910600215e-01f);
    p = p * z + set(-2.484298050e-01f);
    p = p * z + set(3.331909776e-01f);
    p = p * z + set(-4.999949336e-01f);
    p = p * z + set(9.999999404e-01f);
    return p * z + max(set(0.0f), x);
  }

  // 1 / (1 + exp(-x)), the derivative of softplus, to the same relative error.
  static INLINE Vector logistic(const Vector& x) {
    const Vector z = exp_of_minus_abs(x), one = set(1.0f);
    return (x > set(0.0f) ? one : z) * reciprocal(one + z);
  }

  static INLINE float sum(const Vector& v) {
#if defined(SIMD_AVX512)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float s = 0;
    for (int i = 0; i < kWidth; ++i) s += v[i];
    return s;
#endif
  }

  static INLINE void store_sums(const Vector* a, const Vector* b, float* to_a, float* to_b) {
#if defined(SIMD_AVX512)
    const __m512 p = quads(a), q = quads(b);  // in each quarter, four partial sums
    const __m512 halves = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x88), _mm512_shuffle_f32x4(p, q, 0xdd));
    const __m512 sums = _mm512_add_ps(halves, _mm512_shuffle_f32x4(halves, halves, 0xb1));
    _mm_storeu_ps(to_a, _mm512_castps512_ps128(sums));
    _mm_storeu_ps(to_b, _mm512_extractf32x4_ps(sums, 2));
#elif defined(SIMD_AVX2)
    const __m256 p = quads(a), q = quads(b);
    const __m128 sum_a = _mm_add_ps(_mm256_castps256_ps128(p), _mm256_extractf128_ps(p, 1));
    const __m128 sum_b = _mm_add_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
    _mm_storeu_ps(to_a, sum_a);
    _mm_storeu_ps(to_b, sum_b);
#else
    for (int n = 0; n < 4; ++n) to_a[n] = sum(a[n]);
    for (int n = 0; n < 4; ++n) to_b[n] = sum(b[n]);
#endif
  }

 private:
  static INLINE Vector exp_of_minus_abs(const Vector& x) {
    const Vector positive = max(set(0.0f), x);
    return exp2_of_product(x - positive - positive, set(1.4426950408889634f));
  }

  static INLINE Vector reciprocal(const Vector& x) {
#if defined(SIMD_AVX512)
    const __m512 guess = _mm512_rcp14_ps((__m512)x);  // and one step of Newton's method
    return (Vector)_mm512_fmadd_ps(guess, _mm512_fnmadd_ps((__m512)x, guess, _mm512_set1_ps(1.0f)), guess);
#else
    return set(1.0f) / x;
#endif
  }

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
