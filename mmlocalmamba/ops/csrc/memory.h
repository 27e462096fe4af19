// Between the caller's tensors and the kernels: inputs and outputs in the type and layout that a kernel takes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "call.h"

namespace mmlocalmamba {

// Memory of the library's own, aligned to a cache line; not initialised. Throws std::bad_alloc.
class Workspace {
 public:
  Workspace() = default;
  explicit Workspace(int64_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  void* data() const { return data_; }

 private:
  void *allocated_ = nullptr, *data_ = nullptr;
};

// A contiguous tensor in some memory.
Tensor dense(void* data, Dtype dtype, std::initializer_list<int64_t> sizes);

void zero(const Call& call, void* data, int64_t bytes);

// Write a tensor with any strides to contiguous memory, in any dtype.
void copy(const Call& call, const Tensor& from, void* to, Dtype dtype);

// An input: the caller's memory where that has the dtype and the layout that is wanted, else a copy.
class Input {
 public:
  enum Layout {
    kRows,   // features next to each other, all other strides as they come
    kDense,  // contiguous
  };
  Input(const Call& call, const View& view, Dtype dtype, Layout layout);
  void* data() const { return tensor_.data; }
  // The strides of tokens (batch, rows, features) or (batch, rows, directions, features).
  Tokens tokens() const;
  // The same for (batch, directions, rows, features).
  Tokens tokens_by_direction() const;

 private:
  Tensor tensor_;
  Workspace copy_;
};

// An output, whose shape the caller has to check before: the caller's memory if that has the dtype that the kernel
// writes, else a workspace, which finish() converts.
class Output {
 public:
  enum Start { kEmpty, kZero };
  Output(const Call& call, const View& view, Dtype dtype, Start start = kEmpty);
  void* data() const { return tensor_.data; }
  Tokens tokens() const;
  Tokens tokens_by_direction() const;
  void finish();

 private:
  const Call& call_;
  View view_;
  Tensor tensor_;
  Workspace converted_;
};

// Sums that each of so many parts of the work leaves in its own memory, one after the other: finish() adds them up into
// an output, always in the same order.
class Parts {
 public:
  Parts(const Call& call, const View& output, Dtype dtype, int64_t parts, Output::Start start = Output::kEmpty);
  void* data() const { return data_; }
  void finish();

 private:
  const Call& call_;
  View output_;
  Dtype dtype_;
  int64_t parts_, size_;
  Workspace own_;
  void* data_;
};

// The same for sums that are no output yet.
class InnerParts {
 public:
  InnerParts(const Call& call, Dtype dtype, int64_t parts, int64_t size, Output::Start start = Output::kEmpty);
  void* data() const { return own_.data(); }
  // Add them up, in the same dtype.
  Workspace sum() const;

 private:
  const Call& call_;
  Dtype dtype_;
  int64_t parts_, size_;
  Workspace own_;
};

// The orders of all directions, (directions, length): a token's index or -1 for padding.
class Order {
 public:
  enum Visits {
    kAnyNumber,
    kAtMostOnce,  // of a token, in each direction
  };
  // Throws an Error unless it holds.
  Order(const Call& call, const View& view, int64_t directions, int64_t tokens, Visits visits);
  const int32_t* data() const { return data_; }
  int64_t length() const { return length_; }
  // Whether every direction visits every token; known for kAtMostOnce.
  bool complete() const { return complete_; }

 private:
  int64_t length_;
  std::vector<int32_t> copy_;
  const int32_t* data_;
  bool complete_;
};

}  // namespace mmlocalmamba
