// What the kernels are called with, and the table of them: plain pointers, sizes and strides.
#pragma once

#include <cstdint>

namespace mmlocalmamba {

// The codes of interface.h.
enum class Dtype : int64_t { kFloat = 0, kDouble = 1, kBFloat16 = 2, kHalf = 3, kInt32 = 4 };

// A tensor of tokens: element (batch, row, direction, feature), strides in elements, features next to each other.
struct Tokens {
  void* data = nullptr;
  int64_t batch = 0;
  int64_t row = 0;
  int64_t direction = 0;
};

// "The compute type" below is double for double tokens, else float.

struct ScanArguments {
  Dtype dtype;   // of u, dt, y, their gradients and grad_y; everything else is in the compute type
  bool spatial;  // rows are tokens to be gathered by order; otherwise rows are positions in scan order
  int64_t batch, directions, rows, length, channels, states;
  int64_t rank;          // of the step sizes, which dt_low times dt_weight then gives; 0: dt has one per channel
  const int32_t* order;  // (directions, length): token or -1, no token twice in a direction
  Tokens u, dt, dt_low, B, C, y;
  const void *A, *D, *dt_bias;  // (directions, channels, states), (directions, channels) twice; contiguous
  bool log_A;                   // A is ln(-A), and grad_A its gradient
  const void* dt_weight;        // (directions, channels, rank)
  void* checkpoints;            // (batch, directions, chunks, states, channels): states before each chunk, or null
  int64_t group;                // channel blocks that a task of the forward takes along a sequence together
  // For the backward. Rows that no direction visits are never written: the host zeroes them.
  Tokens grad_y, grad_u, grad_dt;  // grad_u in the compute type
  void *grad_B, *grad_C;           // (parts, batch, rows, directions, states): one part per group of blocks, zeroed
  void* grad_dt_low;               // the same, with padded_rank features
  void *grad_A, *grad_D, *grad_dt_bias, *grad_dt_weight;  // (batch, ...) as A, D, dt_bias and dt_weight
  int64_t parts, padded_rank;                             // the latter a multiple of a vector's width
};

struct CausalConvArguments {
  Dtype dtype;  // of x, y and grad_y; everything else is in the compute type
  int64_t batch, directions, length, tokens, channels, width;
  const int32_t* order;  // (directions, length): token or -1
  Tokens x, y;
  const void *weight, *bias;      // (directions, channels, width), (directions, channels)
  Tokens grad_y, grad_x;          // grad_x in the compute type, zeroed
  void *grad_weight, *grad_bias;  // (batch, ...) as weight and bias
};

struct DepthwiseConvArguments {
  Dtype dtype;  // of x, y and their gradients; weight and bias are in the compute type
  int64_t batch, height, width, channels;
  Tokens x, y;                // row by row of the map
  const void *weight, *bias;  // (9, channels), (channels)
  // For the backward.
  Tokens grad_y, grad_x;
  void *grad_weight, *grad_bias;  // (batch, ...) as weight and bias, zeroed
};

// What both ways of merging the scans of all directions have in common.
struct MergeArguments {
  Dtype dtype;  // of y, z, out, grad_out and the gradients of tokens; everything else is in the compute type
  int64_t batch, directions, tokens, channels;
  int64_t chunk;  // tokens in a task
  double eps;     // of the LayerNorm before the channel gate
  Tokens y, z, out;
  const void* gates;      // (batch, directions, channels)
  void* partial;          // (chunks of tokens, batch, summed rows, channels): sums over each chunk
  const void* grad_mean;  // (batch, directions, channels), per token
  Tokens grad_out, grad_y, grad_z;
};

struct GateAndMergeArguments : MergeArguments {
  void* silu_z;  // (batch, tokens, padded channels): from the forward's first kernel to its second
};

struct MergeAndNormaliseArguments : MergeArguments {
  double out_eps;
  const void *out_norm_weight, *out_norm_bias;  // (channels)
  Tokens grad_sum;                              // the gradient of what the norm takes
};

// SCAttn's channel gate of one vector per sample and direction, all contiguous and in the compute type.
struct ChannelGateArguments {
  Dtype dtype;  // the compute type
  int64_t rows, channels, hidden;
  double tokens;     // that sums are over
  const void* sums;  // (rows, channels): of normalised tokens, without affine
  const void *norm_weight, *norm_bias, *reduce_weight, *reduce_bias, *select_weight, *select_bias;
  void *mean, *gates;  // (rows, channels)
};

struct AddNormArguments {
  Dtype dtype;  // of hidden and normed, or of grad_normed; everything else is in the compute type
  int64_t batch, tokens, channels;
  double eps;
  Tokens hidden, residual, normed, new_residual;  // residual without data: none
  const void* weight;                             // (channels)
  const void *cos, *sin;                          // (tokens, channels) each, or null
  // For the backward, which reads the sum from new_residual.
  Tokens grad_normed, grad_residual, grad_sum;  // grad_sum: of hidden and residual
  void* grad_weight;                            // (chunks of tokens, channels)
};

// A contiguous copy in another type of a tensor with any strides.
struct CopyArguments {
  Dtype dtype;   // of what is copied
  Dtype target;  // of the copy
  int64_t dims;
  int64_t sizes[5], strides[5];
  int64_t size;  // in all
  const void* from;
  void* to;
};

struct SumArguments {
  Dtype dtype;   // of the parts: the compute type
  Dtype target;  // of their sum
  int64_t parts, size;
  const void* from;  // (parts, size)
  void* to;
};

struct FunctionArguments {
  Dtype dtype;
  int64_t size;
  const void* x;
  void *y, *slope;
};

// Tokens between two states that the scan's forward keeps for its backward.
constexpr int64_t kChunk = 64;

// Tokens in a task of the residual stream's norm.
constexpr int64_t kNormChunk = 32;

// Channels in a task of the backward of the 2-D convolution: a multiple of every vector's width.
constexpr int64_t kConvGroup = 32;

// Numbers in a task of copies and sums.
constexpr int64_t kCopyBlock = 1 << 14;

// Every kernel: its name, what it is called with, and what its tasks are. This list makes the members of Kernels below
// and fills them in kernels.h, so that none can stand in another's place.
#define MMLOCALMAMBA_KERNELS(KERNEL)                                                                    \
  KERNEL(scan_forward, ScanArguments)                     /* batch x directions x groups of blocks */   \
  KERNEL(scan_backward, ScanArguments)                    /* batch x parts */                           \
  KERNEL(causal_conv_forward, CausalConvArguments)        /* batch x directions x channel blocks */     \
  KERNEL(causal_conv_backward, CausalConvArguments)       /* batch x channel blocks */                  \
  KERNEL(depthwise_conv_forward, DepthwiseConvArguments)  /* batch x rows of the map */                 \
  KERNEL(depthwise_conv_backward, DepthwiseConvArguments) /* batch x groups of channels */              \
  KERNEL(channel_gate, ChannelGateArguments)              /* one */                                     \
  KERNEL(gate_and_merge_mean, GateAndMergeArguments)      /* batch x chunks of tokens, as all merges */ \
  KERNEL(gate_and_merge_sum, GateAndMergeArguments)                                                     \
  KERNEL(gate_and_merge_grad_gates, GateAndMergeArguments)                                              \
  KERNEL(gate_and_merge_backward, GateAndMergeArguments)                                                \
  KERNEL(merge_and_normalise_mean, MergeAndNormaliseArguments)                                          \
  KERNEL(merge_and_normalise_sum, MergeAndNormaliseArguments)                                           \
  KERNEL(merge_and_normalise_grad_gates, MergeAndNormaliseArguments)                                    \
  KERNEL(merge_and_normalise_backward, MergeAndNormaliseArguments)                                      \
  KERNEL(add_norm_forward, AddNormArguments)   /* chunks of tokens */                                   \
  KERNEL(add_norm_backward, AddNormArguments)  /* chunks of tokens */                                   \
  KERNEL(copy, CopyArguments)                  /* blocks of numbers */                                  \
  KERNEL(sum_parts, SumArguments)              /* blocks of numbers */                                  \
  KERNEL(exp2_function, FunctionArguments)     /* one */                                                \
  KERNEL(softplus_function, FunctionArguments) /* one */

// The kernels of one instruction set. Each does the tasks [first, last) of its operation; a task's result does not
// depend on which thread does it.
struct Kernels {
  const char* name;
  int64_t (*block)(Dtype);  // channels in a block: a vector's width
#define MMLOCALMAMBA_MEMBER(kernel, Arguments) void (*kernel)(const Arguments&, int64_t first, int64_t last);
  MMLOCALMAMBA_KERNELS(MMLOCALMAMBA_MEMBER)
#undef MMLOCALMAMBA_MEMBER
};

extern const Kernels kBaseline;
#if defined(__x86_64__) && defined(__GNUC__)
#define MMLOCALMAMBA_X86 1
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace mmlocalmamba
