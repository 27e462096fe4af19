// The causal convolution along scan orders on tensors.
#include "bindings.h"
#include "host.h"

namespace mmlocalmamba {
namespace {

struct ConvInputs {
  at::Tensor x, weight, bias, order;
  ConvArguments args{};

  ConvInputs(const at::Tensor& x_, const at::Tensor& weight_, const at::Tensor& bias_, const at::Tensor& order_)
      : x(with_unit_stride(x_)),
        weight(weight_.to(compute_type(x_)).contiguous()),
        bias(bias_.to(compute_type(x_)).contiguous()),
        order(order_.contiguous()) {
    args.dtype = dtype_of(x);
    args.batch = x.size(0);
    args.tokens = x.size(1);
    args.channels = x.size(2);
    args.directions = weight.size(0);
    args.width = weight.size(2);
    args.length = order.size(1);
    args.order = order.data_ptr<int32_t>();
    args.x = tokens(x);
    args.weight = weight.data_ptr();
    args.bias = bias.data_ptr();
    check_order(order, args.tokens);
  }
};

}  // namespace

at::Tensor conv_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& order) {
  ConvInputs in(x, weight, bias, order);
  ConvArguments& args = in.args;
  at::Tensor y = at::empty({args.batch, args.length, args.directions, args.channels}, x.options());
  args.y = tokens(y);
  for_tasks(args.batch * args.directions * blocks_of(x),
            [&](int64_t first, int64_t last) { chosen_kernels()->conv_forward(args, first, last); });
  return y;
}

std::vector<at::Tensor> conv_backward(const at::Tensor& grad_y_, const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const at::Tensor& order) {
  ConvInputs in(x, weight, bias, order);
  ConvArguments& args = in.args;
  const at::Tensor grad_y = with_unit_stride(grad_y_.to(x.scalar_type()));
  at::Tensor grad_x = at::zeros(x.sizes(), in.weight.options());
  at::Tensor grad_weight = at::empty({args.batch, args.directions, args.channels, args.width}, in.weight.options());
  at::Tensor grad_bias = at::empty({args.batch, args.directions, args.channels}, in.weight.options());
  args.grad_y = tokens(grad_y);
  args.grad_x = tokens(grad_x);
  args.grad_weight = grad_weight.data_ptr();
  args.grad_bias = grad_bias.data_ptr();
  for_tasks(args.batch * blocks_of(x),
            [&](int64_t first, int64_t last) { chosen_kernels()->conv_backward(args, first, last); });
  return {grad_x.to(x.scalar_type()), sum_of_parts(grad_weight, weight.scalar_type()),
          sum_of_parts(grad_bias, bias.scalar_type())};
}

}  // namespace mmlocalmamba
