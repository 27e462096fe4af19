// What the kernels are called with: plain pointers and strides, so that no kernel file sees PyTorch.
#pragma once

#include <cstdint>

namespace mmlocalmamba {

enum class Dtype { kFloat, kDouble, kBFloat16, kHalf };

// A tensor of tokens: element (batch, row, direction, feature), strides in elements, features next to each other.
struct Tokens {
  void* data = nullptr;
  int64_t batch = 0;
  int64_t row = 0;
  int64_t direction = 0;
};

struct ScanArguments {
  Dtype dtype;  // of u, dt, y and their gradients; everything else is in the compute type: double for double, else float
  bool spatial;  // rows are tokens to be gathered by order; otherwise rows are positions in scan order
  int64_t batch, directions, rows, length, channels, states;
  int64_t rank;  // of the step sizes, which dt_low times dt_weight then gives; 0: dt has one per channel
  const int32_t* order;  // (directions, length)
  Tokens u, dt, dt_low, B, C, y;
  const void *A, *D, *dt_bias;  // (directions, channels, states), (directions, channels) twice; contiguous
  bool log_A;                   // A is ln(-A), and grad_A its gradient
  const void* dt_weight;        // (directions, channels, rank)
  void* checkpoints;            // (batch, directions, chunks, states, channels): states before each chunk, or null
  int64_t group;                // channel blocks that a task of the forward takes along a sequence together
  // For the backward.
  Tokens grad_y, grad_u, grad_dt;
  void *grad_B, *grad_C;  // (parts, batch, rows, directions, states): one part per group of channel blocks, zeroed
  void* grad_dt_low;      // the same, with padded_rank features
  void *grad_A, *grad_D, *grad_dt_bias, *grad_dt_weight;  // (batch, ...) as A, D, dt_bias and dt_weight
  int64_t parts, padded_rank;                             // the latter a multiple of a vector's width
};

struct ConvArguments {
  Dtype dtype;  // of x, y and their gradients; weight and bias are in the compute type
  int64_t batch, directions, length, tokens, channels, width;
  const int32_t* order;
  Tokens x, y;
  const void *weight, *bias;  // (directions, channels, width), (directions, channels)
  Tokens grad_y, grad_x;      // grad_x in the compute type, zeroed
  void *grad_weight, *grad_bias;  // (batch, ...) as weight and bias
};

struct Conv2dArguments {
  Dtype dtype;  // of x, y and their gradients; weight and bias are in the compute type
  int64_t batch, height, width, channels;
  Tokens x, y;               // row by row of the map
  const void *weight, *bias;  // (9, channels), (channels)
  // For the backward.
  Tokens grad_y, grad_x;
  void *grad_weight, *grad_bias;  // (batch, ...) as weight and bias, zeroed
};

struct MergeArguments {
  Dtype dtype;  // of y, z, the output and their gradients; everything else is in the compute type
  int64_t batch, directions, tokens, channels;
  int64_t chunk;  // tokens in a task
  double eps, norm_eps;
  Tokens y, z, out;   // z without data: none
  const void* gates;  // (batch, directions, channels)
  void* partial;      // (chunks of tokens, batch, summed rows, channels): sums over each chunk
  void* kept_gate;    // (batch, tokens, padded channels): silu(z) where z gates first, from one forward kernel to the next
  const void *norm_weight, *norm_bias;  // (channels) each, or null: then z gates before the gates are taken, else last
  // For the backward.
  const void* grad_mean;  // (batch, directions, channels), per token
  Tokens grad_out, grad_sum, grad_y, grad_z;  // grad_sum: of what the norm takes
};

// SCAttn's channel gate of one vector per sample and direction, all contiguous and in the compute type.
struct GateArguments {
  bool is_double;
  int64_t rows, channels, hidden;
  double tokens;     // that sums are over
  const void* sums;  // (rows, channels): of normalised tokens, without affine
  const void *norm_weight, *norm_bias, *reduce_weight, *reduce_bias, *select_weight, *select_bias;
  void *mean, *gates;  // (rows, channels)
};

struct AddNormArguments {
  Dtype dtype;  // of hidden, normed and the latter's gradient; everything else is in the compute type
  int64_t batch, tokens, channels;
  double eps;
  Tokens hidden, before, residual, normed;  // before: the residual stream until now; without data: none
  const void* weight;                       // (channels)
  const void *cos, *sin;                    // (tokens, channels) each, or null
  // For the backward.
  Tokens grad_normed, grad_residual, grad_sum;  // grad_sum: of hidden and before
  void* grad_weight;                            // (chunks of tokens, channels)
};

// Tokens in a task of the residual stream's norm.
constexpr int64_t kNormChunk = 32;

// Channels in a task of the backward of the 2-D convolution: a multiple of every vector's width.
constexpr int64_t kConv2dGroup = 32;

// Tokens between two states that the forward keeps for the backward.
constexpr int64_t kChunk = 64;

// The kernels of one instruction set. Each does the tasks [first, last) of its operation; a task's result does not
// depend on which thread does it.
struct Kernels {
  const char* name;
  void (*scan_forward)(const ScanArguments&, int64_t first, int64_t last);   // batch x directions x groups of blocks
  void (*scan_backward)(const ScanArguments&, int64_t first, int64_t last);  // batch x parts
  void (*conv_forward)(const ConvArguments&, int64_t first, int64_t last);   // batch x directions x channel blocks
  void (*conv_backward)(const ConvArguments&, int64_t first, int64_t last);  // batch x channel blocks
  void (*conv2d_forward)(const Conv2dArguments&, int64_t first, int64_t last);   // batch x rows of the map
  void (*conv2d_backward)(const Conv2dArguments&, int64_t first, int64_t last);  // batch x groups of channels
  void (*merge_mean)(const MergeArguments&, int64_t first, int64_t last);  // batch x chunks of tokens, as all of these
  void (*merge_gates)(const GateArguments&);
  void (*merge_forward)(const MergeArguments&, int64_t first, int64_t last);
  void (*merge_grad_gates)(const MergeArguments&, int64_t first, int64_t last);
  void (*merge_backward)(const MergeArguments&, int64_t first, int64_t last);
  void (*add_norm_forward)(const AddNormArguments&, int64_t first, int64_t last);   // chunks of tokens
  void (*add_norm_backward)(const AddNormArguments&, int64_t first, int64_t last);  // chunks of tokens
  int64_t (*block)(Dtype);                                                   // channels in a block
  void (*exp2)(const float* x, float* y, int64_t n);                         // exposed for the tests of accuracy
  void (*softplus)(const float* x, float* y, float* slope, int64_t n);
};

extern const Kernels kBaseline;
#if defined(__x86_64__) && defined(__GNUC__)
#define MMLOCALMAMBA_X86 1
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace mmlocalmamba
