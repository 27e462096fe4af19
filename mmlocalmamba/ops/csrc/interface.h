// The library's C interface: all that it exports.
//
// No exception leaves it. A function that can fail returns null, or a message that says what it was given and what it
// wants; the message lives until the thread's next call. No function reads or writes outside of its arguments as long
// as each Tensor describes memory that is there.
#pragma once

#include <cstdint>

#include "functions.h"

#if defined(_WIN32)
#define MMLOCALMAMBA_EXPORT extern "C" __declspec(dllexport)
#elif defined(__GNUC__)
#define MMLOCALMAMBA_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define MMLOCALMAMBA_EXPORT extern "C"
#endif

extern "C" {

// A tensor of the caller's. With dims < 0 it is absent; data may be null only if the tensor has no elements.
struct Tensor {
  void* data;
  int64_t dtype;  // 0 float32, 1 float64, 2 bfloat16, 3 float16, 4 int32
  int64_t dims;
  int64_t sizes[5];
  int64_t strides[5];  // in elements
};
}

// One function per line of functions.h: its tensors and numbers in the order of that line, and how many threads it may
// use.
#define MMLOCALMAMBA_DECLARE(name, arguments) \
  MMLOCALMAMBA_EXPORT const char* mmlocalmamba_##name(const Tensor* tensors, const double* numbers, int64_t threads);
MMLOCALMAMBA_FUNCTIONS(MMLOCALMAMBA_DECLARE)
#undef MMLOCALMAMBA_DECLARE

// What this library is, as JSON: {"interface": 1, "sources": fingerprint of csrc, "chunk": tokens between two states
// that the scan keeps, "functions": {name: {"tensors": [...], "optional": [...], "numbers": [...]}}}.
MMLOCALMAMBA_EXPORT const char* mmlocalmamba_describe(void);

// The instruction sets that this processor has, fastest first, separated by spaces; the first one is in use.
MMLOCALMAMBA_EXPORT const char* mmlocalmamba_instruction_sets(void);
MMLOCALMAMBA_EXPORT const char* mmlocalmamba_use_instruction_set(const char* name);

// Take threads from an OpenMP runtime that the process has already loaded. Until this is called, all work is done by
// the caller's thread.
//   kind "gomp": fork is GOMP_parallel; push_num_threads and thread_id are not used
//   kind "kmp": fork is __kmpc_fork_call, push_num_threads __kmpc_push_num_threads, thread_id __kmpc_global_thread_num
// in_parallel, thread_num and num_threads are omp_in_parallel, omp_get_thread_num and omp_get_num_threads.
MMLOCALMAMBA_EXPORT const char* mmlocalmamba_set_runtime(const char* kind, void* fork, void* push_num_threads,
                                                         void* thread_id, void* in_parallel, void* thread_num,
                                                         void* num_threads);
