// Vectors of channels: arithmetic, loads and stores in every type, and moves between lanes.
//
// A Simd type has a Value, a Vector of kWidth of them, and the functions below as static members.
#pragma once

#include "instruction_set.h"
#include "numbers.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// A vector in plain C++, for doubles and for compilers without vector types.
template <class T, int W>
struct Plain {
  T lanes[W];
  T& operator[](int i) { return lanes[i]; }
  T operator[](int i) const { return lanes[i]; }
};
#define PLAIN_OPERATOR(op)                                                     \
  template <class T, int W>                                                    \
  INLINE Plain<T, W> operator op(const Plain<T, W>& a, const Plain<T, W>& b) { \
    Plain<T, W> c;                                                             \
    for (int i = 0; i < W; ++i) c.lanes[i] = a.lanes[i] op b.lanes[i];         \
    return c;                                                                  \
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
  // A NaN in b stays.
  static INLINE Vector max(const Vector& a, const Vector& b) {
    Vector y;
    for (int i = 0; i < W; ++i) y.lanes[i] = a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i];
    return y;
  }
  static INLINE Vector min(const Vector& a, const Vector& b) {
    Vector y;
    for (int i = 0; i < W; ++i) y.lanes[i] = a.lanes[i] < b.lanes[i] ? a.lanes[i] : b.lanes[i];
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
  static INLINE Vector min(const Vector& a, const Vector& b) {
#if defined(SIMD_AVX512)
    return (Vector)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(SIMD_AVX2)
    return (Vector)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return a < b ? a : b;
#endif
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

}  // namespace mmlocalmamba::SIMD_NAMESPACE
