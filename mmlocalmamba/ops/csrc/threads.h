// Work among the threads of the OpenMP runtime that the process has already loaded.
#pragma once

#include <cstdint>
#include <functional>

namespace mmlocalmamba {

// Does the tasks [first, last).
using Work = std::function<void(int64_t first, int64_t last)>;

// Do tasks with so many threads, each of which takes one contiguous range of them. Serial inside of a parallel region,
// without a runtime, and in a process forked from one that had libgomp's threads. Throws std::bad_alloc if a thread ran
// out of memory.
void for_tasks(int64_t threads, int64_t tasks, const Work& work);

// The functions of an OpenMP runtime; see mmlocalmamba_set_runtime in interface.h.
struct Runtime {
  enum Kind { kNone, kGomp, kKmp } kind = kNone;
  void *fork = nullptr, *push_num_threads = nullptr, *thread_id = nullptr;
  void *in_parallel = nullptr, *thread_num = nullptr, *num_threads = nullptr;
};
void set_runtime(const Runtime& runtime);

}  // namespace mmlocalmamba
