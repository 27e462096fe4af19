// What the functions that Python calls share: layouts of tensors, the choice of instruction set, work among threads.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "arguments.h"

namespace mmlocalmamba {

// Of this processor, fastest first, and the one in use.
const std::vector<const Kernels*>& all_kernels();
const Kernels*& chosen_kernels();

Dtype dtype_of(const at::Tensor& x);
at::ScalarType compute_type(const at::Tensor& x);

// Only features must lie next to each other; any other stride is taken as it is.
at::Tensor with_unit_stride(const at::Tensor& x);
Tokens tokens(const at::Tensor& x);         // (batch, rows, features) or (batch, rows, directions, features)
Tokens output_tokens(const at::Tensor& y);  // (batch, directions, rows, features)

// An index out of range would read and write foreign memory.
void check_order(const at::Tensor& order, int64_t num_tokens);

// Sum over the first dimension, always in the same order, whatever the number of threads.
at::Tensor sum_of_parts(const at::Tensor& parts, at::ScalarType dtype);

void for_tasks(int64_t tasks, const std::function<void(int64_t, int64_t)>& work);
int64_t blocks_of(const at::Tensor& x);

}  // namespace mmlocalmamba
