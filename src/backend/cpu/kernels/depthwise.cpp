// Convolutions of each channel by itself: rows of outputs, some pixels at a time, so that taps are
// read once for all of them; and the gradient by the taps, some taps at a time over a row of
// outputs. Where channels end within a vector, their last overlaps the one before.
#include <type_traits>

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

template <int kPixels, class T>
void pixels(const DepthwiseShape& s, const T* x, const float* taps, const float* bias, Range ky,
            Range kx, T* y) {
  const int64_t row = s.dh * s.w * s.c, column = s.dw * s.c;
  for (int64_t next = 0; next < s.c; next += kLanes) {
    const int64_t k = next + kLanes <= s.c ? next : s.c - kLanes;
    Vec sum[kPixels];
    for (int p = 0; p < kPixels; ++p) sum[p] = bias != nullptr ? load(bias + k) : Vec{};
    for (int64_t i = ky.first; i < ky.last; ++i)
      for (int64_t j = kx.first; j < kx.last; ++j) {
        const Vec tap = load(taps + (i * s.kw + j) * s.c + k);
        const T* from = x + i * row + j * column + k;
        for (int p = 0; p < kPixels; ++p) sum[p] += load(from + p * s.c) * tap;
      }
    for (int p = 0; p < kPixels; ++p) store(y + p * s.c + k, sum[p]);
  }
}

constexpr int64_t kPadding = 16;  // on every processor
int64_t padded_channels(const DepthwiseShape& s) {
  return (s.c + kPadding - 1) / kPadding * kPadding;
}

// The outputs of which a tap reads inside of 0..size.
Range outputs_inside(int64_t first, int64_t stride, int64_t outputs, int64_t size) {
  Range r{0, outputs};
  if (first < 0) r.first = (stride - 1 - first) / stride;
  r.last = size <= first ? 0 : (size - 1 - first) / stride + 1;
  if (r.last > outputs) r.last = outputs;
  return r;
}

// sums += over the pixels of a row of outputs, of some taps, the first of which reads x at pixel 0.
// Their sums are padded: those of a last vector that overlaps the one before lie behind its own.
// kStep: the stride, where neighbouring taps read neighbouring pixels and several outputs share
// what they read; or 0. `ahead`: the sources that the next row of outputs reads first; if given,
// they and that row are brought near meanwhile.
template <int kRows, int kColumns, int kStep, class T>
void add_taps(const DepthwiseShape& s, const T* x, const T* gy, Range pixels, const T* ahead,
              float* sums) {
  const int64_t row = s.dh * s.w * s.c, column = s.dw * s.c, padded = padded_channels(s);
  const auto bring = [](const T* from, int64_t n) {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(from + i);
  };
  for (int64_t block = 0; pixels.first < pixels.last && block < s.c; block += kPadding) {
    if (ahead != nullptr) {
      bring(ahead + block * s.sh * s.w, kPadding * s.sh * s.w);
      bring(gy + s.ow * s.c + block * s.ow, kPadding * s.ow);
    }
    for (int64_t lane = 0; lane < kPadding; lane += kLanes) {
      const int64_t k = (block + kPadding <= s.c ? block : s.c - kPadding) + lane;
      float* own = sums + block + lane;
      Vec sum[kRows][kColumns];
      for (int i = 0; i < kRows; ++i)
        for (int j = 0; j < kColumns; ++j) sum[i][j] = load(own + (i * s.kw + j) * padded);
      int64_t p = pixels.first;
      if constexpr (kStep != 0) {
        constexpr int kOutputs = 4, kSources = (kOutputs - 1) * kStep + kColumns;
        for (; p + kOutputs <= pixels.last; p += kOutputs) {
          Vec g[kOutputs];
          for (int q = 0; q < kOutputs; ++q) g[q] = load(gy + (p + q) * s.c + k);
          for (int i = 0; i < kRows; ++i) {
            const T* from = x + p * kStep * s.c + i * row + k;
            Vec v[kSources];
            for (int u = 0; u < kSources; ++u) v[u] = load(from + u * s.c);
            for (int q = 0; q < kOutputs; ++q)
              for (int j = 0; j < kColumns; ++j) sum[i][j] += v[q * kStep + j] * g[q];
          }
        }
      }
      for (; p < pixels.last; ++p) {
        const Vec g = load(gy + p * s.c + k);
        const T* from = x + p * s.sw * s.c + k;
        for (int i = 0; i < kRows; ++i)
          for (int j = 0; j < kColumns; ++j) sum[i][j] += load(from + i * row + j * column) * g;
      }
      for (int i = 0; i < kRows; ++i)
        for (int j = 0; j < kColumns; ++j) store(own + (i * s.kw + j) * padded, sum[i][j]);
    }
  }
}

// The same of all taps of some rows: of some columns together where all of them read inside.
template <int kRows, int kColumns, class T>
void add_columns(const DepthwiseShape& s, const T* x, const T* gy, int64_t first, const T* ahead,
                 float* sums) {
  const auto inside = [&](int64_t j) { return outputs_inside(j * s.dw - s.left, s.sw, s.ow, s.w); };
  const auto from = [&](int64_t j) { return x + (j * s.dw - s.left) * s.c; };
  constexpr const T* none = nullptr;
  Range all{inside(first).first, inside(first + kColumns - 1).last};
  if (all.last < all.first) all.last = all.first;
  if (s.sw == 1 && s.dw == 1)
    add_taps<kRows, kColumns, 1>(s, from(first), gy, all, ahead, sums + first * padded_channels(s));
  else if (s.sw == 2 && s.dw == 1)
    add_taps<kRows, kColumns, 2>(s, from(first), gy, all, ahead, sums + first * padded_channels(s));
  else
    add_taps<kRows, kColumns, 0>(s, from(first), gy, all, ahead, sums + first * padded_channels(s));
  for (int64_t j = first; j < first + kColumns; ++j) {
    const Range own = inside(j);
    const Range before{own.first, own.last < all.first ? own.last : all.first},
        behind{own.first > all.last ? own.first : all.last, own.last};
    add_taps<kRows, 1, 0>(s, from(j), gy, before, none, sums + j * padded_channels(s));
    add_taps<kRows, 1, 0>(s, from(j), gy, behind, none, sums + j * padded_channels(s));
  }
}

// f(0, n1), f(n1, n2) and so on, 0 + n1 + n2 + ... = n: about equal and at most kMost each.
template <int kMost, class F>
void in_parts(int64_t n, F f) {
  const int64_t parts = (n + kMost - 1) / kMost;
  for (int64_t i = 0, first = 0; i < parts; ++i) {
    const int64_t size = (n - first + parts - i - 1) / (parts - i);
    if (size == 1) f(first, std::integral_constant<int, 1>());
    if (size == 2) f(first, std::integral_constant<int, 2>());
    if (size == 3) f(first, std::integral_constant<int, 3>());
    if constexpr (kMost > 3) {
      if (size == 4) f(first, std::integral_constant<int, 4>());
      if (size == 5) f(first, std::integral_constant<int, 5>());
    }
    first += size;
  }
}

}  // namespace

template <class T>
void depthwise_weights(const DepthwiseShape& s, const T* x, const T* gy, int64_t oy, float* sums) {
  const int64_t iy = oy * s.sh - s.top, below = iy + (s.kh - 1) * s.dh + 1;
  const Range ky = taps_inside(iy, s.dh, s.kh, s.h);
  const T* ahead =
      oy + 1 < s.oh && below >= 0 && below + s.sh <= s.h ? x + below * s.w * s.c : nullptr;
  in_parts<3>(ky.last - ky.first, [&](int64_t row, auto rows) {
    const int64_t i = ky.first + row;
    in_parts<5>(s.kw, [&](int64_t j, auto columns) {
      add_columns<decltype(rows)::value, decltype(columns)::value>(
          s, x + (iy + i * s.dh) * s.w * s.c, gy, j, row + j == 0 ? ahead : nullptr,
          sums + i * s.kw * padded_channels(s));
    });
  });
}
template void depthwise_weights(const DepthwiseShape&, const float*, const float*, int64_t, float*);
template void depthwise_weights(const DepthwiseShape&, const uint16_t*, const uint16_t*, int64_t,
                                float*);

template <class T>
void depthwise(const DepthwiseShape& s, const T* x, const float* taps, const float* bias,
               int64_t oy, T* y) {
  constexpr int kMany = 8, kSome = 3;
  const int64_t iy = oy - s.top, below = iy + (s.kh - 1) * s.dh + 1;
  const Range ky = taps_inside(iy, s.dh, s.kh, s.h), all{0, s.kw};
  for (int64_t ox = 0; ox < s.ow;) {
    const int64_t ix = ox - s.left;
    const T* from = x + (iy * s.w + ix) * s.c;
    T* to = y + ox * s.c;
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
template void depthwise(const DepthwiseShape&, const float*, const float*, const float*, int64_t,
                        float*);
template void depthwise(const DepthwiseShape&, const uint16_t*, const float*, const float*, int64_t,
                        uint16_t*);

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
