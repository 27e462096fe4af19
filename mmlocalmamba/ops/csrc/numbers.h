// Numbers as they are stored, to and from the compute type.
#pragma once

#include "instruction_set.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

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

}  // namespace mmlocalmamba::SIMD_NAMESPACE
