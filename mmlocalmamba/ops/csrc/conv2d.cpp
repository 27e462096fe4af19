// The depth-wise convolution of feature maps with SiLU, on tensors.
#include "bindings.h"
#include "host.h"

namespace mmlocalmamba {
namespace {

// The map's rows one after the other, (batch, tokens, channels).
at::Tensor flat(const at::Tensor& map) { return with_unit_stride(map).flatten(1, 2); }

struct Conv2dInputs {
  at::Tensor x, weight, bias;
  Conv2dArguments args{};

  Conv2dInputs(const at::Tensor& x_, const at::Tensor& weight_, const at::Tensor& bias_)
      : x(flat(x_)),
        weight(weight_.to(compute_type(x_)).flatten(1).t().contiguous()),
        bias(bias_.to(compute_type(x_)).contiguous()) {
    TORCH_CHECK(weight.size(0) == 9, "the kernels have 9 taps, got ", weight.size(0));
    args.dtype = dtype_of(x);
    args.batch = x_.size(0);
    args.height = x_.size(1);
    args.width = x_.size(2);
    args.channels = x_.size(3);
    args.x = tokens(x);
    args.weight = weight.data_ptr();
    args.bias = bias.data_ptr();
  }
  bool empty() const { return x.numel() == 0; }
};

}  // namespace

at::Tensor conv2d_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  Conv2dInputs in(x, weight, bias);
  Conv2dArguments& args = in.args;
  at::Tensor y = at::empty(x.sizes(), x.options());
  args.y = tokens(flat(y));
  for_tasks(in.empty() ? 0 : args.batch * args.height,
            [&](int64_t first, int64_t last) { chosen_kernels()->conv2d_forward(args, first, last); });
  return y;
}

std::vector<at::Tensor> conv2d_backward(const at::Tensor& grad_y_, const at::Tensor& x, const at::Tensor& weight,
                                        const at::Tensor& bias) {
  Conv2dInputs in(x, weight, bias);
  Conv2dArguments& args = in.args;
  const at::Tensor grad_y = flat(grad_y_.to(x.scalar_type()));
  at::Tensor grad_x = at::empty(x.sizes(), x.options());
  at::Tensor grad_weight = at::zeros({args.batch, 9, args.channels}, in.weight.options());
  at::Tensor grad_bias = at::zeros({args.batch, args.channels}, in.weight.options());
  args.grad_y = tokens(grad_y);
  args.grad_x = tokens(flat(grad_x));
  args.grad_weight = grad_weight.data_ptr();
  args.grad_bias = grad_bias.data_ptr();
  const int64_t groups = (args.channels + kConv2dGroup - 1) / kConv2dGroup;
  for_tasks(in.empty() ? 0 : args.batch * groups,
            [&](int64_t first, int64_t last) { chosen_kernels()->conv2d_backward(args, first, last); });
  const at::Tensor sum = sum_of_parts(grad_weight, weight.scalar_type());
  return {grad_x, sum.t().contiguous().view(weight.sizes()), sum_of_parts(grad_bias, bias.scalar_type())};
}

}  // namespace mmlocalmamba
