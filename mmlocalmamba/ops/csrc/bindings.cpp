// What Python sees of the extension.
#include "bindings.h"

#include <torch/extension.h>

#include <string>

#include "host.h"

namespace mmlocalmamba {
namespace {

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

}  // namespace
}  // namespace mmlocalmamba

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace mm = mmlocalmamba;
  using release = py::call_guard<py::gil_scoped_release>;
  m.def("scan_forward", &mm::scan_forward, release());
  m.def("scan_backward", &mm::scan_backward, release());
  m.def("conv_forward", &mm::conv_forward, release());
  m.def("conv_backward", &mm::conv_backward, release());
  m.def("conv2d_forward", &mm::conv2d_forward, release());
  m.def("conv2d_backward", &mm::conv2d_backward, release());
  m.def("merge_forward", &mm::merge_forward, release());
  m.def("merge_backward", &mm::merge_backward, release());
  m.def("add_norm_forward", &mm::add_norm_forward, release());
  m.def("add_norm_backward", &mm::add_norm_backward, release());
  m.def("instruction_sets", &mm::instruction_sets, "Instruction sets of this processor, fastest first.");
  m.def("use_instruction_set", &mm::use_instruction_set, "Take another instruction set than the fastest.");
  m.def("exp2", &mm::exp2, release(), "The kernels' 2^x of float32 x <= 0.");
  m.def("softplus", &mm::softplus, "The kernels' softplus of float32 x, and its derivative.");
  m.attr("CHUNK") = mm::kChunk;
}
