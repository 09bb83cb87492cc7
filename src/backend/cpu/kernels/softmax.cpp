// Softmax over rows of c values.
#include "backend/cpu/kernels/rows.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

inline float most_of(Vec v) {
  return fold_lanes(v, [](Vec a, Vec b) { return larger(b, a); });
}

// y = exp(x - max), if y is asked for; returns the sum, and the maximum in `most`.
float exp_row(const float* x, float* y, int64_t c, float* most) {
  constexpr int64_t kVecs = 4, kMany = kVecs * kLanes, kFlush = 8 * kMany;
  const int64_t many = c / kMany * kMany, whole = c / kLanes * kLanes, rest = c - whole;
  // What is left of the row, filled up with what is never the largest and has no exponential.
  float last[kLanes];
  for (int64_t k = 0; k < kLanes; ++k) last[k] = k < rest ? x[whole + k] : -__builtin_inff();
  Vec tops[kVecs];
  for (Vec& top : tops) top = load(last);
  for (int64_t i = 0; i < many; i += kMany)
    for (int v = 0; v < kVecs; ++v) tops[v] = larger(load(x + i + v * kLanes), tops[v]);
  for (int64_t i = many; i < whole; i += kLanes) tops[0] = larger(load(x + i), tops[0]);
  const float top = most_of(larger(larger(tops[1], tops[0]), larger(tops[3], tops[2])));
  const Vec left = fast_exp_below(load(last) - top);
  store(last, left);
  if (y != nullptr)
    for (int64_t k = 0; k < rest; ++k) y[whole + k] = last[k];
  Vec part[kVecs] = {left};
  const auto add = [=](int64_t i, Vec& sum) {
    const Vec one = fast_exp_below(load(x + i) - top);
    if (y != nullptr) store(y + i, one);
    sum += one;
  };
  const auto all = [&] { return fold_sum((part[0] + part[1]) + (part[2] + part[3])); };
  double sum = 0;
  for (int64_t i = 0; i < many;) {
    const int64_t end = i + kFlush < many ? i + kFlush : many;
    for (; i < end; i += kMany)
      for (int v = 0; v < kVecs; ++v) add(i + v * kLanes, part[v]);
    if (end == many) break;
    sum += static_cast<double>(all());
    for (Vec& p : part) p = Vec{};
  }
  for (int64_t i = many; i < whole; i += kLanes) add(i, part[0]);
  *most = top;
  return static_cast<float>(sum + static_cast<double>(all()));
}

Vec tops_of(const Columns& columns, int64_t c) {
  Vec top = columns[0];
  for (int64_t k = 1; k < c; ++k) top = larger(columns[k], top);
  return top;
}

// Columns become exponentials of what they are above their rows' largest values.
void exp_columns(Columns& columns, int64_t c, float* tops, float* sums) {
  const Vec top = tops_of(columns, c);
  Vec sum{};
  store(tops, top);
  for (int64_t k = 0; k < c; ++k) {
    const Vec one = fast_exp_below(columns[k] - top);
    columns.set(k, one);
    sum += one;
  }
  store(sums, sum);
}

// The first rows, as far as they can be taken side by side: f(columns of a, of b) turns b's into
// y's. Returns how many they are.
template <class F>
int64_t side_by_side(const float* a, const float* b, int64_t rows, int64_t c, float* y, F f) {
  Columns first(c), second(c);
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    first.read(a + r * c);
    second.read(b + r * c);
    f(first, second);
    second.write(y + r * c);
  }
  return r;
}

}  // namespace

void log_sums(const float* x, int64_t rows, int64_t c, float* y) {
  Columns columns(c);
  float tops[kLanes], sums[kLanes];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    columns.read(x + r * c);
    exp_columns(columns, c, tops, sums);
#pragma GCC ivdep
    for (int64_t i = 0; i < kLanes; ++i) y[r + i] = tops[i] + fast_log(sums[i]);
  }
  for (; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, nullptr, c, &top);
    y[r] = top + fast_log(sum);
  }
}

void scaled_softmax(const float* x, const float* factors, float* y, float* log_sums, int64_t rows,
                    int64_t c) {
  Columns columns(c);
  float tops[kLanes], sums[kLanes];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    columns.read(x + r * c);
    exp_columns(columns, c, tops, sums);
    if (log_sums != nullptr)
#pragma GCC ivdep
      for (int64_t i = 0; i < kLanes; ++i) log_sums[r + i] = tops[i] + fast_log(sums[i]);
#pragma GCC ivdep
    for (int64_t i = 0; i < kLanes; ++i)
      sums[i] = (factors == nullptr ? 1.0f : factors[r + i]) / sums[i];
    for (int64_t k = 0; k < c; ++k) columns.set(k, columns[k] * load(sums));
    columns.write(y + r * c);
  }
  for (; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, y + r * c, c, &top);
    if (log_sums != nullptr) log_sums[r] = top + fast_log(sum);
    const float share = (factors == nullptr ? 1.0f : factors[r]) / sum;
    for (int64_t k = 0; k < c; ++k) y[r * c + k] *= share;
  }
}

void softmax(const float* x, float* y, int64_t rows, int64_t c) {
  scaled_softmax(x, nullptr, y, nullptr, rows, c);
}

void softmax_gradient(const float* y, const float* gy, float* gx, int64_t rows, int64_t c) {
  int64_t r = side_by_side(y, gy, rows, c, gx, [c](const Columns& out, Columns& g) {
    Vec dot{};
    for (int64_t k = 0; k < c; ++k) dot += out[k] * g[k];
    for (int64_t k = 0; k < c; ++k) g.set(k, out[k] * (g[k] - dot));
  });
  for (; r < rows; ++r) {
    const float *out = y + r * c, *g = gy + r * c;
    const auto dot = static_cast<float>(sum_of(c, [=](int64_t k) { return out[k] * g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = y[r * c + k] * (gy[r * c + k] - dot);
  }
}

void log_softmax(const float* x, float* y, int64_t rows, int64_t c) {
  Columns columns(c);
  float sums[kLanes];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    columns.read(x + r * c);
    const Vec top = tops_of(columns, c);
    Vec sum{};
    for (int64_t k = 0; k < c; ++k) sum += fast_exp_below(columns[k] - top);
    store(sums, sum);
#pragma GCC ivdep
    for (int64_t i = 0; i < kLanes; ++i) sums[i] = fast_log(sums[i]);
    for (int64_t k = 0; k < c; ++k) columns.set(k, columns[k] - top - load(sums));
    columns.write(y + r * c);
  }
  for (; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, nullptr, c, &top), log_sum = fast_log(sum);
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) y[r * c + k] = x[r * c + k] - top - log_sum;
  }
}

void log_softmax_gradient(const float* y, const float* gy, float* gx, int64_t rows, int64_t c) {
  int64_t r = side_by_side(y, gy, rows, c, gx, [c](const Columns& out, Columns& g) {
    Vec sum{};
    for (int64_t k = 0; k < c; ++k) sum += g[k];
    for (int64_t k = 0; k < c; ++k) g.set(k, g[k] - fast_exp_below(out[k]) * sum);
  });
  for (; r < rows; ++r) {
    const float* g = gy + r * c;
    const auto sum = static_cast<float>(sum_of(c, [g](int64_t k) { return g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = gy[r * c + k] - fast_exp(y[r * c + k]) * sum;
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
