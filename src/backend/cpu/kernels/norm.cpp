// Normalisation over rows of c values.
#include <type_traits>

#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Row sums are kept in float over a block of rows, then added to the doubles.
constexpr int64_t kFlush = 64, kColumns = 512;

// f(first row, rows, first column, columns)
template <class F>
void each_block(int64_t rows, int64_t c, F f) {
  for (int64_t r0 = 0; r0 < rows; r0 += kFlush)
    for (int64_t c0 = 0; c0 < c; c0 += kColumns)
      f(r0, rows - r0 < kFlush ? rows - r0 : kFlush, c0, c - c0 < kColumns ? c - c0 : kColumns);
}

// Brings near what is read some rows on: four rows at a time are more streams than are foreseen.
template <class T>
__attribute__((always_inline)) inline void fetch_ahead(const T* x, int64_t pitch) {
  constexpr int64_t kRows = 8;
  __builtin_prefetch(x + kRows * pitch);
}

// First and second sums of a block's columns. Of V, floats or vectors, term(row, column) is what is
// summed as {first, second}; some rows at a time.
template <class V>
struct Pair {
  V first, second;
};
template <class V, int kRows, class F>
inline void add_rows(F term, int64_t r, int64_t k, float* first, float* second) {
  V one{}, two{};
  for (int i = 0; i < kRows; ++i) {
    const Pair<V> t = term(r + i, k, V{});
    one += t.first;
    two += t.second;
  }
  if constexpr (sizeof(V) == sizeof(float)) {
    first[k] += one;
    second[k] += two;
  } else {
    store(first + k, load(first + k) + one);
    store(second + k, load(second + k) + two);
  }
}
template <int kRows, class F>
inline void add_columns(F term, int64_t r, int64_t width, float* first, float* second) {
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) add_rows<Vec, kRows>(term, r, k, first, second);
  for (; k < width; ++k) add_rows<float, kRows>(term, r, k, first, second);
}
template <int kTogether, class F>
inline void block_sums(F term, int64_t rows, int64_t width, float* first, float* second) {
  for (int64_t k = 0; k < width; ++k) first[k] = second[k] = 0.0f;
  int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether)
    add_columns<kTogether>(term, r, width, first, second);
  for (; r < rows; ++r) add_columns<1>(term, r, width, first, second);
}

// T: float, or the bits of a bfloat16.
template <class T>
inline float at(const T* x, int64_t i, float) {
  return single(x[i]);
}
template <class T>
inline Vec at(const T* x, int64_t i, Vec) {
  return load(x + i);
}
template <class T>
inline void set(T* y, int64_t i, float v) {
  put(y + i, v);
}
template <class T>
inline void set(T* y, int64_t i, Vec v) {
  store(y + i, v);
}

// f(column, vector or float)(row) for all of a few rows of c columns, column by column: what
// belongs to a column is loaded once.
template <int kRows, class F>
inline void each_column(int64_t r, int64_t c, F f) {
  int64_t k = 0;
  for (; k + kLanes <= c; k += kLanes) {
    const auto column = f(k, Vec{});
    for (int i = 0; i < kRows; ++i) column(r + i);
  }
  for (; k < c; ++k) {
    const auto column = f(k, 0.0f);
    for (int i = 0; i < kRows; ++i) column(r + i);
  }
}
template <class F>
inline void each_element(int64_t rows, int64_t c, F f) {
  constexpr int64_t kLong = 128;  // long rows are read one after the other, as prefetching likes it
  int64_t r = 0;
  for (; c < kLong && r + 4 <= rows; r += 4) each_column<4>(r, c, f);
  for (; r < rows; ++r) each_column<1>(r, c, f);
}

}  // namespace

template <class T>
void norm_sums(const T* x, const float* mean, int64_t rows, int64_t c, double* sums) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float part[kColumns] = {};
    const T* first = x + r0 * c + c0;
    for (int64_t r = 0; r < n; ++r)
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) {
        const float d = single(first[r * c + k]) - (mean == nullptr ? 0 : mean[c0 + k]);
        part[k] += mean == nullptr ? d : d * d;
      }
    for (int64_t k = 0; k < width; ++k) sums[c0 + k] += static_cast<double>(part[k]);
  });
}

// Sums of what values are off the mean so far, or that of the first rows, and of its squares: exact
// enough, as a pivot far off the mean comes with a variance as large. Blocks join by the formula of
// Chan, Golub and LeVeque (1983).
template <class T>
void norm_moments(const T* x, int64_t rows, int64_t c, double* mean, double* squares) {
  constexpr int kTogether = 8;
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float pivot[kColumns] = {}, rest[kColumns], square[kColumns];
    const T* first = x + r0 * c + c0;
    const auto term = [&](int64_t r, int64_t k, auto kind) {
      if constexpr (sizeof(kind) > sizeof(float)) fetch_ahead(first + r * c + k, c);
      const auto d = at(first + r * c, k, kind) - at(pivot, k, kind);
      return Pair<decltype(kind)>{d, d * d};
    };
    if (r0 == 0) {
      const int64_t few = n < kTogether ? n : kTogether;
      block_sums<kTogether>(term, few, width, rest, square);
      for (int64_t k = 0; k < width; ++k) pivot[k] = rest[k] / static_cast<float>(few);
    } else {
      for (int64_t k = 0; k < width; ++k) pivot[k] = static_cast<float>(mean[c0 + k]);
    }
    block_sums<kTogether>(term, n, width, rest, square);
    const auto before = static_cast<double>(r0), more = static_cast<double>(n);
    const double each = 1 / more, share = more / (before + more), joint = before * share;
#pragma GCC ivdep
    for (int64_t k = 0; k < width; ++k) {
      const double off = static_cast<double>(rest[k]) * each;
      const double here = static_cast<double>(pivot[k]) + off;
      const double old = r0 == 0 ? here : mean[c0 + k], step = here - old;
      mean[c0 + k] = old + step * share;
      squares[c0 + k] = (r0 == 0 ? 0.0 : squares[c0 + k]) + static_cast<double>(square[k]) -
                        off * off * more + step * step * joint;
    }
  });
}

namespace {

enum {
#define N(name, ...) k_##name,
#include "ir/neurons.def"
#undef N
};

// What is behind the norm: nothing, or a rectifier; kKind is a neuron's.
template <int kKind, class V>
inline V rectified(V z, float slope) {
  if constexpr (kKind == k_relu) return z < 0.0f ? V{} : z;  // NaN passes
  if constexpr (kKind == k_leaky_relu) return z > 0.0f ? z : slope * z;
  return z;
}
template <int kKind, class V>
inline V rectified_gradient(V gy, V z, float slope) {
  if constexpr (kKind == k_relu) return z > 0.0f ? gy : V{};
  if constexpr (kKind == k_leaky_relu) return z > 0.0f ? gy : slope * gy;
  return gy;
}
template <class F>
inline void by_rectifier(int kind, F f) {
  if (kind == k_relu) return f(std::integral_constant<int, k_relu>());
  if (kind == k_leaky_relu) return f(std::integral_constant<int, k_leaky_relu>());
  f(std::integral_constant<int, k_none>());
}

}  // namespace

template <class T>
void norm_apply(const NormRows& n, const T* x, T* y) {
  // Few channels: as many rows at a time as make whole vectors.
  constexpr int64_t kFew = 16, kRows = 16;
  const int64_t c = n.c, whole = c < kFew && n.pitch == c ? n.rows / kRows * kRows : 0;
  if (whole > 0) {
    float wide[2][kFew * kRows];
    for (int64_t k = 0; k < c * kRows; ++k)
      wide[0][k] = n.scale[k % c], wide[1][k] = n.shift[k % c];
    NormRows many = n, rest = n;
    many.rows = whole / kRows, many.c = many.pitch = c * kRows;
    many.scale = wide[0], many.shift = wide[1];
    norm_apply(many, x, y);
    rest.rows -= whole;
    x += whole * c, y += whole * c;
    if (rest.rows > 0) norm_apply(rest, x, y);
    return;
  }
  by_rectifier(n.kind, [&](auto rectifier) {
    const auto rows = [&](auto write) {
      each_element(n.rows, c, [=](int64_t k, auto kind) {
        return [=, by = at(n.scale, k, kind), add = at(n.shift, k, kind)](int64_t r) {
          const auto z = at(x, r * c + k, kind) * by + add;
          write(y, r * n.pitch + k, rectified<decltype(rectifier)::value>(z, n.slope));
        };
      });
    };
    if constexpr (sizeof(T) == sizeof(float)) {
      const bool whole_vectors = c % kLanes == 0 && n.pitch % kLanes == 0 &&
                                 reinterpret_cast<uintptr_t>(y) % sizeof(Vec) == 0;
      if (n.past_caches && whole_vectors) {
        rows([](float* to, int64_t i, auto z) {
          if constexpr (sizeof(z) == sizeof(Vec)) stream(to + i, z);
        });
        return flush();
      }
    }
    rows([](T* to, int64_t i, auto z) { set(to, i, z); });
  });
}

template <class T>
void norm_dots(const NormRows& n, const T* gy, const T* x, const float* mean, const float* inverse,
               double* sums, double* dots) {
  by_rectifier(n.kind, [&](auto rectifier) {
    each_block(n.rows, n.c, [=](int64_t r0, int64_t rows, int64_t c0, int64_t width) {
      constexpr int kKind = decltype(rectifier)::value;
      float sum[kColumns], dot[kColumns];
      const T *g = gy + r0 * n.pitch + c0, *v = x + r0 * n.c + c0;
      const float* middle = mean + c0;
      const auto term = [&](int64_t r, int64_t k, auto kind) {
        const auto from = at(v + r * n.c, k, kind);
        auto one = at(g + r * n.pitch, k, kind);
        if constexpr (kKind != k_none)
          one = rectified_gradient<kKind>(
              one, from * at(n.scale, c0 + k, kind) + at(n.shift, c0 + k, kind), n.slope);
        return Pair<decltype(kind)>{one, one * (from - at(middle, k, kind))};
      };
      block_sums<4>(term, rows, width, sum, dot);  // of two sources
      for (int64_t k = 0; k < width; ++k) {
        sums[c0 + k] += static_cast<double>(sum[k]);
        dots[c0 + k] += static_cast<double>(dot[k]) * static_cast<double>(inverse[c0 + k]);
      }
    });
  });
}

template <class T>
void norm_gradient(const NormRows& n, const T* gy, const T* x, const float* a, const float* b,
                   const float* d, T* gx) {
  by_rectifier(n.kind, [&](auto rectifier) {
    constexpr int kKind = decltype(rectifier)::value;
    each_element(n.rows, n.c, [=](int64_t k, auto kind) {
      using V = decltype(kind);
      V by = {}, shift = {};
      if constexpr (kKind != k_none) by = at(n.scale, k, kind), shift = at(n.shift, k, kind);
      return [=, by_g = at(a, k, kind), by_x = at(b, k, kind), add = at(d, k, kind)](int64_t r) {
        const V from = at(x, r * n.c + k, kind);
        const V one =
            rectified_gradient<kKind>(at(gy, r * n.pitch + k, kind), from * by + shift, n.slope);
        set(gx, r * n.c + k, one * by_g + from * by_x + add);
      };
    });
  });
}

#define MPSNN_NORM(T)                                                                          \
  template void norm_sums(const T*, const float*, int64_t, int64_t, double*);                  \
  template void norm_moments(const T*, int64_t, int64_t, double*, double*);                    \
  template void norm_apply(const NormRows&, const T*, T*);                                     \
  template void norm_dots(const NormRows&, const T*, const T*, const float*, const float*,     \
                          double*, double*);                                                   \
  template void norm_gradient(const NormRows&, const T*, const T*, const float*, const float*, \
                              const float*, T*);
MPSNN_NORM(float)
MPSNN_NORM(uint16_t)
#undef MPSNN_NORM

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
