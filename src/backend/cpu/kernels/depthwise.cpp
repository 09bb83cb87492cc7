// Convolutions of each channel by itself: rows of outputs, some pixels at a time, so that taps are
// read once for all of them. Channels are whole vectors.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

struct Range {
  int64_t first, last;
};

// The taps with which an output at `at` reads inside of 0..size.
Range taps_inside(int64_t at, int64_t step, int64_t taps, int64_t size) {
  Range r{0, taps};
  while (r.first < taps && at + r.first * step < 0) ++r.first;
  while (r.last > r.first && at + (r.last - 1) * step >= size) --r.last;
  return r;
}

template <int kPixels>
void pixels(const DepthwiseShape& s, const float* x, const float* taps, const float* bias, Range ky,
            Range kx, float* y) {
  const int64_t row = s.dh * s.w * s.c, column = s.dw * s.c;
  for (int64_t k = 0; k < s.c; k += kLanes) {
    Vec sum[kPixels];
    for (int p = 0; p < kPixels; ++p) sum[p] = bias != nullptr ? load(bias + k) : Vec{};
    for (int64_t i = ky.first; i < ky.last; ++i)
      for (int64_t j = kx.first; j < kx.last; ++j) {
        const Vec tap = load(taps + (i * s.kw + j) * s.c + k);
        const float* from = x + i * row + j * column + k;
        for (int p = 0; p < kPixels; ++p) sum[p] += load(from + p * s.c) * tap;
      }
    for (int p = 0; p < kPixels; ++p) store(y + p * s.c + k, sum[p]);
  }
}

}  // namespace

void depthwise(const DepthwiseShape& s, const float* x, const float* taps, const float* bias,
               int64_t oy, float* y) {
  constexpr int kMany = 8, kSome = 3;
  const int64_t iy = oy - s.top, below = iy + (s.kh - 1) * s.dh + 1;
  const Range ky = taps_inside(iy, s.dh, s.kh, s.h), all{0, s.kw};
  for (int64_t ox = 0; ox < s.ow;) {
    const int64_t ix = ox - s.left;
    const float* from = x + (iy * s.w + ix) * s.c;
    float* to = y + ox * s.c;
    const auto are_inside = [&](int64_t n) {  // all that n outputs from here on read
      return ox + n <= s.ow && ix >= 0 && ix + n - 1 + (s.kw - 1) * s.dw < s.w;
    };
    if (are_inside(kMany)) {
      if (below < s.h)  // what the next row reads first is brought near meanwhile
        for (int64_t i = 0; i < kMany * s.c; i += 16)
          __builtin_prefetch(x + (below * s.w + ix) * s.c + i);
      pixels<kMany>(s, from, taps, bias, ky, all, to);
      ox += kMany;
    } else if (are_inside(kSome)) {
      pixels<kSome>(s, from, taps, bias, ky, all, to);
      ox += kSome;
    } else {
      pixels<1>(s, from, taps, bias, ky, taps_inside(ix, s.dw, s.kw, s.w), to);
      ++ox;
    }
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
