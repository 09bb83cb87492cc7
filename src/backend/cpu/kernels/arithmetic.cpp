// Element-wise arithmetic and reductions over tiles of rows: operands have strides, 0 where they
// repeat and 1 where they are dense along a row.
#include <cmath>

#include "backend/cpu/kernels/rows.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

template <Binary kOp>
float apply(float a, float b) {
  if (kOp == Binary::add) return a + b;
  if (kOp == Binary::subtract) return a - b;
  if (kOp == Binary::multiply) return a * b;
  return a / b;
}

template <Binary kOp, int kA, int kB>
void binary_rows(const Tile<3>& t, const float* a, const float* b, float* y) {
  for (int64_t r = 0; r < t.rows; ++r) {
#pragma GCC ivdep
    for (int64_t i = 0; i < t.n; ++i) y[i] = apply<kOp>(a[kA * i], b[kB * i]);
    a += t.outer[0], b += t.outer[1], y += t.outer[2];
  }
}

template <Binary kOp>
void binary_any(const Tile<3>& t, const float* a, const float* b, float* y) {
  const bool dense_a = t.inner[0] != 0, dense_b = t.inner[1] != 0;
  if (dense_a && dense_b) return binary_rows<kOp, 1, 1>(t, a, b, y);
  if (dense_a) return binary_rows<kOp, 1, 0>(t, a, b, y);
  if (dense_b) return binary_rows<kOp, 0, 1>(t, a, b, y);
  binary_rows<kOp, 0, 0>(t, a, b, y);
}

template <int kY>
void tie_rows(const Tile<3>& t, const float* x, const float* y, const float* share, float* gx) {
  for (int64_t r = 0; r < t.rows; ++r) {
#pragma GCC ivdep
    for (int64_t i = 0; i < t.n; ++i) gx[i] = (x[i] == y[kY * i] ? 1.0f : 0.0f) * share[kY * i];
    x += t.outer[0], y += t.outer[1], share += t.outer[1], gx += t.outer[2];
  }
}

// Of floats, of vectors, and of the doubles that hold results: sums are kept in float over a few
// terms, then in double.
template <Reduce kKind>
struct Term {
  static constexpr bool kExtreme = kKind == Reduce::max || kKind == Reduce::min;
  template <class T>
  static T of(T a, T b) {
    if constexpr (kKind == Reduce::dot) return a * b;
    if constexpr (kKind == Reduce::quotient) return a / b;
    if constexpr (kKind == Reduce::equal) return a == b ? T{} + 1.0f : T{};
    return a;
  }
  // NaN wins, as in PyTorch.
  template <class T>
  static T join(T s, T x) {
    if constexpr (kKind == Reduce::max) return x == x ? larger(x, s) : x;
    if constexpr (kKind == Reduce::min) return x == x ? smaller(x, s) : x;
    return s + x;
  }
  static constexpr float start() {
    return kKind == Reduce::max ? -HUGE_VALF : kKind == Reduce::min ? HUGE_VALF : 0.0f;
  }
};

template <int kB>
inline Vec other(const float* b, int64_t i) {
  return kB == 1 ? load(b + i) : Vec{} + b[0];
}

template <Reduce kKind, int kB>
double row_total(const float* a, const float* b, int64_t n) {
  using T = Term<kKind>;
  constexpr int kVecs = 4;
  constexpr int64_t kFlush = 16 * kVecs * kLanes;
  double total = static_cast<double>(T::start());
  int64_t i = 0;
  while (i + kLanes <= n) {
    const int64_t last = i + kFlush < n ? i + kFlush : n;
    Vec part[kVecs];
    for (Vec& p : part) p = Vec{} + T::start();
    for (; i + kVecs * kLanes <= last; i += kVecs * kLanes)
      for (int v = 0; v < kVecs; ++v) {
        const int64_t at = i + v * kLanes;
        part[v] = T::join(part[v], T::of(load(a + at), other<kB>(b, at)));
      }
    for (; i + kLanes <= last; i += kLanes)
      part[0] = T::join(part[0], T::of(load(a + i), other<kB>(b, i)));
    const Vec all = T::join(T::join(part[0], part[1]), T::join(part[2], part[3]));
    const float one = fold_lanes(all, [](Vec s, Vec x) { return T::join(s, x); });
    total = T::join(total, static_cast<double>(one));
  }
  for (; i < n; ++i) total = T::join(total, static_cast<double>(T::of(a[i], b[kB * i])));
  return total;
}

// part[i] joined with a row.
template <Reduce kKind, int kB>
void join_row(const float* a, const float* b, int64_t n, float* part) {
  using T = Term<kKind>;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(part + i, T::join(load(part + i), T::of(load(a + i), other<kB>(b, i))));
  for (; i < n; ++i) part[i] = T::join(part[i], T::of(a[i], b[kB * i]));
}

// results[r] joined with lane r, for kLanes of them.
template <Reduce kKind>
void join_lanes(Vec lanes, double* results, int64_t pitch) {
  float each[kLanes];
  store(each, lanes);
  for (int64_t r = 0; r < kLanes; ++r) {
    double& result = results[r * pitch];
    result = Term<kKind>::join(result, static_cast<double>(each[r]));
  }
}

// The first rows, one behind the other, as far as they can be taken side by side; how many.
template <Reduce kKind>
int64_t reduce_narrow(const Tile<3>& t, const float* a, double* to) {
  using T = Term<kKind>;
  Columns columns(t.n);
  int64_t r = 0;
  for (; are_narrow(t.rows - r, t.n); r += kLanes) {
    columns.read(a + r * t.n);
    Vec part = Vec{} + T::start();
    for (int64_t k = 0; k < t.n; ++k) part = T::join(part, columns[k]);
    join_lanes<kKind>(part, to + r * t.outer[2], t.outer[2]);
  }
  return r;
}

// The first rows, kLanes at a time; how many.
template <Reduce kKind, int kB>
int64_t reduce_together(const Tile<3>& t, const float* a, const float* b, double* to) {
  using T = Term<kKind>;
  const Rest rest(t.n);
  int64_t r = 0;
  for (; r + kLanes <= t.rows; r += kLanes) {
    Vec parts[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const float *from = a + (r + i) * t.outer[0], *by = b + (r + i) * t.outer[1];
      const auto term = [=](int64_t k) { return T::of(load(from + k), other<kB>(by, k)); };
      Vec part = rest.any ? rest.of(term(rest.at), T::start()) : Vec{} + T::start();
      for (int64_t k = 0; k < rest.whole; k += kLanes) part = T::join(part, term(k));
      parts[i] = part;
    }
    const Vec all = fold_rows(parts, [](Vec s, Vec x) { return T::join(s, x); });
    join_lanes<kKind>(all, to + r * t.outer[2], t.outer[2]);
  }
  return r;
}

template <Reduce kKind, int kB>
void reduce_rows(const Tile<3>& t, const float* a, const float* b, double* to) {
  using T = Term<kKind>;
  constexpr bool kAlone = T::kExtreme || kKind == Reduce::sum;  // of a, b is not read
  constexpr int64_t kLong = 512, kWide = 256;
  const bool few = kAlone && t.n <= kNarrow && t.outer[0] == t.n;
  if (t.inner[2] == 0) {
    int64_t done = 0;
    if (t.n >= kLanes && t.n <= kLong)
      done = reduce_together<kKind, kB>(t, a, b, to);
    else if constexpr (kAlone)
      if (few) done = reduce_narrow<kKind>(t, a, to);
    for (int64_t r = done; r < t.rows; ++r) {
      double& result = to[r * t.outer[2]];
      const float *from = a + r * t.outer[0], *by = b + r * t.outer[1];
      result = T::join(result, row_total<kKind, kB>(from, by, t.n));
    }
    return;
  }
  if constexpr (kAlone) {
    const int64_t together = kWide / t.n;  // rows that are taken for one
    if (few && t.outer[2] == 0 && t.rows >= 2 * together) {
      double wide[kWide];
      const int64_t n = together * t.n, rows = t.rows / together;
      for (int64_t i = 0; i < n; ++i) wide[i] = static_cast<double>(T::start());
      reduce_rows<kKind, kB>({rows, n, {n, 0, 0}, {1, 0, 1}}, a, b, wide);
      for (int64_t i = 0; i < n; ++i) to[i % t.n] = T::join(to[i % t.n], wide[i]);
      reduce_rows<kKind, kB>({t.rows % together, t.n, {t.outer[0], 0, 0}, {1, 0, 1}}, a + rows * n,
                             b, to);
      return;
    }
  }
  // Columns: several rows where they share their results, one after the other, as prefetching likes
  // it. Sums go over to double after a few rows; extremes need not.
  constexpr int64_t kRows = T::kExtreme ? INT64_MAX : 32, kColumns = 512;
  const int64_t many = t.outer[2] == 0 ? kRows : 1;
  for (int64_t r = 0; r < t.rows;) {
    const int64_t rows = t.rows - r < many ? t.rows - r : many;
    for (int64_t c = 0; c < t.n; c += kColumns) {
      const int64_t width = t.n - c < kColumns ? t.n - c : kColumns;
      float part[kColumns];
      for (int64_t i = 0; i < width; ++i) part[i] = T::start();
      const float *from = a + r * t.outer[0] + c, *by = b + r * t.outer[1] + kB * c;
      for (int64_t k = 0; k < rows; ++k, from += t.outer[0], by += t.outer[1])
        join_row<kKind, kB>(from, by, width, part);
      double* result = to + r * t.outer[2] + c;
#pragma GCC ivdep
      for (int64_t i = 0; i < width; ++i)
        result[i] = T::join(result[i], static_cast<double>(part[i]));
    }
    r += rows;
  }
}

template <Reduce kKind>
void reduce_any(const Tile<3>& t, const float* a, const float* b, double* to) {
  if (t.inner[1] != 0) return reduce_rows<kKind, 1>(t, a, b, to);
  reduce_rows<kKind, 0>(t, a, b, to);
}

}  // namespace

void binary(Binary op, const Tile<3>& t, const float* a, const float* b, float* y) {
  switch (op) {
    case Binary::add:
      return binary_any<Binary::add>(t, a, b, y);
    case Binary::subtract:
      return binary_any<Binary::subtract>(t, a, b, y);
    case Binary::multiply:
      return binary_any<Binary::multiply>(t, a, b, y);
    case Binary::divide:
      return binary_any<Binary::divide>(t, a, b, y);
  }
}

void divide_gradient(const float* g, const float* a, const float* b, float* ga, float* gb,
                     int64_t n) {
  if (gb == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) ga[i] = g[i] / b[i];
  } else if (ga == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) gb[i] = -(g[i] / b[i]) * a[i] / b[i];
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float quotient = g[i] / b[i];
      ga[i] = quotient;
      gb[i] = -quotient * a[i] / b[i];
    }
  }
}

void ties(const Tile<3>& t, const float* x, const float* y, const float* share, float* gx) {
  if (t.inner[1] != 0) return tie_rows<1>(t, x, y, share, gx);
  tie_rows<0>(t, x, y, share, gx);
}

void reduce(Reduce kind, const Tile<3>& t, const float* a, const float* b, double* to) {
  switch (kind) {
    case Reduce::sum:
      return reduce_any<Reduce::sum>(t, a, b, to);
    case Reduce::dot:
      return reduce_any<Reduce::dot>(t, a, b, to);
    case Reduce::quotient:
      return reduce_any<Reduce::quotient>(t, a, b, to);
    case Reduce::equal:
      return reduce_any<Reduce::equal>(t, a, b, to);
    case Reduce::max:
      return reduce_any<Reduce::max>(t, a, b, to);
    case Reduce::min:
      return reduce_any<Reduce::min>(t, a, b, to);
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
