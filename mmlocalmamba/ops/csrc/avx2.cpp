// The kernels for x86 processors with AVX2; chosen at run time.
#define SIMD_AVX2
#define SIMD_NAMESPACE avx2
#define SIMD_TABLE kAvx2
#define SIMD_NAME "avx2"
#define SIMD_WIDTH 8
#define SIMD_STATES 4
#include "instruction_set.h"

#if defined(MMLOCALMAMBA_X86)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
