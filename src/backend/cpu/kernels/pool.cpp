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

int64_t divisor(const PoolShape& p, int64_t i, int64_t j, bool include) {
  if (!include) return pixels(p, i, j, [](int64_t) {});
  // The last windows may reach beyond the padding.
  const int64_t rows = p.h + p.top + p.bottom - i * p.sh,
                columns = p.w + p.left + p.right - j * p.sw;
  return (rows < p.kh ? rows : p.kh) * (columns < p.kw ? columns : p.kw);
}

inline float single(float v) { return v; }
inline float single(uint16_t bfloat) {
  const uint32_t bits = uint32_t{bfloat} << 16;
  float v;
  __builtin_memcpy(&v, &bits, 4);
  return v;
}
inline void set_lowest(float& v) { v = -__builtin_inff(); }
inline void set_lowest(uint16_t& bfloat) { bfloat = 0xFF80; }

// T: float, or the bits of a bfloat16. What is largest is copied, so nothing is rounded.
template <bool kKeep, class T>
void max_row(const PoolShape& p, const T* x, int64_t i, T* y, int32_t* winner) {
  for (int64_t j = 0; j < p.ow; ++j) {
    T* to = y + j * p.c;
    int32_t* won = kKeep ? winner + j * p.c : nullptr;
    bool first = true;
    fetch_ahead(p, x, i, j);
    pixels(p, i, j, [&](int64_t pixel) {
      const T* from = x + pixel * p.c;
      const auto index = static_cast<int32_t>(pixel);
      if (first) {
        for (int64_t k = 0; k < p.c; ++k) {
          to[k] = from[k];
          if (kKeep) won[k] = index;
        }
      } else {
#pragma GCC ivdep
        for (int64_t k = 0; k < p.c; ++k) {
          const float v = single(from[k]), best = single(to[k]);
          const bool wins = (v > best) | ((v != v) & (best == best));
          to[k] = wins ? from[k] : to[k];
          if (kKeep) won[k] = wins ? index : won[k];
        }
      }
      first = false;
    });
    if (first)
      for (int64_t k = 0; k < p.c; ++k) {
        set_lowest(to[k]);
        if (kKeep) won[k] = -1;
      }
  }
}

// f(first elements of a window's gradient, winners and of the gradient of a pixel of it, the pixel)
template <class T, class F>
void each_pixel(const PoolShape& p, const T* gy, const int32_t* winner, T* gx, F f) {
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      const int64_t window = (i * p.ow + j) * p.c;
      pixels(p, i, j, [&](int64_t pixel) {
        f(gy + window, winner + window, gx + pixel * p.c, static_cast<int32_t>(pixel));
      });
    }
}

template <class T>
void max_tiles_gradient(const PoolShape& p, const T* gy, const int32_t* winner, T* gx) {
  each_pixel(p, gy, winner, gx, [c = p.c](const T* from, const int32_t* won, T* to, int32_t pixel) {
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) to[k] = won[k] == pixel ? from[k] : T{0};
  });
}

}  // namespace

void max_pool(const PoolShape& p, const float* x, int64_t i, float* y, int32_t* winner) {
  winner != nullptr ? max_row<true>(p, x, i, y, winner) : max_row<false>(p, x, i, y, winner);
}

void max_pool_bfloat(const PoolShape& p, const uint16_t* x, int64_t i, uint16_t* y,
                     int32_t* winner) {
  winner != nullptr ? max_row<true>(p, x, i, y, winner) : max_row<false>(p, x, i, y, winner);
}

void max_pool_gradient(const PoolShape& p, const float* gy, const int32_t* winner, float* gx) {
  if (p.tiles) return max_tiles_gradient(p, gy, winner, gx);
  std::memset(gx, 0, static_cast<std::size_t>(p.h * p.w * p.c) * sizeof(float));
  each_pixel(p, gy, winner, gx,
             [c = p.c](const float* from, const int32_t* won, float* to, int32_t pixel) {
#pragma GCC ivdep
               for (int64_t k = 0; k < c; ++k) to[k] += won[k] == pixel ? from[k] : 0.0f;
             });
}

void max_tiles_gradient_bfloat(const PoolShape& p, const uint16_t* gy, const int32_t* winner,
                               uint16_t* gx) {
  max_tiles_gradient(p, gy, winner, gx);
}

namespace {

// to = share * ([to +] the sum of `many` arrays of c floats).
template <int kVecs>
int64_t add_vectors(const float* const* from, int many, int64_t k, int64_t c, bool more,
                    float share, float* to) {
  for (; k + kVecs * kLanes <= c; k += kVecs * kLanes) {
    Vec sum[kVecs];
    for (int v = 0; v < kVecs; ++v) sum[v] = more ? load(to + k + v * kLanes) : Vec{};
    for (int n = 0; n < many; ++n)
      for (int v = 0; v < kVecs; ++v) sum[v] += load(from[n] + k + v * kLanes);
    for (int v = 0; v < kVecs; ++v) store(to + k + v * kLanes, sum[v] * share);
  }
  return k;
}
void add_all(const float* const* from, int many, int64_t c, bool more, float share, float* to) {
  int64_t k = add_vectors<6>(from, many, 0, c, more, share, to);
  k = add_vectors<1>(from, many, k, c, more, share, to);
  for (; k < c; ++k) {
    float sum = more ? to[k] : 0.0f;
    for (int n = 0; n < many; ++n) sum += from[n][k];
    to[k] = sum * share;
  }
}

}  // namespace

void avg_pool(const PoolShape& p, const float* x, int64_t i, bool include, float* y) {
  constexpr int kMost = 16;
  for (int64_t j = 0; j < p.ow; ++j) {
    float* to = y + j * p.c;
    const float* from[kMost];
    int many = 0;
    bool more = false;
    fetch_ahead(p, x, i, j);
    pixels(p, i, j, [&](int64_t pixel) {
      from[many++] = x + pixel * p.c;
      if (many < kMost) return;
      add_all(from, many, p.c, more, 1.0f, to);
      more = true;
      many = 0;
    });
    const int64_t n = divisor(p, i, j, include);
    add_all(from, many, p.c, more, n == 0 ? 0.0f : 1.0f / static_cast<float>(n), to);
  }
}

void avg_pool_gradient(const PoolShape& p, const float* gy, bool include, float* gx) {
  std::memset(gx, 0, static_cast<std::size_t>(p.h * p.w * p.c) * sizeof(float));
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      const float* from = gy + (i * p.ow + j) * p.c;
      const int64_t n = divisor(p, i, j, include);
      const float share = n == 0 ? 0.0f : 1.0f / static_cast<float>(n);
      pixels(p, i, j, [&](int64_t pixel) {
        float* to = gx + pixel * p.c;
#pragma GCC ivdep
        for (int64_t k = 0; k < p.c; ++k) to[k] += from[k] * share;
      });
    }
}

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
