// The selective scan on tensors.
#include <ATen/Parallel.h>

#include <algorithm>

#include "bindings.h"
#include "host.h"

namespace mmlocalmamba {
namespace {

// The inputs in the layout that the kernels read. B, C and step sizes of low rank are a small part of the tokens: those
// go to the compute type.
struct Inputs {
  at::Tensor u, dt, A, B, C, D, dt_bias, order, dt_weight;
  ScanArguments args{};

  Inputs(const at::Tensor& u_, const at::Tensor& dt_, const at::Tensor& A_, const at::Tensor& B_, const at::Tensor& C_,
         const at::Tensor& D_, const at::Tensor& dt_bias_, const at::Tensor& order_, int64_t num_tokens,
         const std::optional<at::Tensor>& dt_weight_, bool log_A)
      : u(with_unit_stride(u_)),
        dt(with_unit_stride(dt_weight_.has_value() ? dt_.to(compute_type(u_)) : dt_)),
        A(A_.contiguous()),
        B(with_unit_stride(B_.to(compute_type(u_)))),
        C(with_unit_stride(C_.to(compute_type(u_)))),
        D(D_.contiguous()),
        dt_bias(dt_bias_.contiguous()),
        order(order_.contiguous()) {
    TORCH_CHECK(dt_.scalar_type() == u.scalar_type(), "dt is ", dt_.scalar_type(), ", but u is ", u.scalar_type());
    for (const at::Tensor& x : {A, D, dt_bias})
      TORCH_CHECK(x.scalar_type() == compute_type(u), "A, D and dt_bias must be ", compute_type(u));
    check_order(order, num_tokens);
    args.dtype = dtype_of(u);
    args.spatial = u.dim() == 3;
    args.batch = u.size(0);
    args.rows = u.size(1);
    args.channels = u.size(-1);
    args.directions = A.size(0);
    args.states = A.size(2);
    args.length = order.size(1);
    args.order = order.data_ptr<int32_t>();
    args.u = tokens(u);
    if (dt_weight_.has_value()) {
      dt_weight = dt_weight_->to(compute_type(u)).contiguous();
      args.rank = dt_weight.size(2);
      args.dt_weight = dt_weight.data_ptr();
      args.dt_low = tokens(dt);
    } else {
      args.dt = tokens(dt);
    }
    args.B = tokens(B);
    args.C = tokens(C);
    args.A = A.data_ptr();
    args.log_A = log_A;
    args.D = D.data_ptr();
    args.dt_bias = dt_bias.data_ptr();
  }
};

// Channel blocks that walk along a sequence together, each token being read once for all of them: a few, if enough tasks
// are left for the threads. What is computed does not depend on it.
int64_t group_of(const ScanArguments& args, int64_t blocks) {
  constexpr int64_t kMost = 4, kTasksPerThread = 4;
  const int64_t allowed = args.batch * args.directions * blocks / (kTasksPerThread * at::get_num_threads());
  return std::max<int64_t>(1, std::min(kMost, allowed));
}

int64_t chunks_of(const at::Tensor& order) { return (order.size(1) + kChunk - 1) / kChunk; }

}  // namespace

std::tuple<at::Tensor, at::Tensor> scan_forward(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& A,
                                                const at::Tensor& B, const at::Tensor& C, const at::Tensor& D,
                                                const at::Tensor& dt_bias, const at::Tensor& order, int64_t num_tokens,
                                                bool keep_states, const std::optional<at::Tensor>& dt_weight,
                                                bool log_A) {
  Inputs in(u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, log_A);
  ScanArguments& args = in.args;
  at::Tensor y = at::empty({args.batch, args.directions, num_tokens, args.channels}, u.options());
  at::Tensor states = at::empty({0}, A.options());
  if (keep_states)
    states = at::empty({args.batch, args.directions, chunks_of(order), args.states, args.channels}, A.options());
  args.y = output_tokens(y);
  args.checkpoints = keep_states ? states.data_ptr() : nullptr;
  const int64_t blocks = blocks_of(u);
  args.group = group_of(args, blocks);
  for_tasks(args.batch * args.directions * ((blocks + args.group - 1) / args.group),
            [&](int64_t first, int64_t last) { chosen_kernels()->scan_forward(args, first, last); });
  return {y, states};
}

// Groups of channel blocks, each with sums of its own for the gradients of B and C: enough to keep threads busy, and so
// few that these sums take no more memory than the gradient of y. A function of the problem's size alone.
static int64_t parts_of(const ScanArguments& args, int64_t blocks) {
  const int64_t wanted = (16 + args.batch - 1) / std::max<int64_t>(args.batch, 1);
  const int64_t allowed = args.channels / std::max<int64_t>(2 * args.states + args.padded_rank, 1);
  return std::max<int64_t>(1, std::min({wanted, allowed, blocks}));
}

std::vector<at::Tensor> scan_backward(const at::Tensor& grad_y_, const at::Tensor& u, const at::Tensor& dt,
                                      const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                      const at::Tensor& D, const at::Tensor& dt_bias, const at::Tensor& order,
                                      const at::Tensor& states, int64_t num_tokens,
                                      const std::optional<at::Tensor>& dt_weight, bool log_A) {
  Inputs in(u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, log_A);
  ScanArguments& args = in.args;
  const at::Tensor grad_y = with_unit_stride(grad_y_.to(u.scalar_type()));
  const at::Tensor kept = states.contiguous();
  const bool low_rank = dt_weight.has_value();
  const int64_t width = chosen_kernels()->block(args.dtype);
  args.padded_rank = (args.rank + width - 1) / width * width;
  args.parts = parts_of(args, blocks_of(u));
  // In scan order, padding at a direction's end is never visited. Otherwise every row is written.
  const auto make = [&](at::IntArrayRef size, at::ScalarType dtype) {
    return args.spatial ? at::empty(size, u.options().dtype(dtype)) : at::zeros(size, u.options().dtype(dtype));
  };
  const at::ScalarType compute = compute_type(u);
  at::Tensor grad_u = make(u.sizes(), compute);
  at::Tensor grad_dt = low_rank ? at::Tensor() : make(dt.sizes(), u.scalar_type());
  const auto per_part = [&](int64_t features) {
    return at::zeros({args.parts, args.batch, args.rows, args.directions, features}, A.options());
  };
  at::Tensor grad_B = per_part(args.states), grad_C = per_part(args.states);
  at::Tensor grad_dt_low = low_rank ? per_part(args.padded_rank) : at::Tensor();
  at::Tensor grad_A = at::empty({args.batch, args.directions, args.channels, args.states}, A.options());
  at::Tensor grad_D = at::empty({args.batch, args.directions, args.channels}, A.options());
  at::Tensor grad_bias = at::empty({args.batch, args.directions, args.channels}, A.options());
  at::Tensor grad_dt_weight = at::empty({args.batch, args.directions, args.channels, args.rank}, A.options());
  args.checkpoints = kept.data_ptr();
  args.grad_y = output_tokens(grad_y);
  args.grad_u = tokens(grad_u);
  if (low_rank) args.grad_dt_low = grad_dt_low.data_ptr();
  else args.grad_dt = tokens(grad_dt);
  args.grad_B = grad_B.data_ptr();
  args.grad_C = grad_C.data_ptr();
  args.grad_A = grad_A.data_ptr();
  args.grad_D = grad_D.data_ptr();
  args.grad_dt_bias = grad_bias.data_ptr();
  args.grad_dt_weight = grad_dt_weight.data_ptr();
  for_tasks(args.batch * args.parts,
            [&](int64_t first, int64_t last) { chosen_kernels()->scan_backward(args, first, last); });
  const at::ScalarType type = u.scalar_type();
  if (low_rank) grad_dt = sum_of_parts(grad_dt_low, type).narrow(-1, 0, args.rank).contiguous();
  std::vector<at::Tensor> grads{grad_u.to(type),
                                grad_dt,
                                sum_of_parts(grad_A, compute),
                                sum_of_parts(grad_B, type),
                                sum_of_parts(grad_C, type),
                                sum_of_parts(grad_D, compute),
                                sum_of_parts(grad_bias, compute)};
  if (low_rank) grads.push_back(sum_of_parts(grad_dt_weight, dt_weight->scalar_type()));
  return grads;
}

}  // namespace mmlocalmamba
