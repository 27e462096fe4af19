// The depth-wise convolution of feature maps with SiLU, on tensors.
#include "call.h"
#include "memory.h"

namespace mmlocalmamba {
namespace {

constexpr int64_t kTaps = 9;

// A map whose rows the kernels find one after the other: where they are not, it is copied.
class Map {
 public:
  Map(const Call& call, const View& view, Dtype dtype)
      : input_(call, view, dtype, rows_follow(view.tensor()) ? Input::kRows : Input::kDense), width_(view.size(2)) {}
  Tokens tokens() const {
    const Tokens map = input_.tokens();  // its rows are those of the map, its directions the columns
    return {map.data, map.batch, width_ > 1 ? map.direction : map.row, 0};
  }

 private:
  static bool rows_follow(const Tensor& map) {
    return map.sizes[1] <= 1 || map.sizes[2] <= 1 || map.strides[1] == map.sizes[2] * map.strides[2];
  }
  Input input_;
  int64_t width_;
};

// What forward and backward take alike, checked and in the layout that the kernels read.
struct DepthwiseConvInputs {
  const View x, weight, bias;
  const Dtype dtype, compute;
  const Map map;
  const Workspace taps;  // (9, channels)
  const Input bias_dense;
  DepthwiseConvArguments args{};

  explicit DepthwiseConvInputs(const Call& call)
      : x(call["x"].want_dims(4, "(batch, height, width, channels)").want_float()),
        weight(call["weight"].want_sizes({x.size(3), 1, 3, 3}, "(channels, 1, 3, 3)").want_float()),
        bias(call["bias"].want_sizes({x.size(3)}, "(channels,)")),
        dtype(x.dtype()),
        compute(compute_type(dtype)),
        map(call, x, dtype),
        taps(product({kTaps, x.size(3), bytes_of(compute)})),
        bias_dense(call, bias, compute, Input::kDense) {
    args.dtype = dtype;
    args.batch = x.size(0);
    args.height = x.size(1);
    args.width = x.size(2);
    args.channels = x.size(3);
    args.x = map.tokens();
    const Tensor& from = weight.tensor();
    const Tensor transposed{
        from.data, from.dtype, 3, {3, 3, args.channels}, {from.strides[2], from.strides[3], from.strides[0]}};
    copy(call, transposed, taps.data(), compute);
    args.weight = taps.data();
    args.bias = bias_dense.data();
  }
  // A map without pixels or channels has no tasks.
  int64_t tasks(int64_t of) const {
    return args.height == 0 || args.width == 0 || args.channels == 0 ? 0 : args.batch * of;
  }
};

}  // namespace

void depthwise_conv_forward(const Call& call) {
  DepthwiseConvInputs in(call);
  const View y = call["y"].want_same_sizes(in.x).want_dtype(in.dtype).want_contiguous();
  const Map out(call, y, in.dtype);
  in.args.y = out.tokens();
  call.run(call.kernels.depthwise_conv_forward, in.args, in.tasks(in.args.height));
}

void depthwise_conv_backward(const Call& call) {
  DepthwiseConvInputs in(call);
  DepthwiseConvArguments& args = in.args;
  const int64_t channels = args.channels;
  const Map grad_y(call, call["grad_y"].want_same_sizes(in.x), in.dtype);
  const View grad_weight = call["grad_weight"].want_same_sizes(in.weight).want_float().want_contiguous();
  Output grad_x(call, call["grad_x"].want_same_sizes(in.x), in.dtype);
  const InnerParts grad_taps(call, in.compute, args.batch, product({kTaps, channels}), Output::kZero);
  Parts grad_bias(call, call["grad_bias"].want_same_sizes(in.bias), in.compute, args.batch, Output::kZero);
  args.grad_y = grad_y.tokens();
  args.grad_x = {grad_x.data(), args.height * args.width * channels, channels, 0};
  args.grad_weight = grad_taps.data();
  args.grad_bias = grad_bias.data();
  call.run(call.kernels.depthwise_conv_backward, args, in.tasks(rounded_up(channels, kConvGroup)));
  grad_x.finish();
  const Workspace sum = grad_taps.sum();
  const Tensor by_channel{sum.data(), static_cast<int64_t>(in.compute), 2, {channels, kTaps}, {1, channels}};
  copy(call, by_channel, grad_weight.tensor().data, grad_weight.dtype());
  grad_bias.finish();
}

}  // namespace mmlocalmamba
