// Vectors of the instruction set this file is compiled for, and an exp that vectorises. Only what
// is in an unnamed or ISA namespace: an inline function shared with other files could be linked
// from the wrong set.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

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
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float Anywhere __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

static inline Vec load(const float* p) { return *reinterpret_cast<const Anywhere*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<Anywhere*>(p) = v; }

// The same of bfloat16, as its bits: widened, and rounded to the nearest, ties to even.
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
static inline Vec load(const uint16_t* p) {
  return Vec(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Bits) << 16);
}
static inline void store(uint16_t* p, Vec v) {
  const Bits bits = Bits(v), high = bits >> 16, rounded = (bits + 0x7FFFu + (high & 1u)) >> 16;
  const Bits all = (bits & 0x7FFFFFFFu) > 0x7F800000u ? high | 0x40u : rounded;
  *reinterpret_cast<Halves*>(p) = __builtin_convertvector(all, Halves);
}
// The same past the caches, to a place that is a multiple of the vector's size; flush() ends them.
#if defined(__AVX512F__)
static inline void stream(float* p, Vec v) { _mm512_stream_ps(p, __m512(v)); }
#elif defined(__AVX2__)
static inline void stream(float* p, Vec v) { _mm256_stream_ps(p, __m256(v)); }
#elif defined(__SSE2__)
static inline void stream(float* p, Vec v) { _mm_stream_ps(p, __m128(v)); }
#else
static inline void stream(float* p, Vec v) { store(p, v); }
#endif
static inline void flush() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
static inline float single(float v) { return v; }
static inline float single(uint16_t bfloat) {
  const uint32_t bits = uint32_t{bfloat} << 16;
  float v;
  __builtin_memcpy(&v, &bits, 4);
  return v;
}
static inline void put(float* p, float v) { *p = v; }
static inline void put(uint16_t* p, float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, 4);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  *p = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16) | 0x40u : rounded);
}

// a > b ? a : b and a < b ? a : b, for which a compiler does not take the one instruction.
#if defined(__AVX512F__)
static inline Vec larger(Vec a, Vec b) { return Vec(_mm512_max_ps(__m512(a), __m512(b))); }
static inline Vec smaller(Vec a, Vec b) { return Vec(_mm512_min_ps(__m512(a), __m512(b))); }
#elif defined(__AVX2__)
static inline Vec larger(Vec a, Vec b) { return Vec(_mm256_max_ps(__m256(a), __m256(b))); }
static inline Vec smaller(Vec a, Vec b) { return Vec(_mm256_min_ps(__m256(a), __m256(b))); }
#else
static inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
static inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
#endif
template <class T>
static inline T larger(T a, T b) {
  return a > b ? a : b;
}
template <class T>
static inline T smaller(T a, T b) {
  return a < b ? a : b;
}

typedef int32_t Lanes __attribute__((vector_size(4 * kLanes)));

// The lanes of a and b, one behind the other, that `which` numbers.
static inline Vec shuffled(Vec a, Vec b, Lanes which) {
#if defined(__clang__)
  Vec y;
  for (int l = 0; l < kLanes; ++l) y[l] = which[l] < kLanes ? a[which[l]] : b[which[l] - kLanes];
  return y;
#else
  return __builtin_shuffle(a, b, which);
#endif
}

// What all lanes are together, in pairs of pairs.
template <int kStep = kLanes / 2, class F>
static inline float fold_lanes(Vec v, F join) {
  Lanes across;
  for (int l = 0; l < kLanes; ++l) across[l] = l ^ kStep;
  const Vec pairs = join(v, shuffled(v, v, across));
  if constexpr (kStep > 1)
    return fold_lanes<kStep / 2>(pairs, join);
  else
    return pairs[0];
}

// The same of kLanes vectors at once: lane r is what all lanes of v[r] are together.
template <int kStep = kLanes / 2, class F>
static inline Vec fold_rows(Vec (&v)[kLanes], F join) {
  Lanes own, across;
  for (int l = 0; l < kLanes; ++l) {
    const int of_second = (l & kStep) != 0 ? kLanes : 0;
    own[l] = of_second + l;
    across[l] = of_second + (l ^ kStep);
  }
  for (int r = 0; r < kStep; ++r) {
    const Vec a = v[r], b = v[r + kStep];
    v[r] = join(shuffled(a, b, own), shuffled(a, b, across));
  }
  if constexpr (kStep > 1) return fold_rows<kStep / 2>(v, join);
  return v[0];
}

static inline float fold_sum(Vec v) {
  return fold_lanes(v, [](Vec a, Vec b) { return a + b; });
}

// exp by 2^n * p(r), |r| <= ln 2 / 2, p of degree 6: within 2 ulp; inf and NaN as they should, 0
// where float has no normal number.
static inline float fast_exp(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // rounds to n, in its last bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657960e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000000e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits, exponent;
  __builtin_memcpy(&bits, &p, 4);
  __builtin_memcpy(&exponent, &shifted, 4);
  bits += exponent << 23;
  float y;
  __builtin_memcpy(&y, &bits, 4);
  y = x < -87.3365f ? 0.0f : y;  // beyond these ends the formula has no meaning
  y = x > 88.7228317f ? __builtin_inff() : y;
  return x != x ? x : y;
}

// The same for x <= 0 and NaN, floats or vectors: what is below all normal numbers need not be kept
// from the formula.
static inline uint32_t bits_of(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, 4);
  return bits;
}
static inline Bits bits_of(Vec v) { return Bits(v); }
template <class V>
static inline V fast_exp_below(V x) {
  const V shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = V{} + 1.98756915e-4f;
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657960e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000000e-1f;
  p = p * r * r + r + 1.0f;
  const auto bits = (bits_of(shifted) << 23) + 0x3F800000u;
  V scale;
  __builtin_memcpy(&scale, &bits, sizeof(scale));
  return x < -87.3365f ? V{} : p * scale;
}

// log by the exponent and a polynomial in m - 1, m in sqrt(1/2)..sqrt(2): within 2 ulp; 0, negative
// numbers, inf and NaN as they should.
static inline float fast_log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float scaled = x * (tiny ? 8388608.0f : 1.0f);
  uint32_t bits;
  __builtin_memcpy(&bits, &scaled, 4);
  const uint32_t above_half = bits - 0x3F3504F3u;  // the bits of sqrt(1/2)
  const uint32_t low = bits - (above_half & 0xFF800000u);
  float m;
  __builtin_memcpy(&m, &low, 4);
  const auto e = static_cast<float>((static_cast<int32_t>(above_half) >> 23) - (tiny ? 23 : 0));
  const float f = m - 1.0f, s = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float y = e * 0.693359375f + (f + (s * f * p - 0.5f * s - e * 2.12194440e-4f));
  const float inf = __builtin_inff();
  const float above = x == inf ? x : y;
  return x > 0.0f ? above : (x == 0.0f ? -inf : __builtin_nanf(""));
}

// log(1 + z) for z in 0..1: 2 artanh(z / (2 + z)), whose argument is at most 1/3.
static inline float fast_log1p(float z) {
  const float s = z / (2.0f + z), q = s * s;
  float p = 1.0f / 13;
  p = p * q + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  return 2.0f * (s + s * q * p);
}

// exp(x) - 1 as scale - 1 + scale * rest for |x| <= 87: 2^n and expm1(r), with n from the low bits
// of a sum that has rounded. NaN stays.
struct Power {
  float scale, rest;
};
static inline Power fast_power_within(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345190e-3f;
  p = p * r + 4.16657960e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000000e-1f;
  uint32_t bits;
  __builtin_memcpy(&bits, &shifted, 4);
  bits = (bits << 23) + 0x3F800000u;
  Power y;
  __builtin_memcpy(&y.scale, &bits, 4);
  y.rest = p * r * r + r;
  return y;
}

// Larger arguments are taken for +-87.
static inline Power fast_power(float x) {
  const float upper = 87.0f < x ? 87.0f : x;
  return fast_power_within(-87.0f > upper ? -87.0f : upper);
}

static inline float fast_tanh(float x) {
  const Power e = fast_power(2.0f * x);
  const float above = e.scale * e.rest + (e.scale - 1.0f);  // exp(2x) - 1, exact near 0
  return above / (above + 2.0f);
}

static inline float fast_sigmoid(float x) {
  const Power e = fast_power(-x);
  return 1.0f / (e.scale * e.rest + (e.scale + 1.0f));
}

// What 16 values are together, in pairs of pairs. `part` is overwritten.
template <class F>
static inline float fold(float (&part)[16], F join) {
  for (int half = 8; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) part[l] = join(part[l], part[l + half]);
  return part[0];
}
static inline float fold_sum(float (&part)[16]) {
  return fold(part, [](float a, float b) { return a + b; });
}

// The sum of term(i) for i in 0..n: in float by lanes over a few hundred terms, then in double.
template <class F>
static inline double sum_of(int64_t n, F term) {
  constexpr int64_t kWidth = 16, kFlush = 512;
  double sum = 0;
  int64_t i = 0;
  while (i + kWidth <= n) {
    const int64_t last = i + kFlush < n ? i + kFlush : n;
    float part[kWidth] = {};
    for (; i + kWidth <= last; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) part[k] += term(i + k);
    sum += static_cast<double>(fold_sum(part));
  }
  for (; i < n; ++i) sum += static_cast<double>(term(i));
  return sum;
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
