#include "memory.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace mmlocalmamba {
namespace {

constexpr size_t kLine = 64;

Tensor contiguous_like(const Tensor& like, void* data, Dtype dtype) {
  Tensor tensor = like;
  tensor.data = data;
  tensor.dtype = static_cast<int64_t>(dtype);
  int64_t stride = 1;
  for (int64_t i = tensor.dims - 1; i >= 0; --i) {
    tensor.strides[i] = stride;
    stride *= tensor.sizes[i];
  }
  return tensor;
}

bool has_layout(const Tensor& tensor, Input::Layout layout) {
  if (layout == Input::kDense) return is_contiguous(tensor);
  const int64_t last = tensor.dims - 1;
  return last < 0 || tensor.sizes[last] <= 1 || tensor.strides[last] == 1;
}

Tokens tokens_of(const Tensor& x) { return {x.data, x.strides[0], x.strides[1], x.dims == 4 ? x.strides[2] : 0}; }

Tokens tokens_by_direction_of(const Tensor& y) { return {y.data, y.strides[0], y.strides[2], y.strides[1]}; }

void add_up(const Call& call, Dtype dtype, int64_t parts, int64_t size, const void* from, void* to, Dtype target) {
  const SumArguments args{dtype, target, parts, size, from, to};
  call.run(call.kernels.sum_parts, args, rounded_up(size, kCopyBlock));
}

std::vector<int32_t> contiguous_order(const Tensor& order) {
  std::vector<int32_t> copy;
  copy.reserve(static_cast<size_t>(elements_of(order)));
  for (int64_t k = 0; k < order.sizes[0]; ++k)
    for (int64_t l = 0; l < order.sizes[1]; ++l)
      copy.push_back(static_cast<const int32_t*>(order.data)[k * order.strides[0] + l * order.strides[1]]);
  return copy;
}

// What there is to know of a direction's order.
struct Walk {
  int64_t visited = 0;
  bool outside = false, twice = false;
};

Walk walk_along(const int32_t* order, int64_t length, int64_t tokens, bool mark) {
  // Zeroed when it is touched: an order may visit few of very many tokens.
  const std::unique_ptr<char, void (*)(void*)> seen(
      mark ? static_cast<char*>(std::calloc(static_cast<size_t>(tokens) + 1, 1)) : nullptr, std::free);
  if (mark && seen == nullptr) throw std::bad_alloc();
  Walk walk;
  for (int64_t l = 0; l < length; ++l) {
    const int64_t token = order[l];
    if (token == -1) continue;
    if (token < 0 || token >= tokens) {
      walk.outside = true;
      return walk;
    }
    ++walk.visited;
    if (!mark) continue;
    if (seen.get()[token]) walk.twice = true;
    seen.get()[token] = 1;
  }
  return walk;
}

}  // namespace

Workspace::Workspace(int64_t bytes) {
  allocated_ = std::malloc(static_cast<size_t>(bytes) + kLine);
  if (allocated_ == nullptr) throw std::bad_alloc();
  void* start = allocated_;
  size_t space = static_cast<size_t>(bytes) + kLine;
  data_ = std::align(kLine, static_cast<size_t>(bytes), start, space);
}

Workspace::~Workspace() { std::free(allocated_); }

Workspace::Workspace(Workspace&& other) noexcept { *this = std::move(other); }

Workspace& Workspace::operator=(Workspace&& other) noexcept {
  std::swap(allocated_, other.allocated_);
  std::swap(data_, other.data_);
  return *this;
}

Tensor dense(void* data, Dtype dtype, std::initializer_list<int64_t> sizes) {
  Tensor like{};
  for (const int64_t size : sizes) like.sizes[like.dims++] = size;
  return contiguous_like(like, data, dtype);
}

void zero(const Call& call, void* data, int64_t bytes) {
  constexpr int64_t kBlock = 1 << 17;
  for_tasks(call.threads, rounded_up(bytes, kBlock), [&](int64_t first, int64_t last) {
    const int64_t start = first * kBlock, end = std::min(last * kBlock, bytes);
    std::memset(static_cast<char*>(data) + start, 0, static_cast<size_t>(end - start));
  });
}

void copy(const Call& call, const Tensor& from, void* to, Dtype dtype) {
  CopyArguments args{static_cast<Dtype>(from.dtype), dtype, 0, {}, {}, elements_of(from), from.data, to};
  if (args.size == 0) return;
  // Dimensions that lie one in the other become one, so that runs are long.
  for (int64_t i = 0; i < from.dims; ++i) {
    if (from.sizes[i] == 1) continue;
    const int64_t before = args.dims - 1;
    if (before >= 0 && args.strides[before] == from.sizes[i] * from.strides[i]) {
      args.sizes[before] *= from.sizes[i];
      args.strides[before] = from.strides[i];
    } else {
      args.sizes[args.dims] = from.sizes[i];
      args.strides[args.dims++] = from.strides[i];
    }
  }
  if (args.dims == 0) args.sizes[args.dims++] = 1;
  call.run(call.kernels.copy, args, rounded_up(args.size, kCopyBlock));
}

Input::Input(const Call& call, const View& view, Dtype dtype, Layout layout) : tensor_(view.tensor()) {
  if (!view.present()) {
    tensor_.data = nullptr;
    return;
  }
  view.want_float();
  if (view.dtype() == dtype && has_layout(tensor_, layout)) return;
  copy_ = Workspace(product({elements_of(tensor_), bytes_of(dtype)}));
  copy(call, tensor_, copy_.data(), dtype);
  tensor_ = contiguous_like(tensor_, copy_.data(), dtype);
}

Tokens Input::tokens() const { return tokens_of(tensor_); }
Tokens Input::tokens_by_direction() const { return tokens_by_direction_of(tensor_); }

Output::Output(const Call& call, const View& view, Dtype dtype, Start start)
    : call_(call), view_(view), tensor_(view.tensor()) {
  if (!view.present()) {
    tensor_.data = nullptr;
    return;
  }
  view.want_float().want_contiguous();
  const int64_t bytes = product({elements_of(tensor_), bytes_of(dtype)});
  void* data = tensor_.data;
  if (view.dtype() != dtype) {
    converted_ = Workspace(bytes);
    data = converted_.data();
  }
  // A contiguous tensor may have any stride where its size is one.
  tensor_ = contiguous_like(tensor_, data, dtype);
  if (start == kZero) zero(call, data, bytes);
}

Tokens Output::tokens() const { return tokens_of(tensor_); }
Tokens Output::tokens_by_direction() const { return tokens_by_direction_of(tensor_); }

void Output::finish() {
  if (converted_.data() != nullptr) copy(call_, tensor_, view_.tensor().data, view_.dtype());
}

Parts::Parts(const Call& call, const View& output, Dtype dtype, int64_t parts, Output::Start start)
    : call_(call), output_(output), dtype_(dtype), parts_(parts), size_(0), data_(nullptr) {
  if (!output.present()) return;
  output.want_float().want_contiguous();
  size_ = elements_of(output.tensor());
  const int64_t bytes = product({parts, size_, bytes_of(dtype)});
  data_ = output.tensor().data;
  if (parts != 1 || output.dtype() != dtype) {
    own_ = Workspace(bytes);
    data_ = own_.data();
  }
  if (start == Output::kZero) zero(call, data_, bytes);
}

void Parts::finish() {
  if (own_.data() != nullptr) add_up(call_, dtype_, parts_, size_, data_, output_.tensor().data, output_.dtype());
}

InnerParts::InnerParts(const Call& call, Dtype dtype, int64_t parts, int64_t size, Output::Start start)
    : call_(call), dtype_(dtype), parts_(parts), size_(size), own_(product({parts, size, bytes_of(dtype)})) {
  if (start == Output::kZero) zero(call, own_.data(), parts * size * bytes_of(dtype));
}

Workspace InnerParts::sum() const {
  Workspace sum(size_ * bytes_of(dtype_));
  add_up(call_, dtype_, parts_, size_, own_.data(), sum.data(), dtype_);
  return sum;
}

Order::Order(const Call& call, const View& view, int64_t directions, int64_t tokens, Visits visits)
    : length_(0), data_(static_cast<const int32_t*>(view.tensor().data)), complete_(visits == kAtMostOnce) {
  view.want_dtype(Dtype::kInt32).want_dims(2, "(directions, length)");
  length_ = view.size(1);
  view.want_sizes({directions, length_}, "(directions, length)");
  if (!is_contiguous(view.tensor())) {
    copy_ = contiguous_order(view.tensor());
    data_ = copy_.data();
  }
  constexpr int64_t kFewForThreads = 1 << 15;
  const int64_t threads = directions * length_ < kFewForThreads ? 1 : call.threads;
  std::atomic<bool> outside{false}, twice{false}, missed{false};
  for_tasks(threads, directions, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const Walk walk = walk_along(data_ + k * length_, length_, tokens, visits == kAtMostOnce);
      if (walk.outside) outside = true;
      if (walk.twice) twice = true;
      if (walk.visited != tokens) missed = true;
    }
  });
  if (outside) {
    const int32_t* const wrong =
        std::find_if(data_, data_ + directions * length_, [&](int32_t token) { return token < -1 || token >= tokens; });
    view.refuse("must hold indices of " + std::to_string(tokens) + " tokens, or -1 for padding, and not " +
                std::to_string(*wrong));
  }
  if (twice) view.refuse("must hold each token at most once per direction");
  if (missed) complete_ = false;
}

}  // namespace mmlocalmamba
