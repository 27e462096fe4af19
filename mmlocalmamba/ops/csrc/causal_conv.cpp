// The causal convolution along scan orders on tensors.
#include "call.h"
#include "memory.h"

namespace mmlocalmamba {
namespace {

// What forward and backward take alike, checked and in the layout that the kernels read.
struct CausalConvInputs {
  const View x, weight, bias;
  const Dtype dtype, compute;
  const Order order;
  const Input x_rows, weight_dense, bias_dense;
  CausalConvArguments args{};

  explicit CausalConvInputs(const Call& call)
      : x(call["x"].want_dims(3, "(batch, tokens, channels)").want_float()),
        weight(call["weight"].want_dims(3, "(directions, channels, width)")),
        bias(call["bias"]),
        dtype(x.dtype()),
        compute(compute_type(dtype)),
        order(call, call["order"], weight.size(0), x.size(1), Order::kAnyNumber),
        x_rows(call, x, dtype, Input::kRows),
        weight_dense(call, weight, compute, Input::kDense),
        bias_dense(call, bias, compute, Input::kDense) {
    args.dtype = dtype;
    args.batch = x.size(0);
    args.tokens = x.size(1);
    args.channels = x.size(2);
    args.directions = weight.size(0);
    args.width = weight.size(2);
    args.length = order.length();
    weight.want_sizes({args.directions, args.channels, args.width}, "(directions, channels, width)");
    bias.want_sizes({args.directions, args.channels}, "(directions, channels)");
    if (args.width == 0) weight.refuse("its width must be at least 1");
    args.order = order.data();
    args.x = x_rows.tokens();
    args.weight = weight_dense.data();
    args.bias = bias_dense.data();
  }
  // Of y, and of its gradient.
  const View& checked(const View& y) const {
    return y.want_sizes({args.batch, args.length, args.directions, args.channels},
                        "(batch, length, directions, channels)");
  }
};

}  // namespace

void causal_conv_forward(const Call& call) {
  CausalConvInputs in(call);
  Output y(call, in.checked(call["y"]).want_dtype(in.dtype), in.dtype);
  in.args.y = y.tokens();
  const int64_t blocks = call.blocks(in.dtype, in.args.channels);
  call.run(call.kernels.causal_conv_forward, in.args, in.args.batch * in.args.directions * blocks);
}

void causal_conv_backward(const Call& call) {
  CausalConvInputs in(call);
  CausalConvArguments& args = in.args;
  const Input grad_y(call, in.checked(call["grad_y"]), in.dtype, Input::kRows);
  Output grad_x(call, call["grad_x"].want_same_sizes(in.x), in.compute, Output::kZero);
  Parts grad_weight(call, call["grad_weight"].want_same_sizes(in.weight), in.compute, args.batch);
  Parts grad_bias(call, call["grad_bias"].want_same_sizes(in.bias), in.compute, args.batch);
  args.grad_y = grad_y.tokens();
  args.grad_x = grad_x.tokens();
  args.grad_weight = grad_weight.data();
  args.grad_bias = grad_bias.data();
  call.run(call.kernels.causal_conv_backward, args, args.batch * call.blocks(in.dtype, args.channels));
  grad_x.finish();
  grad_weight.finish();
  grad_bias.finish();
}

}  // namespace mmlocalmamba
