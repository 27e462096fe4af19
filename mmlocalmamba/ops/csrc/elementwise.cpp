// The transcendental functions of whole arrays, for tests of their accuracy.
#include "call.h"
#include "memory.h"

namespace mmlocalmamba {
namespace {

FunctionArguments arguments_of(const Call& call) {
  const View x = call["x"].want_dims(1, "(size,)").want_float().want_contiguous();
  const View y = call["y"].want_same_sizes(x).want_dtype(x.dtype()).want_contiguous();
  return {x.dtype(), x.size(0), x.tensor().data, y.tensor().data, nullptr};
}

}  // namespace

void exp2(const Call& call) { call.run(call.kernels.exp2_function, arguments_of(call), 1); }

void softplus(const Call& call) {
  FunctionArguments args = arguments_of(call);
  const View slope = call["slope"].want_same_sizes(call["x"]).want_dtype(args.dtype).want_contiguous();
  args.slope = slope.tensor().data;
  call.run(call.kernels.softplus_function, args, 1);
}

}  // namespace mmlocalmamba
