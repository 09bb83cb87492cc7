// IEEE half and bfloat16 from and to float and double, rounding once to nearest even, without
// hardware help.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace mpsnn {

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  uint32_t exponent = (h >> 10) & 0x1Fu, mantissa = h & 0x3FFu, bits;
  if (exponent == 31) {
    bits = sign | 0x7F800000u | (mantissa << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    bits = sign;
  } else {
    exponent = 113;
    while ((mantissa & 0x400u) == 0) {
      mantissa <<= 1;
      --exponent;
    }
    bits = sign | (exponent << 23) | ((mantissa & 0x3FFu) << 13);
  }
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7FFFFFFFu;
  if (bits > 0x7F800000u) return sign | 0x7E00u;
  if (bits >= 0x477FF000u) return sign | 0x7C00u;  // rounds to infinity
  if (bits < 0x33000001u) return sign;
  const int exponent = static_cast<int>(bits >> 23) - 112;
  uint32_t mantissa = (bits & 0x7FFFFFu) | 0x800000u;
  const int shift = exponent > 0 ? 13 : 14 - exponent;
  const uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1),
                 tie = 1u << (shift - 1);
  uint32_t half = exponent > 0 ? (static_cast<uint32_t>(exponent - 1) << 10) + kept : kept;
  if (rest > tie || (rest == tie && (half & 1u))) ++half;
  return static_cast<uint16_t>(sign | half);
}

inline float bfloat_to_float(uint16_t b) {
  const uint32_t bits = uint32_t{b} << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline uint16_t float_to_bfloat(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// To float, but an inexact result gets an odd last bit instead of being rounded: rounding it again,
// to 16 bits, then gives what rounding the double once gives.
inline float round_to_odd(double d) {
  const auto f = static_cast<float>(d);
  const auto back = static_cast<double>(f);
  if (back == d || std::isnan(d)) return f;
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if ((bits & 1u) == 0) {
    // The float with the odd last bit is the neighbour on d's side of f.
    bits = std::fabs(back) < std::fabs(d) ? bits + 1 : bits - 1;
  }
  float odd;
  std::memcpy(&odd, &bits, 4);
  return odd;
}

inline uint16_t double_to_half(double d) { return float_to_half(round_to_odd(d)); }
inline uint16_t double_to_bfloat(double d) { return float_to_bfloat(round_to_odd(d)); }

}  // namespace mpsnn
