// The causal depth-wise convolution along scan orders with SiLU, one block of channels, forward and backward.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

template <class Simd>
struct CausalConvBlock {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const CausalConvArguments& args;
  int64_t batch, direction, channel;
  int lanes;
  const int32_t* order;
  Array<V> weight;
  V bias;

  CausalConvBlock(const CausalConvArguments& a, int64_t b, int64_t k, int64_t block)
      : args(a), batch(b), direction(k), channel(block * Simd::kWidth), weight(a.width) {
    lanes = int(smaller(Simd::kWidth, a.channels - channel));
    order = a.order + k * a.length;
    load_transposed<Simd>(static_cast<const T*>(a.weight) + parameter() * a.width, a.width, lanes, weight.data());
    bias = load_row<T, Simd>(static_cast<const T*>(a.bias) + parameter(), lanes);
  }
  int64_t parameter() const { return direction * args.channels + channel; }

  // The input at position l of the scan: zero before its start and at padding.
  template <class S>
  INLINE V input(int64_t l) const {
    if (l < 0 || order[l] < 0) return Simd::set(0);
    return load_row<S, Simd>(at<const S>(args.x, batch, order[l], 0) + channel, lanes);
  }
  // The convolution's output at position l before SiLU; tap j reads position l - (width - 1) + j.
  template <class S>
  INLINE V before_silu(int64_t l) const {
    V sum = bias;
    for (int64_t j = 0; j < args.width; ++j) sum = sum + weight[j] * input<S>(l - (args.width - 1) + j);
    return sum;
  }
};

// Walk along a sequence with a window of kTaps inputs, each of which is read once.
template <int kTaps, class Simd, class S>
INLINE void causal_conv_forward_block(const CausalConvBlock<Simd>& block, int lanes) {
  using V = typename Simd::Vector;
  const CausalConvArguments& args = block.args;
  const S* const x = at<const S>(args.x, block.batch, 0, 0) + block.channel;
  S* y = at<S>(args.y, block.batch, 0, block.direction) + block.channel;
  V window[kTaps];
  for (V& input : window) input = Simd::set(0);
  for (int64_t l = 0; l < args.length; ++l) {
    const int32_t token = block.order[l];
    for (int j = 0; j + 1 < kTaps; ++j) window[j] = window[j + 1];
    window[kTaps - 1] = token < 0 ? Simd::set(0) : load_row<S, Simd>(x + token * args.x.row, lanes);
    V before = block.bias;
    for (int j = 0; j < kTaps; ++j) before = before + block.weight[j] * window[j];
    store_row<S, Simd>(y, before * logistic<Simd>(before), lanes);
    y += args.y.row;
  }
}

template <class Simd, class S>
void causal_conv_forward(const CausalConvArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  for (int64_t task = first; task < last; ++task) {
    const int64_t sequence = task / blocks;
    const CausalConvBlock<Simd> block(args, sequence / args.directions, sequence % args.directions, task % blocks);
    if (args.width == 4 && block.lanes == Simd::kWidth) {
      causal_conv_forward_block<4, Simd, S>(block, Simd::kWidth);
      continue;
    }
    for (int64_t l = 0; l < args.length; ++l) {
      const typename Simd::Vector before = block.template before_silu<S>(l);
      store_row<S, Simd>(at<S>(args.y, block.batch, l, block.direction) + block.channel,
                         before * logistic<Simd>(before), block.lanes);
    }
  }
}

template <class Simd, class S>
void causal_conv_backward_block(const CausalConvBlock<Simd>& block) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const CausalConvArguments& args = block.args;
  Array<V> grad_weight(args.width, Simd::set(0));
  V grad_bias = Simd::set(0);
  for (int64_t l = 0; l < args.length; ++l) {
    const V before = block.template before_silu<S>(l), gate = logistic<Simd>(before);
    const S* from = at<const S>(args.grad_y, block.batch, l, block.direction) + block.channel;
    const V grad = load_row<S, Simd>(from, block.lanes) * silu_slope<Simd>(before, gate);
    grad_bias = grad_bias + grad;
    for (int64_t j = 0; j < args.width; ++j) {
      const int64_t position = l - (args.width - 1) + j;
      if (position < 0 || block.order[position] < 0) continue;
      grad_weight[j] = grad_weight[j] + grad * block.template input<S>(position);
      T* to = at<T>(args.grad_x, block.batch, block.order[position], 0) + block.channel;
      store_row<T, Simd>(to, load_row<T, Simd>(to, block.lanes) + grad * block.weight[j], block.lanes);
    }
  }
  const int64_t slot = block.batch * args.directions * args.channels + block.parameter();
  store_transposed<Simd>(grad_weight.data(), args.width, block.lanes,
                         static_cast<T*>(args.grad_weight) + slot * args.width);
  store_row<T, Simd>(static_cast<T*>(args.grad_bias) + slot, grad_bias, block.lanes);
}

// A task takes a channel block through all directions, so that nobody else adds to its grad_x.
template <class Simd, class S>
void causal_conv_backward(const CausalConvArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  const int64_t blocks = (args.channels + Simd::kWidth - 1) / Simd::kWidth;
  for (int64_t task = first; task < last; ++task)
    for (int64_t direction = 0; direction < args.directions; ++direction)
      causal_conv_backward_block<Simd, S>(CausalConvBlock<Simd>(args, task / blocks, direction, task % blocks));
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
