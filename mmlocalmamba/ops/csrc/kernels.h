// All kernels of one instruction set, and their table.
#pragma once

#include "add_norm.h"
#include "causal_conv.h"
#include "channel_gate.h"
#include "copies.h"
#include "depthwise_conv.h"
#include "elementwise.h"
#include "gate_and_merge.h"
#include "instruction_set.h"
#include "merge_and_normalise.h"
#include "scan_backward.h"
#include "scan_forward.h"

namespace mmlocalmamba {
namespace SIMD_NAMESPACE {

// A kernel is a template over vectors and the type of the tokens: choose by the latter.
#define MMLOCALMAMBA_RUN(kernel, Arguments)                                         \
  inline void run_##kernel(const Arguments& args, int64_t first, int64_t last) {    \
    switch (args.dtype) {                                                           \
      case Dtype::kFloat: return kernel<FloatSimd, float>(args, first, last);       \
      case Dtype::kDouble: return kernel<DoubleSimd, double>(args, first, last);    \
      case Dtype::kBFloat16: return kernel<FloatSimd, BFloat16>(args, first, last); \
      case Dtype::kHalf: return kernel<FloatSimd, Half>(args, first, last);         \
      case Dtype::kInt32: return;                                                   \
    }                                                                               \
  }
MMLOCALMAMBA_KERNELS(MMLOCALMAMBA_RUN)
#undef MMLOCALMAMBA_RUN

inline int64_t block(Dtype dtype) { return dtype == Dtype::kDouble ? DoubleSimd::kWidth : FloatSimd::kWidth; }

}  // namespace SIMD_NAMESPACE

// Written by the compiler, not by code that runs: other processors load this table too.
#define MMLOCALMAMBA_ENTRY(kernel, Arguments) SIMD_NAMESPACE::run_##kernel,
extern const Kernels SIMD_TABLE;
constexpr Kernels SIMD_TABLE = {SIMD_NAME, SIMD_NAMESPACE::block, MMLOCALMAMBA_KERNELS(MMLOCALMAMBA_ENTRY)};
#undef MMLOCALMAMBA_ENTRY

}  // namespace mmlocalmamba
