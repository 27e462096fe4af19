// A call of one of the library's functions: its arguments by name, and the checks that they must pass.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "instruction_sets.h"
#include "interface.h"
#include "kernel_table.h"
#include "threads.h"

namespace mmlocalmamba {

// What is wrong with a call; the caller gets to read it.
struct Error {
  std::string message;
};

// A function's line of functions.h, taken apart.
struct Signature {
  struct Name {
    std::string_view name;
    bool optional, output;
  };
  std::string_view function;
  std::vector<Name> tensors;
  std::vector<std::string_view> numbers;

  Signature(std::string_view name, std::string_view arguments);
};

// A tensor that a function was given.
class View {
 public:
  View(std::string_view function, std::string_view name, const Tensor& tensor)
      : function_(function), name_(name), tensor_(&tensor) {}
  bool present() const { return tensor_->dims >= 0; }
  const Tensor& tensor() const { return *tensor_; }
  Dtype dtype() const { return static_cast<Dtype>(tensor_->dtype); }
  int64_t dims() const { return tensor_->dims; }
  int64_t size(int64_t dim) const { return tensor_->sizes[dim]; }

  // Each throws an Error unless it holds. The layout names the dimensions: "(batch, rows, channels)".
  const View& want_dims(int64_t dims, const char* layout) const;
  const View& want_sizes(std::initializer_list<int64_t> sizes, const char* layout) const;
  const View& want_same_sizes(const View& other) const;
  const View& want_dtype(Dtype dtype) const;
  const View& want_float() const;
  const View& want_contiguous() const;

  // Throws an Error: "function: name is float32 (2, 3), but wanted".
  [[noreturn]] void refuse(const std::string& wanted) const;

 private:
  std::string_view function_, name_;
  const Tensor* tensor_;
};

class Call {
 public:
  const int64_t threads;
  const Kernels& kernels;

  // Checks what holds of every function's arguments: none is missing, and their sizes and strides can be added up.
  Call(const Signature& signature, const Tensor* tensors, const double* numbers, int64_t threads);
  View operator[](std::string_view name) const;
  double number(std::string_view name) const;

  // Do a kernel's tasks with the call's threads.
  template <class Arguments>
  void run(void (*kernel)(const Arguments&, int64_t, int64_t), const Arguments& args, int64_t tasks) const {
    for_tasks(threads, tasks, [&](int64_t first, int64_t last) { kernel(args, first, last); });
  }
  // Channel blocks that kernels take tokens of a dtype in.
  int64_t blocks(Dtype dtype, int64_t channels) const {
    const int64_t width = kernels.block(dtype);
    return (channels + width - 1) / width;
  }

 private:
  const Signature& signature_;
  const Tensor* tensors_;
  const double* numbers_;
};

// double for double tokens, else float.
inline Dtype compute_type(Dtype tokens) { return tokens == Dtype::kDouble ? Dtype::kDouble : Dtype::kFloat; }

int64_t bytes_of(Dtype dtype);

// Throws an Error if it does not fit.
int64_t product(std::initializer_list<int64_t> factors);

int64_t elements_of(const Tensor& tensor);
bool is_contiguous(const Tensor& tensor);

// A number of chunks or blocks that hold so many.
inline int64_t rounded_up(int64_t size, int64_t by) { return (size + by - 1) / by; }

// Every function, as the host files define it.
#define MMLOCALMAMBA_HOST(name, arguments) void name(const Call& call);
MMLOCALMAMBA_FUNCTIONS(MMLOCALMAMBA_HOST)
#undef MMLOCALMAMBA_HOST

}  // namespace mmlocalmamba
