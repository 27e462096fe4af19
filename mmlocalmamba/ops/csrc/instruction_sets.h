// The choice of kernels at run time.
#pragma once

#include <vector>

#include "kernel_table.h"

namespace mmlocalmamba {

// What this processor can run, fastest first.
const std::vector<const Kernels*>& usable_kernels();

// The fastest, unless another has been chosen.
const Kernels& chosen_kernels();
void choose_kernels(const Kernels& kernels);

}  // namespace mmlocalmamba
