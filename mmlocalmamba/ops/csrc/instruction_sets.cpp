#include "instruction_sets.h"

#include <atomic>

namespace mmlocalmamba {
namespace {

std::vector<const Kernels*> find_usable() {
  std::vector<const Kernels*> usable;
#if defined(MMLOCALMAMBA_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    usable.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&kAvx2);
#endif
  usable.push_back(&kBaseline);
  return usable;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{usable_kernels().front()};
  return kernels;
}

}  // namespace

const std::vector<const Kernels*>& usable_kernels() {
  static const std::vector<const Kernels*> usable = find_usable();
  return usable;
}

const Kernels& chosen_kernels() { return *chosen(); }

void choose_kernels(const Kernels& kernels) { chosen() = &kernels; }

}  // namespace mmlocalmamba
