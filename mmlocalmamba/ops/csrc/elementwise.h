// The transcendental functions of whole arrays, for tests of their accuracy.
#pragma once

#include "instruction_set.h"
#include "rows.h"
#include "transcendental.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

template <class Simd, class S>
void exp2_function(const FunctionArguments& args, int64_t /*first*/, int64_t /*last*/) {
  for (int64_t i = 0; i < args.size; i += Simd::kWidth) {
    const int lanes = int(smaller(Simd::kWidth, args.size - i));
    const typename Simd::Vector x = load_row<S, Simd>(static_cast<const S*>(args.x) + i, lanes);
    store_row<S, Simd>(static_cast<S*>(args.y) + i, exp2_of_product<Simd>(x, Simd::set(1)), lanes);
  }
}

template <class Simd, class S>
void softplus_function(const FunctionArguments& args, int64_t /*first*/, int64_t /*last*/) {
  for (int64_t i = 0; i < args.size; i += Simd::kWidth) {
    const int lanes = int(smaller(Simd::kWidth, args.size - i));
    const typename Simd::Vector x = load_row<S, Simd>(static_cast<const S*>(args.x) + i, lanes);
    store_row<S, Simd>(static_cast<S*>(args.y) + i, softplus<Simd>(x), lanes);
    store_row<S, Simd>(static_cast<S*>(args.slope) + i, logistic<Simd>(x), lanes);
  }
}

}  // namespace mmlocalmamba::SIMD_NAMESPACE
