// Halves exhaustively, against their definition; every other pair against a rounding of its own.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/half.h"
#include "mpsnn/tensor.h"

using namespace mpsnn;

namespace {

constexpr int kHalves = 65536;

uint32_t bits_of(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}

float float_of(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// The value of a 16-bit pattern with `e` exponent bits, from the definition of the format.
double defined_value(int bits, int e) {
  const int fraction_bits = 15 - e, bias = (1 << (e - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << e) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << e) - 1) {
    return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

template <class To, class From>
std::vector<To> converted(const std::vector<From>& from, DType from_dtype, DType to_dtype) {
  std::vector<To> to(from.size());
  convert(from.data(), from_dtype, to.data(), to_dtype, static_cast<int64_t>(from.size()));
  return to;
}

template <class To, class From>
To converted_one(From from, DType from_dtype, DType to_dtype) {
  return converted<To>(std::vector<From>{from}, from_dtype, to_dtype)[0];
}

struct Format {
  const char* name;
  DType dtype;
  int exponent_bits, largest;  // pattern of the largest finite number
};
constexpr Format kFormats[] = {{"float16", DType::float16, 5, 0x7BFF},
                               {"bfloat16", DType::bfloat16, 8, 0x7F7F}};

}  // namespace

TEST_CASE("all 65,536 halves and bfloats have their defined values, and come back") {
  for (const Format& format : kFormats) {
    CAPTURE(format.name);
    int wrong = 0;
    std::vector<uint16_t> patterns(kHalves);
    for (int h = 0; h < kHalves; ++h) patterns[static_cast<std::size_t>(h)] = uint16_t(h);
    const auto floats = converted<float>(patterns, format.dtype, DType::float32);
    const auto doubles = converted<double>(patterns, format.dtype, DType::float64);
    const auto back = converted<uint16_t>(floats, DType::float32, format.dtype);
    const auto back64 = converted<uint16_t>(doubles, DType::float64, format.dtype);
    for (std::size_t h = 0; h < kHalves; ++h) {
      const auto bits = static_cast<uint16_t>(h);
      const bool half = format.dtype == DType::float16;
      const double expected = defined_value(static_cast<int>(h), format.exponent_bits);
      const float soft = half ? half_to_float(bits) : bfloat_to_float(bits);
      const uint16_t soft_back = half ? float_to_half(soft) : float_to_bfloat(soft);
      if (std::isnan(expected)) {
        const auto is_nan = [&](uint16_t b) {
          return std::isnan(defined_value(b, format.exponent_bits));
        };
        wrong += !std::isnan(floats[h]) || !std::isnan(doubles[h]) || !std::isnan(soft) ||
                 !is_nan(back[h]) || !is_nan(back64[h]) || !is_nan(soft_back);
      } else {
        wrong += static_cast<double>(floats[h]) != expected || doubles[h] != expected ||
                 bits_of(floats[h]) != bits_of(soft) || back[h] != h || back64[h] != h ||
                 soft_back != h;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("between two 16-bit neighbours the nearest is taken, at the middle the even one") {
  for (const Format& format : kFormats) {
    CAPTURE(format.name);
    const bool half = format.dtype == DType::float16;
    std::vector<float> floats;
    std::vector<double> doubles;
    std::vector<uint16_t> expected, expected64;
    for (int h = 0; h <= format.largest; ++h) {
      const double low = defined_value(h, format.exponent_bits);
      // Beyond the largest number comes what would follow if the exponents went on.
      const double step = h == format.largest ? low - defined_value(h - 1, format.exponent_bits)
                                              : defined_value(h + 1, format.exponent_bits) - low;
      const double middle = low + step / 2;
      const auto even = static_cast<uint16_t>(h + (h & 1)), below = static_cast<uint16_t>(h),
                 above = static_cast<uint16_t>(h + 1);
      for (const double sign : {1.0, -1.0}) {
        const uint16_t s = sign < 0 ? 0x8000 : 0;
        const auto add = [&](double d, uint16_t pattern) {
          doubles.push_back(sign * d);
          expected64.push_back(pattern | s);
          if (static_cast<double>(static_cast<float>(d)) != d) return;
          floats.push_back(static_cast<float>(sign * d));
          expected.push_back(pattern | s);
        };
        add(middle, even);
        // A double's width beside the middle, which a float does not see...
        add(std::nextafter(middle, 0.0), below);
        add(std::nextafter(middle, 1e300), above);
        // ... and a float's.
        const auto m = static_cast<float>(middle);
        if (static_cast<double>(m) == middle) {
          add(static_cast<double>(std::nextafter(m, 0.0f)), below);
          add(static_cast<double>(float_of(bits_of(m) + 1)), above);
        }
      }
    }
    CHECK(floats.size() > 6u * static_cast<unsigned>(format.largest) - 10000);
    CHECK(converted<uint16_t>(floats, DType::float32, format.dtype) == expected);
    CHECK(converted<uint16_t>(doubles, DType::float64, format.dtype) == expected64);
    int wrong = 0;
    for (std::size_t i = 0; i < floats.size(); ++i) {
      wrong += (half ? float_to_half(floats[i]) : float_to_bfloat(floats[i])) != expected[i];
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("fast and plain conversion to half agree on patterns of every kind") {
  std::vector<float> floats;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4099) {
    floats.push_back(float_of(static_cast<uint32_t>(bits)));
  }
  const auto halves = converted<uint16_t>(floats, DType::float32, DType::float16);
  int wrong = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) {
    wrong += std::isnan(floats[i]) ? (halves[i] & 0x7FFF) <= 0x7C00
                                   : halves[i] != float_to_half(floats[i]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("any length and place converts the same") {
  std::vector<float> floats(70);
  for (std::size_t i = 0; i < floats.size(); ++i) floats[i] = 0.1f * static_cast<float>(i) - 3.3f;
  for (std::size_t start = 0; start < 5; ++start) {
    for (std::size_t n = 0; n < 40; ++n) {
      std::vector<uint16_t> halves(n + 2, 0x5555);
      convert(floats.data() + start, DType::float32, halves.data() + 1, DType::float16,
              static_cast<int64_t>(n));
      std::vector<float> back(n + 1, 5.0f);
      convert(halves.data() + 1, DType::float16, back.data(), DType::float32,
              static_cast<int64_t>(n));
      bool right = halves[0] == 0x5555 && halves[n + 1] == 0x5555 && back[n] == 5.0f;
      for (std::size_t i = 0; i < n; ++i) {
        right = right && halves[i + 1] == float_to_half(floats[start + i]) &&
                back[i] == half_to_float(halves[i + 1]);
      }
      CAPTURE(n);
      CHECK(right);
    }
  }
}

TEST_CASE("integers become 16-bit floats with one rounding") {
  // 2^8 + 1 is the middle of two bfloats; a bit far below decides, which a float or double would
  // lose.
  for (const int shift : {16, 40, 54}) {
    CAPTURE(shift);
    const int64_t middle = (int64_t{257}) << shift;
    const auto of = [](int64_t i) {
      return converted_one<uint16_t>(i, DType::int64, DType::bfloat16);
    };
    const auto low = float_to_bfloat(static_cast<float>(int64_t{256} << shift));
    CHECK(of(middle) == low);
    CHECK(of(middle - 1) == low);
    CHECK(of(middle + 1) == low + 1);
    CHECK(of(-middle - 1) == (0x8000 | (low + 1)));
  }
  CHECK(converted_one<uint16_t>(int32_t{(257 << 20) + 1}, DType::int32, DType::bfloat16) ==
        float_to_bfloat(static_cast<float>(258 << 20)));
  CHECK(converted_one<uint16_t>(int32_t{2049}, DType::int32, DType::float16) ==
        float_to_half(2048.0f));
  CHECK(converted_one<uint16_t>(int64_t{65519}, DType::int64, DType::float16) == 0x7BFF);
  CHECK(converted_one<uint16_t>(int64_t{65520}, DType::int64, DType::float16) == 0x7C00);
  CHECK(converted_one<uint16_t>(std::numeric_limits<int64_t>::min(), DType::int64,
                                DType::bfloat16) == float_to_bfloat(-9223372036854775808.0f));
  CHECK(converted_one<uint16_t>(1e300, DType::float64, DType::bfloat16) == 0x7F80);
  CHECK(converted_one<uint16_t>(-1e300, DType::float64, DType::float16) == 0xFC00);
  CHECK(converted_one<uint16_t>(1e-300, DType::float64, DType::float16) == 0);
}

TEST_CASE("floats become integers to nearest even, saturated, NaN as zero") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::vector<double> from{0.5,  1.5,  2.5,  -0.5,  -1.5, 254.5, 255.5,
                                 -3.0, 1e10, 1e30, -1e30, nan,  inf,   -inf};
  constexpr int32_t max32 = std::numeric_limits<int32_t>::max(), min32 = -max32 - 1;
  constexpr int64_t max64 = std::numeric_limits<int64_t>::max(), min64 = -max64 - 1;
  CHECK(converted<uint8_t>(from, DType::float64, DType::uint8) ==
        std::vector<uint8_t>{0, 2, 2, 0, 0, 254, 255, 0, 255, 255, 0, 0, 255, 0});
  CHECK(converted<int32_t>(from, DType::float64, DType::int32) ==
        std::vector<int32_t>{0, 2, 2, 0, -2, 254, 256, -3, max32, max32, min32, 0, max32, min32});
  CHECK(converted<int64_t>(from, DType::float64, DType::int64) ==
        std::vector<int64_t>{0, 2, 2, 0, -2, 254, 256, -3, 10000000000, max64, min64, 0, max64,
                             min64});
  CHECK(converted_one<int64_t>(9223372036854775807.0f, DType::float32, DType::int64) == max64);
  CHECK(converted_one<int64_t>(uint16_t{0x7C00}, DType::float16, DType::int64) == max64);
  CHECK(converted_one<int32_t>(uint16_t{0xC100}, DType::float16, DType::int32) == -2);
}

TEST_CASE("integers become narrower integers saturated, wider ones unchanged") {
  const std::vector<int64_t> from{0, 255, 256, -1, int64_t{1} << 40, -(int64_t{1} << 40)};
  CHECK(converted<uint8_t>(from, DType::int64, DType::uint8) ==
        std::vector<uint8_t>{0, 255, 255, 0, 255, 0});
  CHECK(converted<int32_t>(from, DType::int64, DType::int32) ==
        std::vector<int32_t>{0, 255, 256, -1, 2147483647, -2147483647 - 1});
  CHECK(converted<int64_t>(std::vector<uint8_t>{0, 200, 255}, DType::uint8, DType::int64) ==
        std::vector<int64_t>{0, 200, 255});
  CHECK(converted<int64_t>(std::vector<int32_t>{-7}, DType::int32, DType::int64) ==
        std::vector<int64_t>{-7});
}

TEST_CASE("every pair of types carries small integers") {
  const DType all[] = {DType::float32, DType::float16, DType::bfloat16, DType::float64,
                       DType::int32,   DType::int64,   DType::uint8};
  for (const DType a : all) {
    for (const DType b : all) {
      CAPTURE(name_of(a));
      CAPTURE(name_of(b));
      Tensor source({17}, DType::int64);
      for (int64_t i = 0; i < 17; ++i) source.as<int64_t>()[i] = 15 * i;
      const Tensor result = source.to(a).to(b).to(DType::int64);
      CHECK(std::memcmp(result.data(), source.data(), source.bytes()) == 0);
      CHECK(source.to(a).to(b).dtype() == b);
    }
  }
  const Tensor same({3}, DType::float16);
  CHECK(same.to(DType::float16).data() == same.data());
}

TEST_CASE("a double reaches 16 bits by one rounding") {
  // Just above and just below a tie: a float in between would be the tie itself, and go to even.
  const double above = 1 + 0x1p-11 + 0x1p-40, below = 1 + 0x1p-10 + 0x1p-11 - 0x1p-40;
  CHECK(float_to_half(static_cast<float>(above)) == 0x3C00);  // twice: wrong
  CHECK(double_to_half(above) == 0x3C01);
  CHECK(float_to_half(static_cast<float>(below)) == 0x3C02);
  CHECK(double_to_half(below) == 0x3C01);
  CHECK(double_to_half(-above) == 0xBC01);
  CHECK(double_to_half(0x1p-25) == 0);  // the tie below the smallest number
  CHECK(double_to_half(0x1p-25 + 0x1p-70) == 1);
  CHECK(double_to_half(65520 - 1e-9) == 0x7BFF);
  CHECK(double_to_half(65520) == 0x7C00);
  CHECK(double_to_half(1e300) == 0x7C00);
  const double wide = 1 + 0x1p-8 + 0x1p-40;
  CHECK(float_to_bfloat(static_cast<float>(wide)) == 0x3F80);
  CHECK(double_to_bfloat(wide) == 0x3F81);
  CHECK(double_to_bfloat(-wide) == 0xBF81);
  CHECK(std::isnan(half_to_float(double_to_half(NAN))));
  CHECK(std::isnan(bfloat_to_float(double_to_bfloat(NAN))));
}
