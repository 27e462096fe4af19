// Copies of tensors in another type, and sums of the parts that tasks have left.
#pragma once

#include "instruction_set.h"
#include "numbers.h"
#include "rows.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// Numbers with a stride to contiguous numbers of another type. All but doubles go through float.
template <class S, class D>
INLINE void convert(const S* from, int64_t stride, D* to, int64_t size) {
  using From = decltype(to_compute(S()));
  using To = decltype(to_compute(D()));
  int64_t i = 0;
  if constexpr (std::is_same_v<From, float> && std::is_same_v<To, float>) {
    for (; stride == 1 && i + FloatSimd::kWidth <= size; i += FloatSimd::kWidth)
      FloatSimd::store(to + i, FloatSimd::load(from + i));
  }
  for (; i < size; ++i) from_compute(static_cast<To>(to_compute(from[i * stride])), to[i]);
}

template <class S>
INLINE void convert_to(const S* from, int64_t stride, Dtype target, void* to, int64_t offset, int64_t size) {
  switch (target) {
    case Dtype::kFloat: return convert(from, stride, static_cast<float*>(to) + offset, size);
    case Dtype::kDouble: return convert(from, stride, static_cast<double*>(to) + offset, size);
    case Dtype::kBFloat16: return convert(from, stride, static_cast<BFloat16*>(to) + offset, size);
    case Dtype::kHalf: return convert(from, stride, static_cast<Half*>(to) + offset, size);
    case Dtype::kInt32: return;
  }
}

// A task is a block of kCopyBlock numbers of the copy, taken run by run along the last dimension.
template <class Simd, class S>
void copy(const CopyArguments& args, int64_t first, int64_t last) {
  const int64_t end = smaller(last * kCopyBlock, args.size);
  const int64_t run = args.sizes[args.dims - 1], stride = args.strides[args.dims - 1];
  int64_t done = first * kCopyBlock;
  while (done < end) {
    const int64_t inner = done % run, size = smaller(run - inner, end - done);
    const S* from = static_cast<const S*>(args.from) + inner * stride;
    int64_t outer = done / run;
    for (int64_t dim = args.dims - 2; dim >= 0; --dim) {
      from += outer % args.sizes[dim] * args.strides[dim];
      outer /= args.sizes[dim];
    }
    convert_to(from, stride, args.target, args.to, done, size);
    done += size;
  }
}

// A task is a block of kCopyBlock numbers of the sum. Parts are added in their order, whatever the number of threads.
template <class Simd, class S>
void sum_parts(const SumArguments& args, int64_t first, int64_t last) {
  if constexpr (std::is_same_v<S, typename Simd::Value>) {
    constexpr int64_t kPiece = 1024;  // stays in the first cache
    S sum[kPiece];
    const int64_t end = smaller(last * kCopyBlock, args.size);
    for (int64_t start = first * kCopyBlock; start < end; start += kPiece) {
      const int64_t size = smaller(kPiece, end - start);
      const S* part = static_cast<const S*>(args.from) + start;
      for (int64_t i = 0; i < size; ++i) sum[i] = args.parts > 0 ? part[i] : S(0);
      for (int64_t index = 1; index < args.parts; ++index) {
        part += args.size;
        for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
      }
      convert_to(sum, 1, args.target, args.to, start, size);
    }
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
