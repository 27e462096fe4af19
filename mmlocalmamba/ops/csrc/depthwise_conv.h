// The depth-wise 3 x 3 convolution of a feature map with SiLU, forward and backward, a row of a channel block at a
// time.
//
// Taps are numbered row by row. The convolution's output before SiLU is never stored: the backward computes it again,
// and keeps three rows of its gradient.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// A row of the map and those above and below it, for one channel block; rows outside of the map are zero.
template <class Simd, class S>
struct ThreeRows {
  const S* row[3];
  int64_t stride[3];

  // The rows y - 1, y and y + 1; row r of the map lies in the place of row r % kept.
  ThreeRows(const S* map, int64_t height, int64_t y, int64_t kept, int64_t row_stride, int64_t column_stride) {
    static const S zeros[Simd::kWidth] = {};
    for (int i = 0; i < 3; ++i) {
      const int64_t r = y - 1 + i;
      const bool inside = r >= 0 && r < height;
      row[i] = inside ? map + r % kept * row_stride : zeros;
      stride[i] = inside ? column_stride : 0;
    }
  }
  INLINE typename Simd::Vector load(int i, int64_t x, int lanes) const {
    return load_row<S, Simd>(row[i] + x * stride[i], lanes);
  }
};

template <class Simd>
struct DepthwiseConvBlock {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const DepthwiseConvArguments& args;
  int64_t batch, channel;
  V weight[9], bias;

  DepthwiseConvBlock(const DepthwiseConvArguments& a, int64_t b, int64_t c) : args(a), batch(b), channel(c) {
    const T* taps = static_cast<const T*>(a.weight) + c;
    for (int tap = 0; tap < 9; ++tap) weight[tap] = load_row<T, Simd>(taps + tap * a.channels, lanes());
    bias = load_row<T, Simd>(static_cast<const T*>(a.bias) + c, lanes());
  }
  INLINE int lanes() const { return int(smaller(Simd::kWidth, args.channels - channel)); }
  template <class S>
  INLINE S* row(const Tokens& tokens, int64_t y) const {
    return at<S>(tokens, batch, y * args.width, 0) + channel;
  }

  // Give the convolution's output at every column of row y, before SiLU, to sink(column, output). Each input is loaded
  // once: it goes to the outputs of its own column and of those beside it. Channel blocks lie too far apart for the
  // processor to foresee what the next row will need.
  template <class S, class Sink>
  INLINE void convolve(int64_t y, int block_lanes, const Sink& sink) const {
    const ThreeRows<Simd, S> rows(row<const S>(args.x, 0), args.height, y, args.height, args.width * args.x.row,
                                  args.x.row);
    const S* const ahead = row<const S>(args.x, smaller(y + 2, args.height - 1));
    V left = bias, middle = bias;
    for (int64_t x = 0; x < args.width; ++x) {
      PREFETCH(ahead + x * args.x.row);
      V right = bias;
      for (int i = 0; i < 3; ++i) {
        const V in = rows.load(i, x, block_lanes);
        left = left + weight[3 * i + 2] * in;
        middle = middle + weight[3 * i + 1] * in;
        right = right + weight[3 * i] * in;
      }
      if (x > 0) sink(x - 1, left);
      left = middle;
      middle = right;
    }
    sink(args.width - 1, left);
  }
};

template <class Simd, class S>
struct SiluSink {
  S* y;
  int64_t stride;
  int lanes;
  INLINE void operator()(int64_t x, const typename Simd::Vector& before) const {
    store_row<S, Simd>(y + x * stride, before * logistic<Simd>(before), lanes);
  }
};

// The gradient of what SiLU was applied to; grad_y of the next row is called for ahead of time.
template <class Simd, class S>
struct SiluGradSink {
  const S *grad_y, *ahead;
  int64_t stride;
  typename Simd::Value* grad;
  int64_t grad_stride;
  int lanes;
  INLINE void operator()(int64_t x, const typename Simd::Vector& before) const {
    PREFETCH(ahead + x * stride);
    const typename Simd::Vector slope = silu_slope<Simd>(before, logistic<Simd>(before));
    Simd::store(grad + x * grad_stride, load_row<S, Simd>(grad_y + x * stride, lanes) * slope);
  }
};

// A task is a row of the map: consecutive ones of a thread find two of their three rows in its cache.
template <class Simd, class S>
void depthwise_conv_forward(const DepthwiseConvArguments& args, int64_t first, int64_t last) {
  const FlushToZero flush;
  for (int64_t task = first; task < last; ++task) {
    const int64_t batch = task / args.height, y = task % args.height;
    for (int64_t c = 0; c < args.channels; c += Simd::kWidth) {
      const DepthwiseConvBlock<Simd> block(args, batch, c);
      S* const out = block.template row<S>(args.y, y);
      if (block.lanes() == Simd::kWidth) {
        block.template convolve<S>(y, Simd::kWidth, SiluSink<Simd, S>{out, args.y.row, Simd::kWidth});
      } else {
        block.template convolve<S>(y, block.lanes(), SiluSink<Simd, S>{out, args.y.row, block.lanes()});
      }
    }
  }
}

// Row y of grad_x, and what row y of x adds to the gradients of weight and bias, from rows of the gradient of what SiLU
// was applied to. Each of its numbers meets x at its own column and at those beside it.
template <class Simd, class S>
INLINE void depthwise_grad_row(const DepthwiseConvBlock<Simd>& block, int64_t y, int lanes,
                               const ThreeRows<Simd, typename Simd::Value>& grads) {
  using V = typename Simd::Vector;
  using T = typename Simd::Value;
  const DepthwiseConvArguments& args = block.args;
  const S* const x = block.template row<const S>(args.x, y);
  S* const grad_x = block.template row<S>(args.grad_x, y);
  const V zero = Simd::set(0);
  V sums[9], sum_bias = zero;
  for (V& sum : sums) sum = zero;
  V x_left = zero, x_middle = load_row<S, Simd>(x, lanes), left = zero, middle = zero;
  for (int64_t c = 0; c < args.width; ++c) {
    const V x_right = c + 1 < args.width ? load_row<S, Simd>(x + (c + 1) * args.x.row, lanes) : zero;
    V right = zero;
    for (int i = 0; i < 3; ++i) {
      const V grad = grads.load(i, c, Simd::kWidth);
      const V* const weight = block.weight + 3 * (2 - i);
      V* const sum = sums + 3 * (2 - i);
      left = left + weight[0] * grad;
      middle = middle + weight[1] * grad;
      right = right + weight[2] * grad;
      sum[0] = sum[0] + x_left * grad;
      sum[1] = sum[1] + x_middle * grad;
      sum[2] = sum[2] + x_right * grad;
      if (i == 1) sum_bias = sum_bias + grad;
    }
    if (c > 0) store_row<S, Simd>(grad_x + (c - 1) * args.grad_x.row, left, lanes);
    left = middle;
    middle = right;
    x_left = x_middle;
    x_middle = x_right;
  }
  store_row<S, Simd>(grad_x + (args.width - 1) * args.grad_x.row, left, lanes);
  T* const to = static_cast<T*>(args.grad_weight) + block.batch * 9 * args.channels + block.channel;
  for (int tap = 0; tap < 9; ++tap)
    store_row<T, Simd>(to + tap * args.channels, load_row<T, Simd>(to + tap * args.channels, lanes) + sums[tap], lanes);
  T* const to_bias = static_cast<T*>(args.grad_bias) + block.batch * args.channels + block.channel;
  store_row<T, Simd>(to_bias, load_row<T, Simd>(to_bias, lanes) + sum_bias, lanes);
}

template <class Simd, class S>
INLINE void depthwise_before_silu_row(const DepthwiseConvBlock<Simd>& block, int64_t y, int lanes,
                                      typename Simd::Value* grad, int64_t grad_stride) {
  const S* const grad_y = block.template row<const S>(block.args.grad_y, y);
  const S* const ahead = block.template row<const S>(block.args.grad_y, smaller(y + 1, block.args.height - 1));
  block.template convolve<S>(y, lanes,
                             SiluGradSink<Simd, S>{grad_y, ahead, block.args.grad_y.row, grad, grad_stride, lanes});
}

// A task takes a group of channel blocks down the map of an image, so that nobody else adds to their gradients.
template <class Simd, class S>
void depthwise_conv_backward(const DepthwiseConvArguments& args, int64_t first, int64_t last) {
  using T = typename Simd::Value;
  const FlushToZero flush;
  const int64_t groups = (args.channels + kConvGroup - 1) / kConvGroup;
  constexpr int64_t kept = 3;
  const int64_t row = args.width * kConvGroup;
  Array<T> grads(kept * row);
  for (int64_t task = first; task < last; ++task) {
    const int64_t batch = task / groups, start = task % groups * kConvGroup;
    const int64_t end = smaller(start + kConvGroup, args.channels);
    for (int64_t y = -1; y < args.height; ++y) {
      for (int64_t c = start; c < end && y + 1 < args.height; c += Simd::kWidth) {
        const DepthwiseConvBlock<Simd> block(args, batch, c);
        T* const grad = grads.data() + (y + 1) % kept * row + (c - start);
        if (block.lanes() == Simd::kWidth) {
          depthwise_before_silu_row<Simd, S>(block, y + 1, Simd::kWidth, grad, kConvGroup);
        } else {
          depthwise_before_silu_row<Simd, S>(block, y + 1, block.lanes(), grad, kConvGroup);
        }
      }
      for (int64_t c = start; c < end && y >= 0; c += Simd::kWidth) {
        const DepthwiseConvBlock<Simd> block(args, batch, c);
        const ThreeRows<Simd, T> rows(grads.data() + (c - start), args.height, y, kept, row, kConvGroup);
        if (block.lanes() == Simd::kWidth) {
          depthwise_grad_row<Simd, S>(block, y, Simd::kWidth, rows);
        } else {
          depthwise_grad_row<Simd, S>(block, y, block.lanes(), rows);
        }
      }
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
