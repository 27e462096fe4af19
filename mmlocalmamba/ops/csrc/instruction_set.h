// What the kernel headers are compiled for, and all that they include of the standard library.
//
// Each of them defines its functions in a namespace named after the instruction set, so that the linker cannot take a
// function compiled for one set for that of another. avx2.cpp and avx512.cpp define these names and include this file
// before they change the compiler's target: what the standard library defines inline must stay code that every
// processor runs. Any kernel header by itself is compiled for the baseline.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "kernel_table.h"

#if !defined(SIMD_NAMESPACE)
#define SIMD_NAMESPACE baseline
#define SIMD_TABLE kBaseline
#define SIMD_NAME "baseline"
#define SIMD_WIDTH 4   // floats in a vector
#define SIMD_STATES 4  // states that the scan's forward keeps in registers
#endif

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define INLINE inline
#define PREFETCH(address)
#endif
