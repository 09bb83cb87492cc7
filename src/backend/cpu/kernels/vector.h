// Vectors of the instruction set this file is compiled for, and an exp that vectorises. Only what
// is in an unnamed or ISA namespace: an inline function shared with other files could be linked
// from the wrong set.
#pragma once

#include <cstdint>
#include <cstring>

namespace mpsnn::backend::cpu::MPSNN_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

static inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }

// exp by 2^n * p(r), |r| <= ln 2 / 2, p of degree 6: within 2 ulp; inf and NaN as they should.
static inline float fast_exp(float x) {
  const float clamped = x > -104.0f ? (x < 89.0f ? x : 89.0f) : -104.0f;  // NaN has no exponent
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657960e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000000e-1f;
  p = p * r * r + r + 1.0f;
  // In two factors, so that results near the ends of the range neither overflow nor vanish early.
  const int32_t whole = static_cast<int32_t>(n), half = whole >> 1, rest = whole - half;
  const int32_t bits1 = (half + 127) << 23, bits2 = (rest + 127) << 23;
  float f1, f2;
  __builtin_memcpy(&f1, &bits1, 4);
  __builtin_memcpy(&f2, &bits2, 4);
  const float y = p * f1 * f2;
  return x != x ? x : y;
}

static inline float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

static inline float fast_tanh(float x) {
  // Odd polynomial near 0, where 1 - 2 / (e^2x + 1) cancels.
  const float s = x * x;
  const float small = x + x * s * (-0.333332796f + s * (0.133314422f + s * -0.0529f));
  const float large = 1.0f - 2.0f / (fast_exp(2.0f * x) + 1.0f);
  return s < 0.04f ? small : large;
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
