#include "call.h"

#include <algorithm>
#include <limits>

namespace mmlocalmamba {
namespace {

constexpr int64_t kMostDims = 5;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 16;  // numbers, of 8 bytes or less
const char* const kDtypeNames[] = {"float32", "float64", "bfloat16", "float16", "int32"};

std::string text_of(const int64_t* sizes, int64_t dims) {
  std::string text = "(";
  for (int64_t i = 0; i < dims; ++i) text += (i > 0 ? ", " : "") + std::to_string(sizes[i]);
  return text + (dims == 1 ? ",)" : ")");
}

// Numbers of tasks and addresses are formed of sizes and strides: they must fit, in bytes. An empty tensor's other
// sizes count all the same.
bool can_be_addressed(const Tensor& tensor) {
  int64_t elements = 1, reach = 0;
  for (int64_t i = 0; i < tensor.dims; ++i) {
    const int64_t size = std::max<int64_t>(tensor.sizes[i], 1), stride = tensor.strides[i];
    if (stride > kMost || stride < -kMost || elements > kMost / size) return false;
    elements *= size;
    const int64_t step = stride < 0 ? -stride : stride;
    if (size > 1 && step > (kMost - reach) / (size - 1)) return false;
    reach += step * (size - 1);
  }
  return true;
}

void check(std::string_view function, const Signature::Name& argument, const Tensor& tensor) {
  // Text is made for errors alone: it would take longer than a small call.
  const auto refuse = [&](const std::string& what) {
    throw Error{std::string(function) + ": " + std::string(argument.name) + what};
  };
  const auto sizes = [&] { return text_of(tensor.sizes, tensor.dims); };
  if (tensor.dims < 0) {
    if (!argument.optional) refuse(" is missing");
    return;
  }
  if (tensor.dims > kMostDims) refuse(" has " + std::to_string(tensor.dims) + " dimensions, 5 at most go");
  if (tensor.dtype < 0 || tensor.dtype > 4) refuse(" has the unknown dtype code " + std::to_string(tensor.dtype));
  if (std::any_of(tensor.sizes, tensor.sizes + tensor.dims, [](int64_t size) { return size < 0; }))
    refuse(" has a negative size: " + sizes());
  if (!can_be_addressed(tensor)) refuse(" is too large: " + sizes());
  if (tensor.data == nullptr && elements_of(tensor) > 0) refuse(" has no data, but sizes " + sizes());
}

}  // namespace

Signature::Signature(std::string_view name, std::string_view arguments) : function(name) {
  int part = 0;  // tensors, numbers, outputs
  while (!arguments.empty()) {
    const size_t end = std::min(arguments.find(' '), arguments.size());
    std::string_view word = arguments.substr(0, end);
    arguments.remove_prefix(std::min(end + 1, arguments.size()));
    if (word == "|") {
      ++part;
    } else if (part == 1) {
      numbers.push_back(word);
    } else {
      const bool optional = word.back() == '?';
      if (optional) word.remove_suffix(1);
      tensors.push_back({word, optional, part == 2});
    }
  }
}

const View& View::want_dims(int64_t wanted, const char* layout) const {
  if (dims() != wanted) refuse(std::string("must be ") + layout);
  return *this;
}

const View& View::want_sizes(std::initializer_list<int64_t> sizes, const char* layout) const {
  if (dims() != static_cast<int64_t>(sizes.size()) || !std::equal(sizes.begin(), sizes.end(), tensor_->sizes))
    refuse("must be " + text_of(sizes.begin(), static_cast<int64_t>(sizes.size())) + ", " + layout);
  return *this;
}

const View& View::want_same_sizes(const View& other) const {
  if (dims() != other.dims() || !std::equal(tensor_->sizes, tensor_->sizes + dims(), other.tensor_->sizes))
    refuse("must be " + text_of(other.tensor_->sizes, other.dims()) + " as " + std::string(other.name_));
  return *this;
}

const View& View::want_dtype(Dtype wanted) const {
  if (dtype() != wanted) refuse(std::string("must be ") + kDtypeNames[static_cast<int64_t>(wanted)]);
  return *this;
}

const View& View::want_float() const {
  if (dtype() == Dtype::kInt32) refuse("must be float32, float64, bfloat16 or float16");
  return *this;
}

const View& View::want_contiguous() const {
  if (!is_contiguous(*tensor_)) refuse("must be contiguous, its strides are " + text_of(tensor_->strides, dims()));
  return *this;
}

void View::refuse(const std::string& wanted) const {
  const std::string who = std::string(function_) + ": " + std::string(name_);
  if (!present()) throw Error{who + " is missing, but " + wanted};
  throw Error{who + " is " + kDtypeNames[tensor_->dtype] + " " + text_of(tensor_->sizes, dims()) + ", but " + wanted};
}

Call::Call(const Signature& signature, const Tensor* tensors, const double* numbers, int64_t num_threads)
    : threads(num_threads), kernels(chosen_kernels()), signature_(signature), tensors_(tensors), numbers_(numbers) {
  if (tensors == nullptr) throw Error{std::string(signature.function) + " was called without tensors"};
  if (numbers == nullptr && !signature.numbers.empty())
    throw Error{std::string(signature.function) + " was called without numbers"};
  for (size_t i = 0; i < signature.tensors.size(); ++i) check(signature.function, signature.tensors[i], tensors[i]);
}

View Call::operator[](std::string_view name) const {
  for (size_t i = 0; i < signature_.tensors.size(); ++i)
    if (signature_.tensors[i].name == name) return View(signature_.function, signature_.tensors[i].name, tensors_[i]);
  throw Error{std::string(signature_.function) + " has no tensor " + std::string(name)};
}

double Call::number(std::string_view name) const {
  for (size_t i = 0; i < signature_.numbers.size(); ++i)
    if (signature_.numbers[i] == name) return numbers_[i];
  throw Error{std::string(signature_.function) + " has no number " + std::string(name)};
}

int64_t bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kDouble: return 8;
    case Dtype::kBFloat16:
    case Dtype::kHalf: return 2;
    case Dtype::kFloat:
    case Dtype::kInt32: break;
  }
  return 4;
}

int64_t product(std::initializer_list<int64_t> factors) {
  int64_t result = 1;
  for (const int64_t factor : factors) {
    if (factor > 0 && result > kMost / factor) throw Error{"sizes are too large: their product does not fit 64 bits"};
    result *= factor;
  }
  return result;
}

int64_t elements_of(const Tensor& tensor) {
  int64_t elements = 1;
  for (int64_t i = 0; i < tensor.dims; ++i) elements *= tensor.sizes[i];
  return elements;
}

bool is_contiguous(const Tensor& tensor) {
  int64_t stride = 1;
  if (elements_of(tensor) == 0) return true;
  for (int64_t i = tensor.dims - 1; i >= 0; --i) {
    if (tensor.sizes[i] != 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.sizes[i];
  }
  return true;
}

}  // namespace mmlocalmamba
