// Normalisation over rows of c values.
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

// First and second sums of a block's columns. Of V, floats or vectors, term(row, column) is what is
// summed as {first, second}; four rows at a time.
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
template <class F>
inline void block_sums(F term, int64_t rows, int64_t width, float* first, float* second) {
  for (int64_t k = 0; k < width; ++k) first[k] = second[k] = 0.0f;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) add_columns<4>(term, r, width, first, second);
  for (; r < rows; ++r) add_columns<1>(term, r, width, first, second);
}

inline float at(const float* x, int64_t i, float) { return x[i]; }
inline Vec at(const float* x, int64_t i, Vec) { return load(x + i); }
inline void put(float* y, int64_t i, float v) { y[i] = v; }
inline void put(float* y, int64_t i, Vec v) { store(y + i, v); }

// f(row, column, vector or float) for all of a few rows of c columns, column by column: what
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
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) each_column<4>(r, c, f);
  for (; r < rows; ++r) each_column<1>(r, c, f);
}

}  // namespace

void norm_sums(const float* x, const float* mean, int64_t rows, int64_t c, double* sums) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float part[kColumns] = {};
    const float* first = x + r0 * c + c0;
    for (int64_t r = 0; r < n; ++r)
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) {
        const float d = first[r * c + k] - (mean == nullptr ? 0 : mean[c0 + k]);
        part[k] += mean == nullptr ? d : d * d;
      }
    for (int64_t k = 0; k < width; ++k) sums[c0 + k] += static_cast<double>(part[k]);
  });
}

// Sums of what values are off the mean so far, and of its squares: exact enough, as a pivot far off
// the mean comes with a variance as large. The first block, which may be all, is read twice for its
// own mean. Blocks join by the formula of Chan, Golub and LeVeque (1983).
void norm_moments(const float* x, int64_t rows, int64_t c, double* mean, double* squares) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float pivot[kColumns] = {}, rest[kColumns], square[kColumns];
    const float* first = x + r0 * c + c0;
    const auto term = [&](int64_t r, int64_t k, auto kind) {
      const auto d = at(first + r * c, k, kind) - at(pivot, k, kind);
      return Pair<decltype(kind)>{d, d * d};
    };
    if (r0 == 0) {
      block_sums(term, n, width, rest, square);
      for (int64_t k = 0; k < width; ++k) pivot[k] = rest[k] / static_cast<float>(n);
    } else {
      for (int64_t k = 0; k < width; ++k) pivot[k] = static_cast<float>(mean[c0 + k]);
    }
    block_sums(term, n, width, rest, square);
    const auto before = static_cast<double>(r0), more = static_cast<double>(n), all = before + more;
#pragma GCC ivdep
    for (int64_t k = 0; k < width; ++k) {
      const double off = static_cast<double>(rest[k]) / more;
      const double here = static_cast<double>(pivot[k]) + off;
      const double old = r0 == 0 ? here : mean[c0 + k], step = here - old;
      mean[c0 + k] = old + step * more / all;
      squares[c0 + k] = (r0 == 0 ? 0.0 : squares[c0 + k]) + static_cast<double>(square[k]) -
                        off * off * more + step * step * before * more / all;
    }
  });
}

void norm_apply(const float* x, const float* scale, const float* shift, int64_t rows, int64_t c,
                float* y) {
  // Few channels: as many rows at a time as make whole vectors.
  constexpr int64_t kFew = 16, kRows = 16;
  float wide[2][kFew * kRows];
  if (c < kFew && rows >= kRows) {
    for (int64_t k = 0; k < c * kRows; ++k) wide[0][k] = scale[k % c], wide[1][k] = shift[k % c];
    norm_apply(x, wide[0], wide[1], rows / kRows, c * kRows, y);
    const int64_t done = rows / kRows * kRows;
    x += done * c, y += done * c, rows -= done;
  }
  each_element(rows, c, [=](int64_t k, auto kind) {
    return [=, by = at(scale, k, kind), add = at(shift, k, kind)](int64_t r) {
      put(y, r * c + k, at(x, r * c + k, kind) * by + add);
    };
  });
}

void norm_dots(const float* gy, const float* x, const float* mean, const float* inverse,
               int64_t rows, int64_t c, double* sums, double* dots) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float sum[kColumns], dot[kColumns];
    const float *g = gy + r0 * c + c0, *v = x + r0 * c + c0, *middle = mean + c0;
    const auto term = [&](int64_t r, int64_t k, auto kind) {
      const auto one = at(g + r * c, k, kind);
      return Pair<decltype(kind)>{one, one * (at(v + r * c, k, kind) - at(middle, k, kind))};
    };
    block_sums(term, n, width, sum, dot);
    for (int64_t k = 0; k < width; ++k) {
      sums[c0 + k] += static_cast<double>(sum[k]);
      dots[c0 + k] += static_cast<double>(dot[k]) * static_cast<double>(inverse[c0 + k]);
    }
  });
}

void norm_gradient(const float* gy, const float* x, const float* a, const float* b, const float* d,
                   int64_t rows, int64_t c, float* gx) {
  each_element(rows, c, [=](int64_t k, auto kind) {
    return [=, by_g = at(a, k, kind), by_x = at(b, k, kind), add = at(d, k, kind)](int64_t r) {
      const int64_t i = r * c + k;
      put(gx, i, at(gy, i, kind) * by_g + at(x, i, kind) * by_x + add);
    };
  });
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
