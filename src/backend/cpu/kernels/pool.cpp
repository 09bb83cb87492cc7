// Pooling over (N, H, W, C), vectorised over channels. winner: index of the pixel in its plane.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// f(pixel index in the plane) for the pixels of window (i, j) that are in the image.
template <class F>
inline int64_t pixels(const PoolShape& p, int64_t i, int64_t j, F f) {
  int64_t inside = 0;
  for (int64_t ky = 0; ky < p.kh; ++ky) {
    const int64_t r = i * p.sh - p.top + ky * p.dh;
    if (r < 0 || r >= p.h) continue;
    for (int64_t kx = 0; kx < p.kw; ++kx) {
      const int64_t q = j * p.sw - p.left + kx * p.dw;
      if (q < 0 || q >= p.w) continue;
      f(r * p.w + q);
      ++inside;
    }
  }
  return inside;
}

// Brings near what a window a few outputs on reads for the first time: a processor does not foresee
// reads that go from row to row. GCC drops a call of what only prefetches.
template <class T>
__attribute__((always_inline)) inline void fetch_ahead(const PoolShape& p, const T* x, int64_t i,
                                                       int64_t j) {
  constexpr int64_t kAhead = 4, kLine = 64 / sizeof(T);
  const int64_t column = j * p.sw - p.left + (p.kw - 1) * p.dw + kAhead;
  if (column < 0 || column + p.sw > p.w) return;
  for (int64_t ky = p.kh > p.sh ? p.kh - p.sh : 0; ky < p.kh; ++ky) {
    const int64_t row = i * p.sh - p.top + ky * p.dh;
    if (row < 0 || row >= p.h) continue;
    const T* from = x + (row * p.w + column) * p.c;
    for (int64_t k = 0; k < p.sw * p.c; k += kLine) __builtin_prefetch(from + k);
  }
}

// How many of an axis's taps from `start` on are in 0..size.
inline int64_t taps_inside(int64_t start, int64_t taps, int64_t dilation, int64_t size) {
  const int64_t before = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int64_t last = start < size ? (size - 1 - start) / dilation : -1;
  return (last < taps - 1 ? last + 1 : taps) - before;
}

inline int64_t divisor(const PoolShape& p, int64_t i, int64_t j, bool include) {
  if (!include) {
    const int64_t rows = taps_inside(i * p.sh - p.top, p.kh, p.dh, p.h),
                  columns = taps_inside(j * p.sw - p.left, p.kw, p.dw, p.w);
    return rows > 0 && columns > 0 ? rows * columns : 0;
  }
  // The last windows may reach beyond the padding.
  const int64_t rows = p.h + p.top + p.bottom - i * p.sh,
                columns = p.w + p.left + p.right - j * p.sw;
  return (rows < p.kh ? rows : p.kh) * (columns < p.kw ? columns : p.kw);
}

inline void set_lowest(float& v) { v = -__builtin_inff(); }
inline void set_lowest(uint16_t& bfloat) { bfloat = 0xFF80; }

typedef int32_t Indices __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

constexpr int kMost = 256;  // pixels or windows at a time

// Some pixels of a window: where their channels are, and their places in the plane.
template <class T>
struct Pixels {
  const T* from[kMost];
  int32_t index[kMost];
  int many = 0;
};

// The largest of each channel from k on, or if kSigned the largest times the channel's sign, and
// where it is; among `more` pixels before. T: float, or the bits of a bfloat16, which are copied,
// so nothing is rounded.
template <int kVecs, bool kKeep, bool kSigned, class T>
int64_t largest_vectors(const Pixels<T>& pixels, const float* signs, int64_t k, int64_t c,
                        bool more, T* to, int32_t* won) {
  for (; k + kVecs * kLanes <= c; k += kVecs * kLanes) {
    Vec best[kVecs], sign[kVecs];
    Indices place[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const int64_t at = k + v * kLanes;
      sign[v] = kSigned ? load(signs + at) : Vec{};
      best[v] = load((more ? to : pixels.from[0]) + at);
      if (kKeep)
        place[v] = more ? *reinterpret_cast<const Indices*>(won + at) : Indices{} + pixels.index[0];
    }
    for (int n = more ? 0 : 1; n < pixels.many; ++n)
      for (int v = 0; v < kVecs; ++v) {
        const Vec value = load(pixels.from[n] + k + v * kLanes);
        const Vec one = kSigned ? value * sign[v] : value,
                  other = kSigned ? best[v] * sign[v] : best[v];
        const auto wins = ~(one <= other) & (other == other);  // NaN wins, the first one stays
        best[v] = wins ? value : best[v];
        if (kKeep) place[v] = wins ? Indices{} + pixels.index[n] : place[v];
      }
    for (int v = 0; v < kVecs; ++v) {
      const int64_t at = k + v * kLanes;
      store(to + at, best[v]);
      if (kKeep) *reinterpret_cast<Indices*>(won + at) = place[v];
    }
  }
  return k;
}
template <bool kKeep, bool kSigned, class T>
void largest(const Pixels<T>& pixels, const float* signs, int64_t c, bool more, T* to,
             int32_t* won) {
  int64_t k = largest_vectors<4, kKeep, kSigned>(pixels, signs, 0, c, more, to, won);
  k = largest_vectors<1, kKeep, kSigned>(pixels, signs, k, c, more, to, won);
  for (; k < c; ++k) {
    const float sign = kSigned ? signs[k] : 1.0f;
    int first = 0;
    if (!more) {
      to[k] = pixels.from[0][k];
      if (kKeep) won[k] = pixels.index[0];
      first = 1;
    }
    for (int n = first; n < pixels.many; ++n) {
      const float one = single(pixels.from[n][k]) * sign, other = single(to[k]) * sign;
      if (one <= other || other != other) continue;
      to[k] = pixels.from[n][k];
      if (kKeep) won[k] = pixels.index[n];
    }
  }
}

template <bool kKeep, bool kSigned, class T>
void max_row(const PoolShape& p, const T* x, int64_t i, const float* signs, T* y, int32_t* winner) {
  Pixels<T> found;
  for (int64_t j = 0; j < p.ow; ++j) {
    T* to = y + j * p.c;
    int32_t* won = kKeep ? winner + j * p.c : nullptr;
    found.many = 0;
    bool more = false;
    fetch_ahead(p, x, i, j);
    pixels(p, i, j, [&](int64_t pixel) {
      found.from[found.many] = x + pixel * p.c;
      found.index[found.many++] = static_cast<int32_t>(pixel);
      if (found.many < kMost) return;
      largest<kKeep, kSigned>(found, signs, p.c, more, to, won);
      more = true;
      found.many = 0;
    });
    if (found.many > 0) {
      largest<kKeep, kSigned>(found, signs, p.c, more, to, won);
    } else if (!more) {
      for (int64_t k = 0; k < p.c; ++k) {
        set_lowest(to[k]);
        if (kKeep) won[k] = -1;
      }
    }
  }
}

// The windows that pixels of an axis are in, pixel after pixel.
class Windows {
 public:
  Windows(int64_t before, int64_t taps, int64_t dilation, int64_t stride, int64_t windows)
      : at_(before), reach_((taps - 1) * dilation), stride_(stride), windows_(windows) {
    last_ = at_ / stride_;
    phase_ = at_ % stride_;
    first_ = at_ <= reach_ ? 0 : (at_ - reach_ + stride_ - 1) / stride_;
  }
  int64_t at() const { return at_; }
  int64_t first() const { return first_; }
  int64_t end() const { return last_ < windows_ ? last_ + 1 : windows_; }
  void next() {
    ++at_;
    if (++phase_ == stride_) phase_ = 0, ++last_;
    if (first_ * stride_ + reach_ < at_) ++first_;
  }

 private:
  int64_t at_, reach_, stride_, windows_, first_, last_, phase_;
};

// f(row i, column j) for the windows that pixel is in whose rows and columns have these.
template <class F>
inline void windows(const PoolShape& p, const Windows& rows, const Windows& columns, F f) {
  for (int64_t i = rows.first(); i < rows.end(); ++i) {
    if (p.dh > 1 && (rows.at() - i * p.sh) % p.dh != 0) continue;
    for (int64_t j = columns.first(); j < columns.end(); ++j)
      if (p.dw == 1 || (columns.at() - j * p.sw) % p.dw == 0) f(i, j);
  }
}

// to = scale * ([to +] the sum of value(n, channel, Vec or float) over n in 0..many).
template <int kVecs, class T, class V>
int64_t add_vectors(const V& value, int many, int64_t k, int64_t c, bool more, float scale, T* to) {
  for (; k + kVecs * kLanes <= c; k += kVecs * kLanes) {
    Vec sum[kVecs];
    for (int v = 0; v < kVecs; ++v) sum[v] = more ? load(to + k + v * kLanes) : Vec{};
    for (int n = 0; n < many; ++n)
      for (int v = 0; v < kVecs; ++v) sum[v] += value(n, k + v * kLanes, Vec{});
    for (int v = 0; v < kVecs; ++v) store(to + k + v * kLanes, sum[v] * scale);
  }
  return k;
}
template <class T, class V>
void add_all(const V& value, int many, int64_t c, bool more, float scale, T* to) {
  int64_t k = add_vectors<4>(value, many, 0, c, more, scale, to);
  k = add_vectors<1>(value, many, k, c, more, scale, to);
  for (; k < c; ++k) {
    float sum = more ? single(to[k]) : 0.0f;
    for (int n = 0; n < many; ++n) sum += value(n, k, 0.0f);
    put(to + k, sum * scale);
  }
}

inline Vec value_at(const float* x, Vec) { return load(x); }
inline Vec value_at(const uint16_t* x, Vec) { return load(x); }
inline float value_at(const float* x, float) { return *x; }
inline float value_at(const uint16_t* x, float) { return single(*x); }
inline Vec where_equal(const int32_t* won, int32_t pixel, Vec v) {
  return *reinterpret_cast<const Indices*>(won) == pixel ? v : Vec{};
}
inline float where_equal(const int32_t* won, int32_t pixel, float v) {
  return *won == pixel ? v : 0.0f;
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

namespace {

// Of windows that tile the image: each pixel is in one, whose numbers are read once a row.
template <class T>
void tiles_gradient(const PoolShape& p, const T* gy, const int32_t* winner, int64_t r, T* gx) {
  const int64_t first = r / p.sh * p.ow * p.c;
  auto pixel = static_cast<int32_t>(r * p.w);
  for (int64_t j = 0; j < p.ow; ++j, pixel += static_cast<int32_t>(p.kw)) {
    const T* g = gy + first + j * p.c;
    const int32_t* won = winner + first + j * p.c;
    T* to = gx + j * p.kw * p.c;
    int64_t k = 0;
    for (; k + kLanes <= p.c; k += kLanes) {
      const Vec one = load(g + k);
      for (int32_t x = 0; x < p.kw; ++x)
        store(to + x * p.c + k, where_equal(won + k, pixel + x, one));
    }
    for (; k < p.c; ++k)
      for (int32_t x = 0; x < p.kw; ++x)
        put(to + x * p.c + k, where_equal(won + k, pixel + x, single(g[k])));
  }
}

}  // namespace

template <class T>
void max_pool_gradient(const PoolShape& p, const T* gy, const int32_t* winner, int64_t r, T* gx) {
  if (p.tiles) return tiles_gradient(p, gy, winner, r, gx);
  const Windows rows(r + p.top, p.kh, p.dh, p.sh, p.oh);
  Windows columns(p.left, p.kw, p.dw, p.sw, p.ow);
  for (int64_t q = 0; q < p.w; ++q, columns.next()) {
    const auto pixel = static_cast<int32_t>(r * p.w + q);
    T* to = gx + q * p.c;
    int64_t from[kMost];
    int many = 0;
    bool more = false;
    const auto value = [&](int n, int64_t k, auto kind) {
      return where_equal(winner + from[n] + k, pixel, value_at(gy + from[n] + k, kind));
    };
    windows(p, rows, columns, [&](int64_t i, int64_t j) {
      from[many++] = (i * p.ow + j) * p.c;
      if (many < kMost) return;
      add_all(value, many, p.c, more, 1.0f, to);
      more = true;
      many = 0;
    });
    add_all(value, many, p.c, more, 1.0f, to);
  }
}
template void max_pool_gradient(const PoolShape&, const float*, const int32_t*, int64_t, float*);
template void max_pool_gradient(const PoolShape&, const uint16_t*, const int32_t*, int64_t,
                                uint16_t*);

template <class T>
void avg_pool(const PoolShape& p, const T* x, int64_t i, bool include, T* y) {
  for (int64_t j = 0; j < p.ow; ++j) {
    T* to = y + j * p.c;
    const T* from[kMost];
    int many = 0;
    bool more = false;
    const auto value = [&](int n, int64_t k, auto kind) { return value_at(from[n] + k, kind); };
    fetch_ahead(p, x, i, j);
    pixels(p, i, j, [&](int64_t pixel) {
      from[many++] = x + pixel * p.c;
      if (many < kMost) return;
      add_all(value, many, p.c, more, 1.0f, to);
      more = true;
      many = 0;
    });
    const int64_t n = divisor(p, i, j, include);
    add_all(value, many, p.c, more, n == 0 ? 0.0f : 1.0f / static_cast<float>(n), to);
  }
}
template void avg_pool(const PoolShape&, const float*, int64_t, bool, float*);
template void avg_pool(const PoolShape&, const uint16_t*, int64_t, bool, uint16_t*);

template <class T>
void avg_pool_gradient(const PoolShape& p, const T* gy, int64_t r, bool include,
                       const T* const* addends, int64_t count, int64_t at, T* gx) {
  const Windows rows(r + p.top, p.kh, p.dh, p.sh, p.oh);
  Windows columns(p.left, p.kw, p.dw, p.sw, p.ow);
  for (int64_t q = 0; q < p.w; ++q, columns.next()) {
    T* to = gx + q * p.c;
    const T* from[kMost];
    float share[kMost];
    int many = 0;
    bool more = false;
    const auto value = [&](int n, int64_t k, auto kind) {
      return value_at(from[n] + k, kind) * share[n];
    };
    const auto take = [&](const T* x, float by) {
      from[many] = x;
      share[many++] = by;
      if (many < kMost) return;
      add_all(value, many, p.c, more, 1.0f, to);
      more = true;
      many = 0;
    };
    for (int64_t n = 0; n < count; ++n) take(addends[n] + at + q * p.c, 1.0f);
    windows(p, rows, columns, [&](int64_t i, int64_t j) {
      take(gy + (i * p.ow + j) * p.c, 1.0f / static_cast<float>(divisor(p, i, j, include)));
    });
    add_all(value, many, p.c, more, 1.0f, to);
  }
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
