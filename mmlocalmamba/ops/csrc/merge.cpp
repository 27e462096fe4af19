// Gating and adding up the scans of all directions, on tensors.
#include <algorithm>

#include "bindings.h"
#include "host.h"

namespace mmlocalmamba {
namespace {

// The channel gate is computed from one vector per direction, in the compute type.
struct GateNetwork {
  at::Tensor norm_weight, norm_bias, reduce_weight, reduce_bias, select_weight, select_bias;

  GateNetwork(const GateWeights& weights, at::ScalarType dtype) {
    TORCH_CHECK(weights.size() == 6, "the gate has 6 weights, got ", weights.size());
    at::Tensor* const own[] = {&norm_weight, &norm_bias, &reduce_weight, &reduce_bias, &select_weight, &select_bias};
    for (size_t i = 0; i < 6; ++i) *own[i] = weights[i].to(dtype).contiguous();
  }
  at::Tensor normed(const at::Tensor& mean) const { return at::addcmul(norm_bias, mean, norm_weight); }
  at::Tensor reduced(const at::Tensor& normed) const { return at::linear(normed, reduce_weight, reduce_bias); }
  // From sums over so many tokens: their mean, and the gates.
  std::tuple<at::Tensor, at::Tensor> mean_and_gates(const at::Tensor& sums, int64_t tokens) const {
    at::Tensor mean = at::empty_like(sums), gates = at::empty_like(sums);
    GateArguments args{};
    args.is_double = sums.scalar_type() == at::kDouble;
    args.rows = sums.size(0) * sums.size(1);
    args.channels = sums.size(2);
    args.hidden = reduce_weight.size(0);
    args.tokens = double(std::max<int64_t>(tokens, 1));
    args.sums = sums.data_ptr();
    args.norm_weight = norm_weight.data_ptr();
    args.norm_bias = norm_bias.data_ptr();
    args.reduce_weight = reduce_weight.data_ptr();
    args.reduce_bias = reduce_bias.data_ptr();
    args.select_weight = select_weight.data_ptr();
    args.select_bias = select_bias.data_ptr();
    args.mean = mean.data_ptr();
    args.gates = gates.data_ptr();
    chosen_kernels()->merge_gates(args);
    return {mean, gates};
  }
};

// Tokens in a task, each of which sums over its own: enough tasks for threads, and few sums of many tokens. A function
// of the problem's size alone, so that the sums do not depend on the threads.
int64_t chunk_of(int64_t tokens) {
  constexpr int64_t kTasks = 32, kFewest = 8, kMost = 256;
  return std::min(kMost, std::max(kFewest, (tokens + kTasks - 1) / kTasks));
}

struct MergeInputs {
  at::Tensor y, z, norm_weight, norm_bias;
  MergeArguments args{};

  MergeInputs(const at::Tensor& y_, const std::optional<at::Tensor>& z_, double eps,
              const std::vector<at::Tensor>& norm, double norm_eps)
      : y(with_unit_stride(y_)) {
    args.dtype = dtype_of(y);
    args.batch = y.size(0);
    args.directions = y.size(1);
    args.tokens = y.size(2);
    args.channels = y.size(3);
    args.chunk = chunk_of(args.tokens);
    args.eps = eps;
    args.y = output_tokens(y);
    if (z_.has_value()) {
      z = with_unit_stride(z_->to(y.scalar_type()));
      args.z = tokens(z);
    }
    if (!norm.empty()) {
      TORCH_CHECK(norm.size() == 2 && z.defined(), "a norm has a weight and a bias, and goes with z");
      norm_weight = norm[0].to(compute_type(y)).contiguous();
      norm_bias = norm[1].to(compute_type(y)).contiguous();
      args.norm_weight = norm_weight.data_ptr();
      args.norm_bias = norm_bias.data_ptr();
      args.norm_eps = norm_eps;
    }
  }
  int64_t chunks() const { return (args.tokens + args.chunk - 1) / args.chunk; }
  at::TensorOptions compute() const { return y.options().dtype(compute_type(y)); }

  // Run a kernel that sums over chunks of tokens, and add the chunks up: (batch, rows, channels).
  at::Tensor summed(void (*kernel)(const MergeArguments&, int64_t, int64_t), int64_t rows) {
    at::Tensor parts = at::empty({chunks(), args.batch, rows, args.channels}, compute());
    args.partial = parts.data_ptr();
    run(kernel);
    return sum_of_parts(parts, compute_type(y));
  }
  void run(void (*kernel)(const MergeArguments&, int64_t, int64_t)) {
    for_tasks(args.batch * chunks(), [&](int64_t first, int64_t last) { kernel(args, first, last); });
  }
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> merge_forward(const at::Tensor& y, const std::optional<at::Tensor>& z,
                                                             const GateWeights& weights, double eps,
                                                             const std::vector<at::Tensor>& norm, double norm_eps) {
  MergeInputs in(y, z, eps, norm, norm_eps);
  const GateNetwork network(weights, compute_type(y));
  at::Tensor kept_gate;
  if (z.has_value() && norm.empty()) {
    const int64_t padded = blocks_of(y) * chosen_kernels()->block(in.args.dtype);
    kept_gate = at::empty({in.args.batch, in.args.tokens, padded}, in.compute());
    in.args.kept_gate = kept_gate.data_ptr();
  }
  const at::Tensor sums = in.summed(chosen_kernels()->merge_mean, in.args.directions).contiguous();
  const auto [mean, gates] = network.mean_and_gates(sums, in.args.tokens);
  at::Tensor out = at::empty({in.args.batch, in.args.tokens, in.args.channels}, y.options());
  in.args.gates = gates.data_ptr();
  in.args.out = mmlocalmamba::tokens(out);
  in.run(chosen_kernels()->merge_forward);
  return {out, mean, gates};
}

std::vector<at::Tensor> merge_backward(const at::Tensor& grad_out_, const at::Tensor& y,
                                       const std::optional<at::Tensor>& z, const GateWeights& weights,
                                       const at::Tensor& mean, const at::Tensor& gates_, double eps,
                                       const std::vector<at::Tensor>& norm, double norm_eps) {
  MergeInputs in(y, z, eps, norm, norm_eps);
  const GateNetwork network(weights, compute_type(y));
  const at::Tensor grad_out = with_unit_stride(grad_out_.to(y.scalar_type())), gates = gates_.contiguous();
  const int64_t channels = in.args.channels, directions = in.args.directions;
  const bool normed = !norm.empty();
  at::Tensor grad_z = z.has_value() ? at::empty(in.z.sizes(), in.z.options()) : at::empty({0}, in.y.options());
  if (z.has_value()) in.args.grad_z = tokens(grad_z);
  at::Tensor grad_sum = normed ? at::empty(grad_out.sizes(), in.y.options()) : grad_out;
  in.args.grad_out = tokens(grad_out);
  in.args.grad_sum = tokens(grad_sum);
  in.args.gates = gates.data_ptr();
  const at::Tensor summed = in.summed(chosen_kernels()->merge_grad_gates, directions + (normed ? 2 : 0));
  const at::Tensor grad_gates = summed.narrow(1, 0, directions);

  const auto rows = [](const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); };
  const at::Tensor normed_mean = network.normed(mean), reduced = network.reduced(normed_mean);
  const at::Tensor hidden = at::gelu(reduced);
  const at::Tensor grad_select = rows(grad_gates * gates * (1 - gates));
  const at::Tensor grad_reduce = at::gelu_backward(grad_select.mm(network.select_weight), rows(reduced));
  const at::Tensor grad_normed = grad_reduce.mm(network.reduce_weight);
  const at::Tensor per_token = 1.0 / double(std::max<int64_t>(in.args.tokens, 1)) * grad_normed * network.norm_weight;
  const at::Tensor grad_mean = per_token.view({-1, directions, channels}).contiguous();

  at::Tensor grad_y = at::empty(in.y.sizes(), in.y.options());
  in.args.grad_out = tokens(grad_sum);
  in.args.grad_mean = grad_mean.data_ptr();
  in.args.grad_y = output_tokens(grad_y);
  in.run(chosen_kernels()->merge_backward);
  std::vector<at::Tensor> grads{(grad_normed * rows(mean)).sum(0),     grad_normed.sum(0),
                                grad_reduce.t().mm(rows(normed_mean)), grad_reduce.sum(0),
                                grad_select.t().mm(rows(hidden)),      grad_select.sum(0)};
  for (size_t i = 0; i < grads.size(); ++i) grads[i] = grads[i].to(weights[i].scalar_type());
  for (size_t i = 0; i < norm.size(); ++i)
    grads.push_back(summed.select(1, directions + int64_t(i)).sum(0).to(norm[i].scalar_type()));
  grads.insert(grads.begin(), {grad_y, grad_z});
  return grads;
}

}  // namespace mmlocalmamba
