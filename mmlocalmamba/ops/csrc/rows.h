// Reading and writing the channels of a block, the last of which may be narrower than a vector.
#pragma once

#include "instruction_set.h"
#include "numbers.h"
#include "simd.h"

namespace mmlocalmamba::SIMD_NAMESPACE {

// An array; a few vectors or numbers are held in place, everything else on the heap. Not std::vector, whose functions
// compiled for one instruction set the linker could take for those of another.
template <class T>
class Array {
 public:
  explicit Array(int64_t size, const T& value = T()) : data_(allocate(size)), size_(size) {
    for (int64_t i = 0; i < size; ++i) data_[i] = value;
  }
  // Its i-th element is make(i).
  template <class Make, class = decltype(std::declval<const Make&>()(int64_t(0)))>
  Array(int64_t size, const Make& make) : data_(allocate(size)), size_(size) {
    for (int64_t i = 0; i < size; ++i) new (data_ + i) T(make(i));
  }
  ~Array() {
    for (int64_t i = 0; i < size_; ++i) data_[i].~T();
    if (size_ > kPlaces) ::operator delete(data_, std::align_val_t(kAlignment));
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  int64_t size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr size_t kAlignment = 64;
  static constexpr int64_t kPlaces = sizeof(T) <= kAlignment ? 16 : 0;
  T* allocate(int64_t size) {
    if (size <= kPlaces) return reinterpret_cast<T*>(places_);
    return static_cast<T*>(::operator new(sizeof(T) * static_cast<size_t>(size), std::align_val_t(kAlignment)));
  }
  alignas(kAlignment) unsigned char places_[kPlaces > 0 ? kPlaces * sizeof(T) : 1];
  T* data_;
  int64_t size_;
};

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class S, class Simd>
INLINE typename Simd::Vector load_row(const S* p, int lanes) {
  if (lanes == Simd::kWidth) return Simd::load(p);
  typename Simd::Value row[Simd::kWidth] = {};
  for (int i = 0; i < Simd::kWidth && i < lanes; ++i) row[i] = to_compute(p[i]);
  return Simd::load(row);
}

template <class S, class Simd>
INLINE void store_row(S* p, const typename Simd::Vector& v, int lanes) {
  if (lanes == Simd::kWidth) return Simd::store(p, v);
  typename Simd::Value row[Simd::kWidth];
  Simd::store(row, v);
  for (int i = 0; i < Simd::kWidth && i < lanes; ++i) from_compute(row[i], p[i]);
}

// A vector with zeros in all but its first lanes.
template <class Simd>
INLINE typename Simd::Vector first_lanes(const typename Simd::Vector& v, int lanes) {
  typename Simd::Value row[Simd::kWidth];
  Simd::store(row, v);
  return load_row<typename Simd::Value, Simd>(row, lanes);
}

// (channels, states) rows to one vector of channels per state.
template <class Simd>
INLINE void load_transposed(const typename Simd::Value* p, int64_t states, int lanes, typename Simd::Vector* out) {
  constexpr int kTile = 16;
  for (int64_t first = 0; first < states; first += kTile) {
    const int count = int(smaller(kTile, states - first));
    typename Simd::Value tile[kTile][Simd::kWidth] = {};
    for (int i = 0; i < Simd::kWidth && i < lanes; ++i)
      for (int n = 0; n < count; ++n) tile[n][i] = p[i * states + first + n];
    for (int n = 0; n < count; ++n) out[first + n] = Simd::load(tile[n]);
  }
}

template <class Simd>
INLINE void store_transposed(const typename Simd::Vector* v, int64_t states, int lanes, typename Simd::Value* p) {
  for (int64_t n = 0; n < states; ++n) {
    typename Simd::Value row[Simd::kWidth];
    Simd::store(row, v[n]);
    for (int i = 0; i < Simd::kWidth && i < lanes; ++i) p[i * states + n] = row[i];
  }
}

template <class S>
INLINE S* at(const Tokens& t, int64_t batch, int64_t row, int64_t direction) {
  return static_cast<S*>(t.data) + batch * t.batch + row * t.row + direction * t.direction;
}

// A direction's order without the padding at its end, which changes no output.
INLINE int64_t length_without_tail(const int32_t* order, int64_t length) {
  while (length > 0 && order[length - 1] < 0) --length;
  return length;
}

// While it lives, results too small for a normal number become zero: states that decay to nothing would otherwise
// cost a hundred times as much.
struct [[maybe_unused]] FlushToZero {
#if defined(__x86_64__) || defined(_M_X64)
  unsigned int before = _mm_getcsr();
  FlushToZero() { _mm_setcsr(before | 0x8000); }
  ~FlushToZero() { _mm_setcsr(before); }
#endif
};

}  // namespace mmlocalmamba::SIMD_NAMESPACE
