// Every pair of types, each with one rounding: a wide number reaches 16 bits through a float
// rounded to odd, which keeps the tie information. Floats become integers to nearest even,
// saturated, NaN as 0. float32 <-> float16 is on the staging path and uses the hardware's
// conversion where it has one.
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/f16c.h"
#include "core/half.h"
#include "mpsnn/tensor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mpsnn {
namespace {

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

template <class T>
constexpr bool is_16_bit = std::is_same_v<T, Half> || std::is_same_v<T, Bfloat>;

float to_odd(double d) { return round_to_odd(d); }

float to_odd(int64_t i) {  // 64 bits to 53, the same way, then as above
  const bool negative = i < 0;
  uint64_t m = negative ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
  constexpr uint64_t low = (1u << 11) - 1;
  if (m >> 53 != 0) m = (m & ~low) | ((m & low) != 0 ? low + 1 : 0);
  const auto d = static_cast<double>(m);
  return to_odd(negative ? -d : d);
}

float to_odd(float f) { return f; }
float to_odd(int32_t i) { return to_odd(static_cast<double>(i)); }
float to_odd(uint8_t i) { return i; }
float to_odd(Half h) { return half_to_float(h.bits); }
float to_odd(Bfloat b) { return bfloat_to_float(b.bits); }

template <class To>
To to_integer(double d) {
  if (std::isnan(d)) return 0;
  const double rounded = std::nearbyint(d);
  // -2^63 and 2^63 are doubles, 2^63 - 1 is not.
  if (rounded <= static_cast<double>(std::numeric_limits<To>::min())) {
    return std::numeric_limits<To>::min();
  }
  if (rounded >= static_cast<double>(std::numeric_limits<To>::max())) {
    return std::numeric_limits<To>::max();
  }
  return static_cast<To>(rounded);
}

template <class To, class From>
To clamp_integer(From i) {
  if constexpr (sizeof(To) < sizeof(From) || (std::is_signed_v<From> && !std::is_signed_v<To>)) {
    if (i < static_cast<From>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    if (i > static_cast<From>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
  }
  return static_cast<To>(i);
}

template <class To, class From>
To convert_one(From from) {
  if constexpr (std::is_same_v<To, Half>) {
    return Half{float_to_half(to_odd(from))};
  } else if constexpr (std::is_same_v<To, Bfloat>) {
    return Bfloat{float_to_bfloat(to_odd(from))};
  } else if constexpr (is_16_bit<From>) {
    return convert_one<To>(to_odd(from));
  } else if constexpr (std::is_integral_v<To> && std::is_integral_v<From>) {
    return clamp_integer<To>(from);
  } else if constexpr (std::is_integral_v<To>) {
    return to_integer<To>(static_cast<double>(from));
  } else {
    return static_cast<To>(from);
  }
}

#if defined(__x86_64__)
// Each returns how many elements it has done.
__attribute__((target("avx,f16c"))) int64_t widen(const Half* from, float* to, int64_t n) {
  if (!has_f16c()) return 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(h));
  }
  return i;
}
__attribute__((target("avx,f16c"))) int64_t narrow(const float* from, Half* to, int64_t n) {
  if (!has_f16c()) return 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), h);
  }
  return i;
}
#elif defined(__aarch64__)
int64_t widen(const Half* from, float* to, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const uint16x4_t h = vld1_u16(reinterpret_cast<const uint16_t*>(from + i));
    vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(h)));
  }
  return i;
}
int64_t narrow(const float* from, Half* to, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const float16x4_t h = vcvt_f16_f32(vld1q_f32(from + i));
    vst1_u16(reinterpret_cast<uint16_t*>(to + i), vreinterpret_u16_f16(h));
  }
  return i;
}
#else
int64_t widen(const Half*, float*, int64_t) { return 0; }
int64_t narrow(const float*, Half*, int64_t) { return 0; }
#endif

template <class From, class To>
void convert_all(const void* from_memory, void* to_memory, int64_t n) {
  const auto* from = static_cast<const From*>(from_memory);
  auto* to = static_cast<To*>(to_memory);
  int64_t i = 0;
  if constexpr (std::is_same_v<From, Half> && std::is_same_v<To, float>) i = widen(from, to, n);
  if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Half>) i = narrow(from, to, n);
  for (; i < n; ++i) to[i] = convert_one<To>(from[i]);
}

template <class T>
struct Tag {
  using type = T;
};

template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f(Tag<float>());
    case DType::float16:
      return f(Tag<Half>());
    case DType::bfloat16:
      return f(Tag<Bfloat>());
    case DType::float64:
      return f(Tag<double>());
    case DType::int32:
      return f(Tag<int32_t>());
    case DType::int64:
      return f(Tag<int64_t>());
    case DType::uint8:
      return f(Tag<uint8_t>());
  }
}

}  // namespace

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count) {
  if (count <= 0) return;
  if (from_dtype == to_dtype) {
    std::memmove(to, from, static_cast<std::size_t>(count) * size_of(to_dtype));
    return;
  }
  with_type(from_dtype, [&](auto from_tag) {
    with_type(to_dtype, [&](auto to_tag) {
      convert_all<typename decltype(from_tag)::type, typename decltype(to_tag)::type>(from, to,
                                                                                      count);
    });
  });
}

}  // namespace mpsnn
