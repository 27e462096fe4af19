// What Python sees of the kernels: checks of layout, the choice of instruction set, and the work among threads.
#include <ATen/Parallel.h>
#include <torch/extension.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "arguments.h"

namespace mmlocalmamba {
namespace {

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> usable;
#if defined(MMLOCALMAMBA_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    usable.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&kAvx2);
#endif
  usable.push_back(&kBaseline);
  return usable;
}

const std::vector<const Kernels*>& all_kernels() {
  static const std::vector<const Kernels*> usable = usable_kernels();
  return usable;
}

const Kernels*& chosen_kernels() {
  static const Kernels* chosen = all_kernels().front();
  return chosen;
}

Dtype dtype_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return Dtype::kFloat;
    case at::kDouble: return Dtype::kDouble;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kHalf;
    default: TORCH_CHECK(false, "tokens must be float32, float64, bfloat16 or float16, got ", x.scalar_type());
  }
}

at::ScalarType compute_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Only features must lie next to each other; any other stride is taken as it is.
at::Tensor with_unit_stride(const at::Tensor& x) {
  return x.size(-1) > 1 && x.stride(-1) != 1 ? x.contiguous() : x;
}

Tokens tokens(const at::Tensor& x) {  // (batch, rows, features) or (batch, rows, directions, features)
  return {x.data_ptr(), x.stride(0), x.stride(1), x.dim() == 4 ? x.stride(2) : 0};
}

Tokens output_tokens(const at::Tensor& y) {  // (batch, directions, rows, features)
  return {y.data_ptr(), y.stride(0), y.stride(2), y.stride(1)};
}

template <class T>
void add_up(const T* parts, int64_t count, int64_t size, T* sum) {
  at::parallel_for(0, size, 1 << 14, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) sum[i] = parts[i];
    for (int64_t part = 1; part < count; ++part)
      for (int64_t i = first; i < last; ++i) sum[i] += parts[part * size + i];
  });
}

// Sum over the first dimension, always in the same order, whatever the number of threads.
at::Tensor sum_of_parts(const at::Tensor& parts, at::ScalarType dtype) {
  if (parts.size(0) == 1) return parts[0].to(dtype);
  if (parts.size(0) == 0) return at::zeros(parts.sizes().slice(1), parts.options().dtype(dtype));
  at::Tensor sum = at::empty(parts.sizes().slice(1), parts.options());
  if (parts.scalar_type() == at::kDouble) {
    add_up(parts.data_ptr<double>(), parts.size(0), sum.numel(), sum.data_ptr<double>());
  } else {
    add_up(parts.data_ptr<float>(), parts.size(0), sum.numel(), sum.data_ptr<float>());
  }
  return sum.to(dtype);
}

void for_tasks(int64_t tasks, const std::function<void(int64_t, int64_t)>& work) {
  if (tasks > 0) at::parallel_for(0, tasks, 1, work);
}

int64_t blocks_of(const at::Tensor& x) {
  const int64_t width = chosen_kernels()->block(dtype_of(x));
  return (x.size(-1) + width - 1) / width;
}

// The inputs in the layout that the kernels read. B and C are a small part of the tokens: those go to the compute type.
struct Inputs {
  at::Tensor u, dt, A, B, C, D, dt_bias, order;
  ScanArguments args{};

  Inputs(const at::Tensor& u_, const at::Tensor& dt_, const at::Tensor& A_, const at::Tensor& B_, const at::Tensor& C_,
         const at::Tensor& D_, const at::Tensor& dt_bias_, const at::Tensor& order_, int64_t num_tokens)
      : u(with_unit_stride(u_)),
        dt(with_unit_stride(dt_)),
        A(A_.contiguous()),
        B(with_unit_stride(B_.to(compute_type(u_)))),
        C(with_unit_stride(C_.to(compute_type(u_)))),
        D(D_.contiguous()),
        dt_bias(dt_bias_.contiguous()),
        order(order_.contiguous()) {
    TORCH_CHECK(dt.scalar_type() == u.scalar_type(), "dt is ", dt.scalar_type(), ", but u is ", u.scalar_type());
    for (const at::Tensor& x : {A, D, dt_bias})
      TORCH_CHECK(x.scalar_type() == compute_type(u), "A, D and dt_bias must be ", compute_type(u));
    check_order(num_tokens);
    args.dtype = dtype_of(u);
    args.spatial = u.dim() == 3;
    args.batch = u.size(0);
    args.rows = u.size(1);
    args.channels = u.size(-1);
    args.directions = A.size(0);
    args.states = A.size(2);
    args.length = order.size(1);
    args.tokens = num_tokens;
    args.order = order.data_ptr<int32_t>();
    args.u = tokens(u);
    args.dt = tokens(dt);
    args.B = tokens(B);
    args.C = tokens(C);
    args.A = A.data_ptr();
    args.D = D.data_ptr();
    args.dt_bias = dt_bias.data_ptr();
  }

  // An index out of range would read and write foreign memory.
  void check_order(int64_t num_tokens) const {
    const int32_t* index = order.data_ptr<int32_t>();
    int32_t highest = -1;
    for (int64_t i = 0; i < order.numel(); ++i) highest = std::max(highest, index[i]);
    TORCH_CHECK(highest < num_tokens, "order holds ", highest, ", but there are only ", num_tokens, " tokens");
  }
};

int64_t chunks_of(const at::Tensor& order) { return (order.size(1) + kChunk - 1) / kChunk; }

}  // namespace

std::tuple<at::Tensor, at::Tensor> scan_forward(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& A,
                                                const at::Tensor& B, const at::Tensor& C, const at::Tensor& D,
                                                const at::Tensor& dt_bias, const at::Tensor& order, int64_t num_tokens,
                                                bool keep_states) {
  Inputs in(u, dt, A, B, C, D, dt_bias, order, num_tokens);
  ScanArguments& args = in.args;
  at::Tensor y = at::empty({args.batch, args.directions, num_tokens, args.channels}, u.options());
  at::Tensor states = at::empty({0}, A.options());
  if (keep_states)
    states = at::empty({args.batch, args.directions, chunks_of(order), args.states, args.channels}, A.options());
  args.y = output_tokens(y);
  args.checkpoints = keep_states ? states.data_ptr() : nullptr;
  for_tasks(args.batch * args.directions * blocks_of(u),
            [&](int64_t first, int64_t last) { chosen_kernels()->scan_forward(args, first, last); });
  return {y, states};
}

// Groups of channel blocks, each with sums of its own for the gradients of B and C: enough to keep threads busy, and so
// few that these sums take no more memory than the gradient of dt. A function of the problem's size alone.
static int64_t parts_of(const ScanArguments& args, int64_t blocks) {
  const int64_t wanted = (16 + args.batch - 1) / std::max<int64_t>(args.batch, 1);
  const int64_t allowed = args.channels / std::max<int64_t>(2 * args.states, 1);
  return std::max<int64_t>(1, std::min({wanted, allowed, blocks}));
}

std::vector<at::Tensor> scan_backward(const at::Tensor& grad_y_, const at::Tensor& u, const at::Tensor& dt,
                                      const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                      const at::Tensor& D, const at::Tensor& dt_bias, const at::Tensor& order,
                                      const at::Tensor& states, int64_t num_tokens) {
  Inputs in(u, dt, A, B, C, D, dt_bias, order, num_tokens);
  ScanArguments& args = in.args;
  const at::Tensor grad_y = with_unit_stride(grad_y_.to(u.scalar_type()));
  const at::Tensor kept = states.contiguous();
  args.parts = parts_of(args, blocks_of(u));
  // In scan order, padding at a direction's end is never visited. Otherwise every row is written.
  const auto make = [&](at::IntArrayRef size, at::ScalarType dtype) {
    return args.spatial ? at::empty(size, u.options().dtype(dtype)) : at::zeros(size, u.options().dtype(dtype));
  };
  const at::ScalarType compute = compute_type(u);
  at::Tensor grad_u = make(u.sizes(), compute);
  at::Tensor grad_dt = make(dt.sizes(), u.scalar_type());
  const std::vector<int64_t> per_part{args.parts, args.batch, args.rows, args.directions, args.states};
  at::Tensor grad_B = at::zeros(per_part, A.options()), grad_C = at::zeros(per_part, A.options());
  at::Tensor grad_A = at::empty({args.batch, args.directions, args.channels, args.states}, A.options());
  at::Tensor grad_D = at::empty({args.batch, args.directions, args.channels}, A.options());
  at::Tensor grad_bias = at::empty({args.batch, args.directions, args.channels}, A.options());
  args.checkpoints = kept.data_ptr();
  args.grad_y = output_tokens(grad_y);
  args.grad_u = tokens(grad_u);
  args.grad_dt = tokens(grad_dt);
  args.grad_B = grad_B.data_ptr();
  args.grad_C = grad_C.data_ptr();
  args.grad_A = grad_A.data_ptr();
  args.grad_D = grad_D.data_ptr();
  args.grad_dt_bias = grad_bias.data_ptr();
  for_tasks(args.batch * args.parts,
            [&](int64_t first, int64_t last) { chosen_kernels()->scan_backward(args, first, last); });
  const at::ScalarType type = u.scalar_type();
  return {grad_u.to(type),           grad_dt,
          sum_of_parts(grad_A, compute), sum_of_parts(grad_B, type), sum_of_parts(grad_C, type),
          sum_of_parts(grad_D, compute), sum_of_parts(grad_bias, compute)};
}

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
    for (int64_t i = 0; i < order.numel(); ++i)
      TORCH_CHECK(args.order[i] < args.tokens, "order holds ", args.order[i], ", but there are only ", args.tokens,
                  " tokens");
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

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : all_kernels()) names.push_back(kernels->name);
  return names;
}

void use_instruction_set(const std::string& name) {
  for (const Kernels* kernels : all_kernels()) {
    if (name == kernels->name) {
      chosen_kernels() = kernels;
      return;
    }
  }
  TORCH_CHECK(false, "this processor has no instruction set ", name);
}

at::Tensor exp2(const at::Tensor& x) {
  at::Tensor in = x.contiguous(), y = at::empty_like(in);
  chosen_kernels()->exp2(in.data_ptr<float>(), y.data_ptr<float>(), in.numel());
  return y;
}

std::tuple<at::Tensor, at::Tensor> softplus(const at::Tensor& x) {
  at::Tensor in = x.contiguous(), y = at::empty_like(in), slope = at::empty_like(in);
  chosen_kernels()->softplus(in.data_ptr<float>(), y.data_ptr<float>(), slope.data_ptr<float>(), in.numel());
  return {y, slope};
}

}  // namespace mmlocalmamba

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace mm = mmlocalmamba;
  using release = py::call_guard<py::gil_scoped_release>;
  m.def("scan_forward", &mm::scan_forward, release());
  m.def("scan_backward", &mm::scan_backward, release());
  m.def("conv_forward", &mm::conv_forward, release());
  m.def("conv_backward", &mm::conv_backward, release());
  m.def("instruction_sets", &mm::instruction_sets, "Instruction sets of this processor, fastest first.");
  m.def("use_instruction_set", &mm::use_instruction_set, "Take another instruction set than the fastest.");
  m.def("exp2", &mm::exp2, "The kernels' 2^x of float32 x <= 0.");
  m.def("softplus", &mm::softplus, "The kernels' softplus of float32 x, and its derivative.");
  m.attr("CHUNK") = mm::kChunk;
}
