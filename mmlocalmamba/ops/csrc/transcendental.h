// The functions of the kernels that are no arithmetic: 2^x, softplus, logistic and the slope of SiLU.
//
// In float32 they are polynomials whose relative error each states; in float64 the C library's.
#pragma once

#include "instruction_set.h"
#include "simd.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

#if defined(SIMD_AVX512)
constexpr float kShift = 393216.0f;  // 1.5 * 2^18: adding it leaves the nearest multiple of 1/32 in the low bits

// 2^(i/32)
alignas(64) const float kRoots[32] = {
    1.0f,        1.0218972f,  1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f,  1.13878858f, 1.1637249f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f,  1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f,  1.87416768f, 1.91520655f, 1.95714414f,
};
#endif

// Every lane by the C library: exact to its rounding, and as slow as it is.
template <class Simd>
struct Transcendental {
  using T = typename Simd::Value;
  using Vector = typename Simd::Vector;

  static INLINE Vector exp2_of_product(const Vector& a, const Vector& b) {
    const Vector product = a * b;
    Vector y;
    for (int i = 0; i < Simd::kWidth; ++i) y[i] = std::exp2(product[i]);
    return y;
  }
  static INLINE Vector exp2_of_moderate_product(const Vector& a, const Vector& b) { return exp2_of_product(a, b); }
  static INLINE Vector softplus(const Vector& x) {
    Vector y;
    for (int i = 0; i < Simd::kWidth; ++i) {
      const T v = x[i];
      y[i] = (v > 0 ? v : v == v ? T(0) : v) + std::log1p(std::exp(-std::abs(v)));
    }
    return y;
  }
  static INLINE Vector logistic(const Vector& x) {
    Vector y;
    for (int i = 0; i < Simd::kWidth; ++i) {
      const T v = x[i], z = std::exp(-std::abs(v));
      y[i] = (v > 0 ? T(1) : z) / (1 + z);
    }
    return y;
  }
};

#if defined(__GNUC__)

template <>
struct Transcendental<FloatSimd> : private FloatSimd {
  // 2^x for x below 127, above which it is undefined: relative error below 2e-7; what is below 2^-126 becomes 2^-126,
  // and NaN stays NaN. x = n + f with n whole and |f| <= 1/2; minimax polynomial of 2^f (9e-8); n goes to the exponent.
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

  // 2^(a b) for a b below 127: relative error below 2e-7, zero where it is too small for a normal number, minus
  // infinity included. With AVX512, a b is never rounded: the nearest multiple of 1/32 is split off its exact value.
  static INLINE Vector exp2_of_product(const Vector& a, const Vector& b) {
#if defined(SIMD_AVX512)
    // Far below, what rounding has left of a huge number is huge, or NaN. NaN stays.
    const __m512 shifted = _mm512_fmadd_ps((__m512)a, (__m512)b, _mm512_set1_ps(kShift));
    const __mmask16 in_range = _mm512_cmp_ps_mask(shifted, _mm512_set1_ps(kShift - 1024.0f), _CMP_NLT_UQ);
    return (Vector)_mm512_maskz_mov_ps(in_range, (__m512)exp2_of_moderate_product(a, b));
#else
    const Vector product = a * b;
    return product < set(-126.0f) ? set(0.0f) : exp2(product);
#endif
  }

  // The same for a b above -2^60, and for NaN, but with 2^-126 for what is smaller or zero; the scan spends its time
  // here.
  static INLINE Vector exp2_of_moderate_product(const Vector& a, const Vector& b) {
#if defined(SIMD_AVX512)
    const __m512 product_of = (__m512)a, with = (__m512)b;
    const __m512 shifted = _mm512_fmadd_ps(product_of, with, _mm512_set1_ps(kShift));
    const __m512 nearest = _mm512_sub_ps(shifted, _mm512_set1_ps(kShift));
    const __m512 f = _mm512_fmsub_ps(product_of, with, nearest);  // |f| <= 1/64
    // 2^(i/32) by the low five bits, times 2^f by a minimax polynomial (6e-8), times 2^floor(nearest)
    const __m512 root =
        _mm512_permutex2var_ps(_mm512_loadu_ps(kRoots), _mm512_castps_si512(shifted), _mm512_loadu_ps(kRoots + 16));
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

 private:
  static INLINE Vector exp_of_minus_abs(const Vector& x) {
    const BitsVector sign = BitsVector{} + 0x80000000u;
    return exp2_of_product((Vector)((BitsVector)x | sign), set(1.4426950408889634f));
  }

  static INLINE Vector reciprocal(const Vector& x) {
#if defined(SIMD_AVX512)
    const __m512 guess = _mm512_rcp14_ps((__m512)x);  // and one step of Newton's method
    return (Vector)_mm512_fmadd_ps(guess, _mm512_fnmadd_ps((__m512)x, guess, _mm512_set1_ps(1.0f)), guess);
#else
    return set(1.0f) / x;
#endif
  }
};

#endif

// 2^(a b), for a b below 127.
template <class Simd>
INLINE typename Simd::Vector exp2_of_product(const typename Simd::Vector& a, const typename Simd::Vector& b) {
  return Transcendental<Simd>::exp2_of_product(a, b);
}

// The same for a b above -2^60; what is below 2^-126 may become that.
template <class Simd>
INLINE typename Simd::Vector exp2_of_moderate_product(const typename Simd::Vector& a, const typename Simd::Vector& b) {
  return Transcendental<Simd>::exp2_of_moderate_product(a, b);
}

// log(1 + exp(x))
template <class Simd>
INLINE typename Simd::Vector softplus(const typename Simd::Vector& x) {
  return Transcendental<Simd>::softplus(x);
}

// 1 / (1 + exp(-x)), the derivative of softplus.
template <class Simd>
INLINE typename Simd::Vector logistic(const typename Simd::Vector& x) {
  return Transcendental<Simd>::logistic(x);
}

// The derivative of silu(x), from x and its logistic.
template <class Simd>
INLINE typename Simd::Vector silu_slope(const typename Simd::Vector& x, const typename Simd::Vector& gate) {
  const typename Simd::Vector one = Simd::set(1);
  return gate * (one + x * (one - gate));
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
