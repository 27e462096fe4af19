// The selective scan on tensors.
#include <algorithm>

#include "call.h"
#include "memory.h"

namespace mmlocalmamba {
namespace {

constexpr const char* kParameters = "(directions, channels)";

// What forward and backward take alike, checked and in the layout that the kernels read. B, C and step sizes of low
// rank are a small part of the tokens: those go to the compute type.
struct ScanInputs {
  const View u, A, dt_weight;
  const Dtype dtype, compute;
  const Order order;
  const Input u_rows, dt_rows, A_dense, B_rows, C_rows, D_dense, dt_bias_dense, dt_weight_dense;
  ScanArguments args{};

  // y: (batch, directions, tokens, channels), or its gradient.
  ScanInputs(const Call& call, const View& y)
      : u(checked_u(call["u"])),
        A(call["A"].want_dims(3, "(directions, channels, states)")),
        dt_weight(call["dt_weight"]),
        dtype(u.dtype()),
        compute(compute_type(dtype)),
        order(call, call["order"], A.size(0), y.want_dims(4, "(batch, directions, tokens, channels)").size(2),
              Order::kAtMostOnce),
        u_rows(call, u, dtype, Input::kRows),
        dt_rows(call, call["dt"], dt_weight.present() ? compute : dtype, Input::kRows),
        A_dense(call, A, compute, Input::kDense),
        B_rows(call, call["B"], compute, Input::kRows),
        C_rows(call, call["C"], compute, Input::kRows),
        D_dense(call, call["D"], compute, Input::kDense),
        dt_bias_dense(call, call["dt_bias"], compute, Input::kDense),
        dt_weight_dense(call, dt_weight, compute, Input::kDense) {
    set_sizes();
    check(call, y);
    args.u = u_rows.tokens();
    (dt_weight.present() ? args.dt_low : args.dt) = dt_rows.tokens();
    args.B = B_rows.tokens();
    args.C = C_rows.tokens();
    args.A = A_dense.data();
    args.D = D_dense.data();
    args.dt_bias = dt_bias_dense.data();
    args.dt_weight = dt_weight_dense.data();
    args.log_A = call.number("log_A") != 0;
  }
  int64_t chunks() const { return rounded_up(args.length, kChunk); }

 private:
  static View checked_u(const View& u) {
    if (u.dims() != 3) u.want_dims(4, "(batch, tokens, channels) or (batch, length, directions, channels)");
    return u.want_float();
  }
  void set_sizes() {
    args.dtype = dtype;
    args.spatial = u.dims() == 3;
    args.batch = u.size(0);
    args.rows = u.size(1);
    args.channels = u.size(u.dims() - 1);
    args.directions = A.size(0);
    args.states = A.size(2);
    args.length = order.length();
    args.order = order.data();
    if (!dt_weight.present()) return;
    dt_weight.want_dims(3, "(directions, channels, rank)");
    args.rank = dt_weight.size(2);
    if (args.rank == 0) dt_weight.refuse("its rank must be at least 1");
  }
  void check(const Call& call, const View& y) const {
    const int64_t batch = args.batch, directions = args.directions, channels = args.channels, states = args.states;
    y.want_sizes({batch, directions, y.size(2), channels}, "(batch, directions, tokens, channels)");
    if (args.spatial) {
      u.want_sizes({batch, y.size(2), channels}, "(batch, tokens, channels)");
    } else {
      u.want_sizes({batch, args.length, directions, channels}, "(batch, length, directions, channels)");
    }
    A.want_sizes({directions, channels, states}, "(directions, channels, states)");
    call["D"].want_sizes({directions, channels}, kParameters);
    call["dt_bias"].want_sizes({directions, channels}, kParameters);
    call["B"].want_sizes({batch, args.rows, directions, states}, "(batch, rows, directions, states)");
    call["C"].want_sizes({batch, args.rows, directions, states}, "(batch, rows, directions, states)");
    if (dt_weight.present()) {
      dt_weight.want_sizes({directions, channels, args.rank}, "(directions, channels, rank)");
      call["dt"].want_sizes({batch, args.rows, directions, args.rank}, "(batch, rows, directions, rank)");
    } else {
      call["dt"].want_sizes({batch, args.rows, directions, channels}, "(batch, rows, directions, channels)");
      call["dt"].want_dtype(dtype);
    }
  }
};

// Channel blocks that walk along a sequence together, each token being read once for all of them: a few, if enough
// tasks are left for the threads. What is computed does not depend on it.
int64_t group_of(const ScanArguments& args, int64_t blocks, int64_t threads) {
  constexpr int64_t kMost = 4, kTasksPerThread = 4;
  const int64_t allowed = args.batch * args.directions * blocks / (kTasksPerThread * std::max<int64_t>(threads, 1));
  return std::max<int64_t>(1, std::min(kMost, allowed));
}

// Groups of channel blocks, each with sums of its own for the gradients of B and C: enough to keep threads busy, and so
// few that these sums take no more memory than the gradient of y. A function of the problem's size alone.
int64_t parts_of(const ScanArguments& args, int64_t blocks) {
  const int64_t wanted = rounded_up(16, std::max<int64_t>(args.batch, 1));
  const int64_t allowed = args.channels / std::max<int64_t>(2 * args.states + args.padded_rank, 1);
  return std::max<int64_t>(1, std::min({wanted, allowed, blocks}));
}

}  // namespace

void scan_forward(const Call& call) {
  const View y = call["y"], states = call["states"];
  ScanInputs in(call, y);
  ScanArguments& args = in.args;
  y.want_dtype(in.dtype);
  Output outputs(call, y, in.dtype, in.order.complete() ? Output::kEmpty : Output::kZero);
  args.y = outputs.tokens_by_direction();
  if (states.present()) {
    states.want_sizes({args.batch, args.directions, in.chunks(), args.states, args.channels},
                      "(batch, directions, chunks, states, channels)");
    args.checkpoints = states.want_dtype(in.compute).want_contiguous().tensor().data;
  }
  const int64_t blocks = call.blocks(in.dtype, args.channels);
  args.group = group_of(args, blocks, call.threads);
  call.run(call.kernels.scan_forward, args, args.batch * args.directions * rounded_up(blocks, args.group));
}

void scan_backward(const Call& call) {
  const View grad_y = call["grad_y"], states = call["states"];
  ScanInputs in(call, grad_y);
  ScanArguments& args = in.args;
  const Dtype compute = in.compute;
  const bool low_rank = in.dt_weight.present();
  states.want_sizes({args.batch, args.directions, in.chunks(), args.states, args.channels},
                    "(batch, directions, chunks, states, channels)");
  for (const char* name : {"u", "dt", "A", "B", "C", "D", "dt_bias"})
    call[std::string("grad_") + name].want_same_sizes(call[name]);
  const View grad_dt_weight = call["grad_dt_weight"];
  if (low_rank) grad_dt_weight.want_same_sizes(in.dt_weight);
  if (!low_rank && grad_dt_weight.present()) grad_dt_weight.refuse("must be absent, since dt_weight is");

  const Input grad_y_rows(call, grad_y, in.dtype, Input::kRows);
  const Input checkpoints(call, states.want_dtype(compute), compute, Input::kDense);
  args.checkpoints = checkpoints.data();
  args.grad_y = grad_y_rows.tokens_by_direction();
  const int64_t width = call.kernels.block(in.dtype), blocks = call.blocks(in.dtype, args.channels);
  args.padded_rank = rounded_up(args.rank, width) * width;
  args.parts = parts_of(args, blocks);

  // Not every row is written: in scan order, padding at a direction's end is not.
  const bool all_rows = args.spatial && args.directions > 0 && in.order.complete();
  const Output::Start start = all_rows ? Output::kEmpty : Output::kZero;
  Output grad_u(call, call["grad_u"], compute, start);
  args.grad_u = grad_u.tokens();
  Parts grad_B(call, call["grad_B"], compute, args.parts, Output::kZero);
  Parts grad_C(call, call["grad_C"], compute, args.parts, Output::kZero);
  Parts grad_A(call, call["grad_A"], compute, args.batch);
  Parts grad_D(call, call["grad_D"], compute, args.batch);
  Parts grad_dt_bias(call, call["grad_dt_bias"], compute, args.batch);
  Parts grad_weight(call, grad_dt_weight, compute, args.batch);
  args.grad_B = grad_B.data();
  args.grad_C = grad_C.data();
  args.grad_A = grad_A.data();
  args.grad_D = grad_D.data();
  args.grad_dt_bias = grad_dt_bias.data();
  args.grad_dt_weight = grad_weight.data();
  const auto finish = [&] {
    call.run(call.kernels.scan_backward, args, args.batch * args.parts);
    grad_u.finish();
    for (Parts* parts : {&grad_B, &grad_C, &grad_A, &grad_D, &grad_dt_bias, &grad_weight}) parts->finish();
  };

  const View grad_dt = call["grad_dt"];
  if (!low_rank) {
    Output grad_steps(call, grad_dt, in.dtype, start);
    args.grad_dt = grad_steps.tokens();
    finish();
    grad_steps.finish();
    return;
  }
  // The rows of low-rank gradients are padded to whole vectors: they are cut when they have been added up.
  grad_dt.want_float().want_contiguous();
  const int64_t rows = args.batch * args.rows * args.directions;
  const InnerParts padded(call, compute, args.parts, product({rows, args.padded_rank}), Output::kZero);
  args.grad_dt_low = padded.data();
  finish();
  const Workspace sum = padded.sum();
  Tensor cut = dense(sum.data(), compute, {rows, args.padded_rank});
  cut.sizes[1] = args.rank;
  copy(call, cut, grad_dt.tensor().data, grad_dt.dtype());
}

}  // namespace mmlocalmamba
