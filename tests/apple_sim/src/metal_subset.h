// What makes Metal source of the common subset C++: its types, its functions, and pointers that
// check every index. Included before the source by what metal_kernels.py generates.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "metal_compute.h"

namespace apple_sim {
uint16_t float_to_half(float f);
float half_to_float(uint16_t h);

template <class T>
struct Pointer {
  T* data;
  size_t count;
  const char* kernel;
  T& operator[](size_t i) const {
    if (i < count) return data[i];
    index_violation(kernel, i, count);
    static thread_local std::remove_const_t<T> nothing[1];
    return nothing[0];
  }
  T& operator*() const { return (*this)[0]; }
  Pointer operator+(size_t n) const {
    return n > count ? Pointer{data + count, 0, kernel} : Pointer{data + n, count - n, kernel};
  }
  operator Pointer<const T>() const { return {data, count, kernel}; }
};
}  // namespace apple_sim

#define kernel
#define device
#define constant const
#define thread
using uchar = uint8_t;
using apple_sim_uint = uint32_t;
#define uint apple_sim_uint
struct half {
  uint16_t bits;
  half() = default;
  half(float f) : bits(apple_sim::float_to_half(f)) {}
  operator float() const { return apple_sim::half_to_float(bits); }
};
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
template <class T>
T clamp(T x, T low, T high) {
  return std::min(std::max(x, low), high);
}
using std::exp;
using std::fabs;
using std::fma;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::log;
using std::max;
using std::min;
using std::pow;
using std::sqrt;
using std::tanh;
