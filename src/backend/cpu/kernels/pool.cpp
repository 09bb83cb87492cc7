// Pooling over (N, H, W, C), vectorised over channels: as many as there are together, and then
// fewer; of few channels some windows together. winner: index of the pixel in its plane.
#include <type_traits>

#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

template <int n>
using Int = std::integral_constant<int, n>;

// __builtin_convertvector takes no type of a template.
template <int kWidth>
struct Sixteen {
  typedef uint16_t Halves __attribute__((vector_size(2 * kWidth)));
  typedef uint32_t Bits __attribute__((vector_size(4 * kWidth)));
};
#define MPSNN_CONVERSIONS(width)                                   \
  inline Sixteen<width>::Bits widened(Sixteen<width>::Halves v) {  \
    return __builtin_convertvector(v, Sixteen<width>::Bits);       \
  }                                                                \
  inline Sixteen<width>::Halves narrowed(Sixteen<width>::Bits v) { \
    return __builtin_convertvector(v, Sixteen<width>::Halves);     \
  }
MPSNN_CONVERSIONS(4)
#if defined(__AVX2__)
MPSNN_CONVERSIONS(8)
#endif
#if defined(__AVX512F__)
MPSNN_CONVERSIONS(16)
#endif
#undef MPSNN_CONVERSIONS

// So many channels.
template <int kWidth>
struct Channels {
  typedef float Floats __attribute__((vector_size(4 * kWidth)));
  typedef int32_t Ints __attribute__((vector_size(4 * kWidth)));
  using Bits = typename Sixteen<kWidth>::Bits;
  using Halves = typename Sixteen<kWidth>::Halves;

  static Floats load(const float* p) { return read<Floats>(p); }
  static Ints load(const int32_t* p) { return read<Ints>(p); }
  static Floats load(const uint16_t* p) { return Floats(widened(read<Halves>(p)) << 16); }
  static void store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof(v)); }
  static void store(int32_t* p, Ints v) { __builtin_memcpy(p, &v, sizeof(v)); }
  static void store(uint16_t* p, Floats v) {
    const Bits bits = Bits(v), high = bits >> 16, rounded = (bits + 0x7FFFu + (high & 1u)) >> 16;
    const Bits all = (bits & 0x7FFFFFFFu) > 0x7F800000u ? high | 0x40u : rounded;
    const Halves halves = narrowed(all);
    __builtin_memcpy(p, &halves, sizeof(halves));
  }

 private:
  template <class V>
  static V read(const void* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
  }
};

template <>
struct Channels<1> {
  typedef float Floats;
  typedef int32_t Ints;

  template <class T>
  static Floats load(const T* p) {
    return single(*p);
  }
  static Ints load(const int32_t* p) { return *p; }
  template <class T>
  static void store(T* p, Floats v) {
    put(p, v);
  }
  static void store(int32_t* p, Ints v) { *p = v; }
};

constexpr int kVecs = 4, kWindows = 4;  // of many channels, or of few

// f(first channel, how many in a vector, vectors) for all of c channels.
template <bool kMany, class F>
inline void each_channel(int64_t c, F f) {
  int64_t k = 0;
  if constexpr (kMany)
    for (; k + kVecs * kLanes <= c; k += kVecs * kLanes) f(k, Int<kLanes>(), Int<kVecs>());
  for (; k + kLanes <= c; k += kLanes) f(k, Int<kLanes>(), Int<1>());
  if constexpr (kLanes > 8)
    for (; k + 8 <= c; k += 8) f(k, Int<8>(), Int<1>());
  if constexpr (kLanes > 4)
    for (; k + 4 <= c; k += 4) f(k, Int<4>(), Int<1>());
  for (; k < c; ++k) f(k, Int<1>(), Int<1>());
}
inline bool are_few(int64_t c) { return c < kVecs * kLanes; }

// f(pixel index in the plane) for the pixels of window (i, j) that are in the image.
template <class F>
inline void pixels(const PoolShape& p, int64_t i, int64_t j, F f) {
  for (int64_t ky = 0; ky < p.kh; ++ky) {
    const int64_t r = i * p.sh - p.top + ky * p.dh;
    if (r < 0 || r >= p.h) continue;
    for (int64_t kx = 0; kx < p.kw; ++kx) {
      const int64_t q = j * p.sw - p.left + kx * p.dw;
      if (q < 0 || q >= p.w) continue;
      f(r * p.w + q);
    }
  }
}

// Brings near what a window a few outputs on reads for the first time: a processor does not foresee
// reads that go from row to row. GCC drops a call of what only prefetches.
template <class T>
__attribute__((always_inline)) inline void fetch_ahead(const PoolShape& p, const T* x, int64_t i,
                                                       int64_t j) {
  constexpr int64_t kAhead = 4, kLine = 64 / sizeof(T);
  constexpr int64_t kImage = (128 << 10) / sizeof(T);  // smaller ones are near
  if (p.h * p.w * p.c < kImage) return;
  const int64_t column = j * p.sw - p.left + (p.kw - 1) * p.dw + kAhead;
  if (column < 0 || column + p.sw > p.w) return;
  for (int64_t ky = p.kh > p.sh ? p.kh - p.sh : 0; ky < p.kh; ++ky) {
    const int64_t row = i * p.sh - p.top + ky * p.dh;
    if (row < 0 || row >= p.h) continue;
    const T* from = x + (row * p.w + column) * p.c;
    for (int64_t k = 0; k < p.sw * p.c; k += kLine) __builtin_prefetch(from + k);
  }
}

// Of an axis: some of a window's taps, or some of a pixel's windows.
struct Range {
  int64_t first, end, step;
  bool empty() const { return first >= end; }
};

// The taps from `start` on that are in 0..size.
inline Range taps_inside(int64_t start, int64_t taps, int64_t dilation, int64_t size) {
  if (dilation == 1) return {start < 0 ? -start : 0, size - start < taps ? size - start : taps, 1};
  const int64_t before = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int64_t last = start < size ? (size - 1 - start) / dilation : -1;
  return {before, last < taps - 1 ? last + 1 : taps, 1};
}

// Of a window's rows or columns: how many count.
inline int64_t counted(int64_t window, int64_t stride, int64_t before, int64_t behind, int64_t taps,
                       int64_t dilation, int64_t size, bool include) {
  const int64_t start = window * stride - before;
  if (include)  // the last windows may reach beyond the padding
    return size + behind - start < taps ? size + behind - start : taps;
  const Range inside = taps_inside(start, taps, dilation, size);
  return inside.empty() ? 0 : inside.end - inside.first;
}
inline int64_t rows_counted(const PoolShape& p, int64_t i, bool include) {
  return counted(i, p.sh, p.top, p.bottom, p.kh, p.dh, p.h, include);
}
inline int64_t columns_counted(const PoolShape& p, int64_t j, bool include) {
  return counted(j, p.sw, p.left, p.right, p.kw, p.dw, p.w, include);
}
inline float share(int64_t counted) {
  return counted > 0 ? 1.0f / static_cast<float>(counted) : 0.0f;
}

// The taps of a window that are in the image: the first one's pixel, and the distances.
struct Taps {
  int64_t pixel, rows, columns, row, column;
};

// f(column j, windows together, taps of the first) for the windows of row i.
template <class F>
void each_window(const PoolShape& p, int64_t i, F f) {
  const int64_t top = i * p.sh - p.top;
  const Range ky = taps_inside(top, p.kh, p.dh, p.h);
  const int64_t rows = ky.empty() ? 0 : ky.end - ky.first, row = (top + ky.first * p.dh) * p.w;
  const bool few = are_few(p.c);
  for (int64_t j = 0; j < p.ow;) {
    const int64_t left = j * p.sw - p.left;
    const auto all_inside = [&](int64_t windows) {
      return left >= 0 && left + (windows - 1) * p.sw + (p.kw - 1) * p.dw < p.w &&
             j + windows <= p.ow;
    };
    if (few && all_inside(kWindows)) {
      f(j, Int<kWindows>(), Taps{row + left, rows, p.kw, p.dh * p.w, p.dw});
      j += kWindows;
      continue;
    }
    const Range kx = taps_inside(left, p.kw, p.dw, p.w);
    f(j, Int<1>(),
      Taps{row + left + kx.first * p.dw, rows, kx.empty() ? 0 : kx.end - kx.first, p.dh * p.w,
           p.dw});
    ++j;
  }
}

inline void set_lowest(float& v) { v = -__builtin_inff(); }
inline void set_lowest(uint16_t& bfloat) { bfloat = 0xFF80; }

// The largest of some windows' channels from k on, or if kSigned the largest times the channel's
// sign, and where it is. T: float, or the bits of a bfloat16, which are copied, so nothing is
// rounded.
template <int kWidth, int kMany, int kTogether, bool kKeep, bool kSigned, class T>
inline void largest(const PoolShape& p, const T* x, const Taps& t, const float* signs, int64_t k,
                    T* to, int32_t* won) {
  using C = Channels<kWidth>;
  typename C::Floats best[kTogether][kMany], sign[kMany];
  typename C::Ints place[kTogether][kMany];
  for (int v = 0; v < kMany; ++v)
    if (kSigned) sign[v] = C::load(signs + k + v * kWidth);
  for (int n = 0; n < kTogether; ++n)
    for (int v = 0; v < kMany; ++v) {
      best[n][v] = C::load(x + (t.pixel + n * p.sw) * p.c + k + v * kWidth);
      place[n][v] = typename C::Ints{} + static_cast<int32_t>(t.pixel + n * p.sw);
    }
  const int64_t step = p.sw * p.c;
  for (int64_t ky = 0; ky < t.rows; ++ky) {
    const int64_t first = ky == 0 ? 1 : 0;
    int64_t pixel = t.pixel + ky * t.row + first * t.column;
    const T* from = x + pixel * p.c + k;
    for (int64_t kx = first; kx < t.columns; ++kx, pixel += t.column, from += t.column * p.c)
      for (int n = 0; n < kTogether; ++n)
        for (int v = 0; v < kMany; ++v) {
          const auto value = C::load(from + n * step + v * kWidth);
          typename C::Floats &now = best[n][v], one = value, other = now;
          if (kSigned) one = value * sign[v], other = now * sign[v];
          const auto wins = (!(one <= other)) & (other == other);  // NaN wins, the first one stays
          now = wins ? value : now;
          const auto at = typename C::Ints{} + static_cast<int32_t>(pixel + n * p.sw);
          if (kKeep) place[n][v] = wins ? at : place[n][v];
        }
  }
  for (int n = 0; n < kTogether; ++n)
    for (int v = 0; v < kMany; ++v) {
      C::store(to + n * p.c + k + v * kWidth, best[n][v]);
      if (kKeep) C::store(won + n * p.c + k + v * kWidth, place[n][v]);
    }
}

template <bool kKeep, bool kSigned, class T>
void max_row(const PoolShape& p, const T* x, int64_t i, const float* signs, T* y, int32_t* winner) {
  each_window(p, i, [&](int64_t j, auto together, const Taps& taps) {
    constexpr int kTogether = decltype(together)::value;
    T* to = y + j * p.c;
    int32_t* won = kKeep ? winner + j * p.c : nullptr;
    if (taps.rows == 0 || taps.columns == 0) {
      for (int64_t k = 0; k < p.c; ++k) {
        set_lowest(to[k]);
        if (kKeep) won[k] = -1;
      }
      return;
    }
    for (int n = 0; n < kTogether; ++n) fetch_ahead(p, x, i, j + n);
    each_channel<kTogether == 1>(p.c, [&](int64_t k, auto width, auto many) {
      largest<decltype(width)::value, decltype(many)::value, kTogether, kKeep, kSigned>(
          p, x, taps, signs, k, to, won);
    });
  });
}

// The windows that a pixel of an axis is in.
Range windows_of(int64_t at, int64_t taps, int64_t dilation, int64_t stride, int64_t windows) {
  const int64_t reach = (taps - 1) * dilation;
  Range r{at <= reach ? 0 : (at - reach + stride - 1) / stride, at / stride + 1, 1};
  if (r.end > windows) r.end = windows;
  if (dilation == 1) return r;
  const auto reads = [&](int64_t window) { return (at - window * stride) % dilation == 0; };
  while (!r.empty() && !reads(r.first)) ++r.first;
  while (r.step < dilation && r.step * stride % dilation != 0) ++r.step;
  return r;
}

// to = the sums over the windows of pixels a stride apart, of value(window of the first, pixel,
// channel, width), and of the addends.
template <int kWidth, int kMany, int kTogether, class T, class V>
inline void add_windows(const PoolShape& p, const Range& rows, const Range& columns, const V& value,
                        const T* const* addends, int64_t count, int64_t at, int64_t k, T* to) {
  using C = Channels<kWidth>;
  const int64_t step = p.sw * p.c;
  typename C::Floats sum[kTogether][kMany] = {};
  for (int64_t a = 0; a < count; ++a)
    for (int n = 0; n < kTogether; ++n)
      for (int v = 0; v < kMany; ++v)
        sum[n][v] += C::load(addends[a] + at + n * step + k + v * kWidth);
  for (int64_t i = rows.first; i < rows.end; i += rows.step)
    for (int64_t j = columns.first; j < columns.end; j += columns.step) {
      const auto of = value(i, j);
      for (int n = 0; n < kTogether; ++n)
        for (int v = 0; v < kMany; ++v)
          sum[n][v] += of(((i * p.ow + j) + n) * p.c + k + v * kWidth, n, C());
    }
  for (int n = 0; n < kTogether; ++n)
    for (int v = 0; v < kMany; ++v) C::store(to + n * step + k + v * kWidth, sum[n][v]);
}

// Row r of a gradient by the image. value(all windows' columns count in full) makes the value of
// add_windows, given the first pixel q; `full`: the windows of which that is so.
template <class T, class V>
void gather_row(const PoolShape& p, int64_t r, const Range& full, const V& value,
                const T* const* addends, int64_t count, int64_t at, T* gx) {
  const Range rows = windows_of(r + p.top, p.kh, p.dh, p.sh, p.oh);
  const auto some = [&](auto together, int64_t q, const Range& columns, const auto& of) {
    constexpr int kTogether = decltype(together)::value;
    each_channel<kTogether == 1>(p.c, [&](int64_t k, auto width, auto many) {
      add_windows<decltype(width)::value, decltype(many)::value, kTogether>(
          p, rows, columns, of, addends, count, at + q * p.c, k, gx + q * p.c);
    });
  };
  const auto in_full = [&](const Range& columns, int64_t strides) {
    return columns.first >= full.first && columns.end + strides <= full.end;
  };
  const bool few = are_few(p.c);
  const int64_t reach = (p.kw - 1) * p.dw;
  const auto windows = [&](int64_t q) { return windows_of(q + p.left, p.kw, p.dw, p.sw, p.ow); };
  for (int64_t q = 0; q < p.w;) {
    const Range columns = windows(q);
    if (few && q + p.left >= reach && q + kWindows * p.sw <= p.w && in_full(columns, kWindows)) {
      for (int64_t last = q + p.sw; q < last; ++q)
        some(Int<kWindows>(), q, windows(q), value(q, std::true_type()));
      q += (kWindows - 1) * p.sw;
      continue;
    }
    if (in_full(columns, 0))
      some(Int<1>(), q, columns, value(q, std::true_type()));
    else
      some(Int<1>(), q, columns, value(q, std::false_type()));
    ++q;
  }
}

// Of windows that tile the image: each pixel is in one. value(window's place, pixel, width).
template <class T, class V>
void tile_row(const PoolShape& p, int64_t r, const V& value, T* gx) {
  const int64_t first = r / p.sh * p.ow * p.c;
  for (int64_t j = 0; j < p.ow; ++j)
    each_channel<false>(p.c, [&](int64_t k, auto width, auto) {
      using C = Channels<decltype(width)::value>;
      const auto of = value(first + j * p.c + k, C());
      for (int64_t n = 0; n < p.kw; ++n) C::store(gx + (j * p.kw + n) * p.c + k, of(j * p.kw + n));
    });
}

}  // namespace

template <class T>
void max_pool(const PoolShape& p, const T* x, int64_t i, const float* signs, T* y,
              int32_t* winner) {
  if (signs != nullptr)
    winner != nullptr ? max_row<true, true>(p, x, i, signs, y, winner)
                      : max_row<false, true>(p, x, i, signs, y, winner);
  else
    winner != nullptr ? max_row<true, false>(p, x, i, signs, y, winner)
                      : max_row<false, false>(p, x, i, signs, y, winner);
}
template void max_pool(const PoolShape&, const float*, int64_t, const float*, float*, int32_t*);
template void max_pool(const PoolShape&, const uint16_t*, int64_t, const float*, uint16_t*,
                       int32_t*);

template <class T>
void max_pool_gradient(const PoolShape& p, const T* gy, const int32_t* winner, int64_t r, T* gx) {
  const auto row = static_cast<int32_t>(r * p.w);
  if (p.tiles)
    return tile_row(
        p, r,
        [=](int64_t at, auto channels) {
          using C = decltype(channels);
          return [=, g = C::load(gy + at), won = C::load(winner + at)](int64_t q) {
            return won == row + static_cast<int32_t>(q) ? g : typename C::Floats{};
          };
        },
        gx);
  const auto value = [=, step = static_cast<int32_t>(p.sw)](int64_t q, auto) {
    return [=](int64_t, int64_t) {
      return [=, pixel = row + static_cast<int32_t>(q)](int64_t at, int n, auto channels) {
        using C = decltype(channels);
        const auto own = pixel + n * step;
        return C::load(winner + at) == own ? C::load(gy + at) : typename C::Floats{};
      };
    };
  };
  gather_row<T>(p, r, {0, p.ow, 1}, value, nullptr, 0, 0, gx);
}
template void max_pool_gradient(const PoolShape&, const float*, const int32_t*, int64_t, float*);
template void max_pool_gradient(const PoolShape&, const uint16_t*, const int32_t*, int64_t,
                                uint16_t*);

template <class T>
void avg_pool(const PoolShape& p, const T* x, int64_t i, bool include, T* y) {
  const int64_t rows = rows_counted(p, i, include);
  each_window(p, i, [&](int64_t j, auto together, const Taps& t) {
    constexpr int kTogether = decltype(together)::value;
    for (int n = 0; n < kTogether; ++n) fetch_ahead(p, x, i, j + n);
    const float by = share(rows * columns_counted(p, j, include));
    each_channel<kTogether == 1>(p.c, [&](int64_t k, auto width, auto many) {
      constexpr int kWidth = decltype(width)::value, kMany = decltype(many)::value;
      using C = Channels<kWidth>;
      typename C::Floats sum[kTogether][kMany] = {};
      for (int64_t ky = 0; ky < t.rows; ++ky)
        for (int64_t kx = 0; kx < t.columns; ++kx) {
          const T* from = x + (t.pixel + ky * t.row + kx * t.column) * p.c + k;
          for (int n = 0; n < kTogether; ++n)
            for (int v = 0; v < kMany; ++v)
              sum[n][v] += C::load(from + n * p.sw * p.c + v * kWidth);
        }
      for (int n = 0; n < kTogether; ++n)
        for (int v = 0; v < kMany; ++v)
          C::store(y + (j + n) * p.c + k + v * kWidth, sum[n][v] * by);
    });
  });
}
template void avg_pool(const PoolShape&, const float*, int64_t, bool, float*);
template void avg_pool(const PoolShape&, const uint16_t*, int64_t, bool, uint16_t*);

template <class T>
void avg_pool_gradient(const PoolShape& p, const T* gy, int64_t r, bool include,
                       const T* const* addends, int64_t count, int64_t at, T* gx) {
  if (p.tiles && count == 0)
    return tile_row(
        p, r,
        [&](int64_t from, auto channels) {
          using C = decltype(channels);
          return [g = C::load(gy + from) * share(p.kh * p.kw)](int64_t) { return g; };
        },
        gx);
  // Those of windows whose columns count in full, once a row.
  constexpr int64_t kMost = 32;
  float shares[kMost];
  const Range rows = windows_of(r + p.top, p.kh, p.dh, p.sh, p.oh);
  const bool known = rows.end - rows.first <= kMost;
  for (int64_t i = rows.first; known && i < rows.end; i += rows.step)
    shares[i - rows.first] = share(rows_counted(p, i, include) * p.kw);
  const auto value = [&](int64_t, auto in_full) {
    return [&](int64_t i, int64_t j) {
      const float by = decltype(in_full)::value
                           ? shares[i - rows.first]
                           : share(rows_counted(p, i, include) * columns_counted(p, j, include));
      return [=](int64_t from, int, auto channels) {
        return decltype(channels)::load(gy + from) * by;
      };
    };
  };
  const auto windows_to = [&](int64_t start) { return start < 0 ? 0 : start / p.sw + 1; };
  Range full{0, windows_to(p.w + p.left + p.right - p.kw), 1};
  if (!include)
    full = {(p.left + p.sw - 1) / p.sw, windows_to(p.w - 1 - (p.kw - 1) * p.dw + p.left), 1};
  if (full.end > p.ow) full.end = p.ow;
  if (!known) full.end = full.first;
  gather_row<T>(p, r, full, value, addends, count, at, gx);
}
template void avg_pool_gradient(const PoolShape&, const float*, int64_t, bool, const float* const*,
                                int64_t, int64_t, float*);
template void avg_pool_gradient(const PoolShape&, const uint16_t*, int64_t, bool,
                                const uint16_t* const*, int64_t, int64_t, uint16_t*);

void l2_pool(const PoolShape& p, const float* x, int64_t i, float* y) {
  for (int64_t j = 0; j < p.ow; ++j) {
    float* to = y + j * p.c;
    for (int64_t k = 0; k < p.c; ++k) to[k] = 0.0f;
    fetch_ahead(p, x, i, j);
    pixels(p, i, j, [&](int64_t pixel) {
      const float* from = x + pixel * p.c;
#pragma GCC ivdep
      for (int64_t k = 0; k < p.c; ++k) to[k] += from[k] * from[k];
    });
    for (int64_t k = 0; k < p.c; ++k) to[k] = __builtin_sqrtf(to[k]);
  }
}

void l2_pool_gradient(const PoolShape& p, const float* gy, const float* x, const float* y,
                      float* gx) {
  std::memset(gx, 0, static_cast<std::size_t>(p.h * p.w * p.c) * sizeof(float));
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      const float *g = gy + (i * p.ow + j) * p.c, *norm = y + (i * p.ow + j) * p.c;
      pixels(p, i, j, [&](int64_t pixel) {
        const float* from = x + pixel * p.c;
        float* to = gx + pixel * p.c;
#pragma GCC ivdep
        for (int64_t k = 0; k < p.c; ++k)
          to[k] += norm[k] != 0.0f ? g[k] * (from[k] / norm[k]) : 0.0f;
      });
    }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
