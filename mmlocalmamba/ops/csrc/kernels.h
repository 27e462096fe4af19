// All kernels of one instruction set, and their table.
//
// Include with SIMD_NAMESPACE, SIMD_TABLE, SIMD_NAME, SIMD_WIDTH (floats in a vector) and SIMD_STATES (states kept in
// registers by the forward) defined, after the headers of headers.h and after choosing the compiler's target.

namespace mmlocalmamba {
namespace SIMD_NAMESPACE {

#include "numbers.h"

#include "simd.h"

#include "rows.h"

#include "add_norm.h"
#include "conv.h"
#include "conv2d.h"
#include "merge.h"
#include "scan.h"

#define SIMD_DISPATCH(kernel, args, ...)                                                \
  switch ((args).dtype) {                                                               \
    case Dtype::kFloat: return kernel<FloatSimd, float>(args, __VA_ARGS__);             \
    case Dtype::kDouble: return kernel<DoubleSimd, double>(args, __VA_ARGS__);          \
    case Dtype::kBFloat16: return kernel<FloatSimd, BFloat16>(args, __VA_ARGS__);       \
    case Dtype::kHalf: return kernel<FloatSimd, Half>(args, __VA_ARGS__);               \
  }

void run_scan_forward(const ScanArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(scan_forward, args, first, last)
}
void run_scan_backward(const ScanArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(scan_backward, args, first, last)
}
void run_conv_forward(const ConvArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(conv_forward, args, first, last)
}
void run_conv_backward(const ConvArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(conv_backward, args, first, last)
}
void run_conv2d_forward(const Conv2dArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(conv2d_forward, args, first, last)
}
void run_conv2d_backward(const Conv2dArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(conv2d_backward, args, first, last)
}
void run_merge_mean(const MergeArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(merge_mean, args, first, last)
}
void run_merge_gates(const GateArguments& args) {
  if (args.is_double) return merge_gates<DoubleSimd>(args);
  merge_gates<FloatSimd>(args);
}
void run_merge_forward(const MergeArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(merge_forward, args, first, last)
}
void run_merge_grad_gates(const MergeArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(merge_grad_gates, args, first, last)
}
void run_merge_backward(const MergeArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(merge_backward, args, first, last)
}
void run_add_norm_forward(const AddNormArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(add_norm_forward, args, first, last)
}
void run_add_norm_backward(const AddNormArguments& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(add_norm_backward, args, first, last)
}
#undef SIMD_DISPATCH

int64_t run_block(Dtype dtype) { return dtype == Dtype::kDouble ? DoubleSimd::kWidth : FloatSimd::kWidth; }

// n need not be a multiple of the width.
void run_exp2(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += FloatSimd::kWidth) {
    const int lanes = int(smaller(FloatSimd::kWidth, n - i));
    const FloatSimd::Vector v = load_row<float, FloatSimd>(x + i, lanes);
    store_row<float, FloatSimd>(y + i, FloatSimd::exp2_of_product(v, FloatSimd::set(1.0f)), lanes);
  }
}
void run_softplus(const float* x, float* y, float* slope, int64_t n) {
  for (int64_t i = 0; i < n; i += FloatSimd::kWidth) {
    const int lanes = int(smaller(FloatSimd::kWidth, n - i));
    const FloatSimd::Vector v = load_row<float, FloatSimd>(x + i, lanes);
    store_row<float, FloatSimd>(y + i, FloatSimd::softplus(v), lanes);
    store_row<float, FloatSimd>(slope + i, FloatSimd::logistic(v), lanes);
  }
}

}  // namespace SIMD_NAMESPACE

extern const Kernels SIMD_TABLE;
const Kernels SIMD_TABLE = {
    SIMD_NAME,
    SIMD_NAMESPACE::run_scan_forward,
    SIMD_NAMESPACE::run_scan_backward,
    SIMD_NAMESPACE::run_conv_forward,
    SIMD_NAMESPACE::run_conv_backward,
    SIMD_NAMESPACE::run_conv2d_forward,
    SIMD_NAMESPACE::run_conv2d_backward,
    SIMD_NAMESPACE::run_merge_mean,
    SIMD_NAMESPACE::run_merge_gates,
    SIMD_NAMESPACE::run_merge_forward,
    SIMD_NAMESPACE::run_merge_grad_gates,
    SIMD_NAMESPACE::run_merge_backward,
    SIMD_NAMESPACE::run_add_norm_forward,
    SIMD_NAMESPACE::run_add_norm_backward,
    SIMD_NAMESPACE::run_block,
    SIMD_NAMESPACE::run_exp2,
    SIMD_NAMESPACE::run_softplus,
};

}  // namespace mmlocalmamba
