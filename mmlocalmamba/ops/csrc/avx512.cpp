// The kernels for x86 processors with AVX512; chosen at run time.
#define SIMD_AVX512
#define SIMD_NAMESPACE avx512
#define SIMD_TABLE kAvx512
#define SIMD_NAME "avx512"
#define SIMD_WIDTH 16
#define SIMD_STATES 16
#include "instruction_set.h"

#if defined(MMLOCALMAMBA_X86)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
