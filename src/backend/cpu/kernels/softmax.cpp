// Softmax over rows of c values.
#include "backend/cpu/kernels/kernels.h"

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

// Rows of few values are taken side by side, one to a lane: column k of them is at[k * kSide].
constexpr int64_t kSide = kLanes, kNarrow = 64;
bool are_narrow(int64_t rows, int64_t c) { return c <= kNarrow && rows >= kSide; }

Vec tops_of(const float* columns, int64_t c) {
  Vec top = load(columns);
  for (int64_t k = 1; k < c; ++k) top = larger(load(columns + k * kSide), top);
  return top;
}

// Columns of kSide rows become exponentials of what they are above their rows' largest values.
void exp_columns(float* columns, int64_t c, float* tops, float* sums) {
  const Vec top = tops_of(columns, c);
  Vec sum{};
  store(tops, top);
  for (int64_t k = 0; k < c; ++k) {
    const Vec one = fast_exp_below(load(columns + k * kSide) - top);
    store(columns + k * kSide, one);
    sum += one;
  }
  store(sums, sum);
}

// The first rows, as far as they can be taken side by side: f(columns of a, of b) turns b's into
// y's. Returns how many they are.
template <class F>
int64_t side_by_side(const float* a, const float* b, int64_t rows, int64_t c, float* y, F f) {
  float first[kNarrow * kSide], second[kNarrow * kSide];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kSide) {
    transpose(a + r * c, c, kSide, c, first, kSide);
    transpose(b + r * c, c, kSide, c, second, kSide);
    f(first, second);
    transpose(second, kSide, c, kSide, y + r * c, c);
  }
  return r;
}

}  // namespace

void log_sums(const float* x, int64_t rows, int64_t c, float* y) {
  float columns[kNarrow * kSide], tops[kSide], sums[kSide];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kSide) {
    transpose(x + r * c, c, kSide, c, columns, kSide);
    exp_columns(columns, c, tops, sums);
#pragma GCC ivdep
    for (int64_t i = 0; i < kSide; ++i) y[r + i] = tops[i] + fast_log(sums[i]);
  }
  for (; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, nullptr, c, &top);
    y[r] = top + fast_log(sum);
  }
}

void scaled_softmax(const float* x, const float* factors, float* y, float* log_sums, int64_t rows,
                    int64_t c) {
  float columns[kNarrow * kSide], tops[kSide], sums[kSide];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kSide) {
    transpose(x + r * c, c, kSide, c, columns, kSide);
    exp_columns(columns, c, tops, sums);
    if (log_sums != nullptr)
#pragma GCC ivdep
      for (int64_t i = 0; i < kSide; ++i) log_sums[r + i] = tops[i] + fast_log(sums[i]);
#pragma GCC ivdep
    for (int64_t i = 0; i < kSide; ++i)
      sums[i] = (factors == nullptr ? 1.0f : factors[r + i]) / sums[i];
    for (int64_t k = 0; k < c; ++k)
#pragma GCC ivdep
      for (int64_t i = 0; i < kSide; ++i) columns[k * kSide + i] *= sums[i];
    transpose(columns, kSide, c, kSide, y + r * c, c);
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
  int64_t r = side_by_side(y, gy, rows, c, gx, [c](const float* out, float* g) {
    Vec dot{};
    for (int64_t k = 0; k < c; ++k) dot += load(out + k * kSide) * load(g + k * kSide);
    for (int64_t k = 0; k < c; ++k)
      store(g + k * kSide, load(out + k * kSide) * (load(g + k * kSide) - dot));
  });
  for (; r < rows; ++r) {
    const float *out = y + r * c, *g = gy + r * c;
    const auto dot = static_cast<float>(sum_of(c, [=](int64_t k) { return out[k] * g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = y[r * c + k] * (gy[r * c + k] - dot);
  }
}

void log_softmax(const float* x, float* y, int64_t rows, int64_t c) {
  float columns[kNarrow * kSide], sums[kSide];
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kSide) {
    transpose(x + r * c, c, kSide, c, columns, kSide);
    const Vec top = tops_of(columns, c);
    Vec sum{};
    for (int64_t k = 0; k < c; ++k) sum += fast_exp_below(load(columns + k * kSide) - top);
    store(sums, sum);
#pragma GCC ivdep
    for (int64_t i = 0; i < kSide; ++i) sums[i] = fast_log(sums[i]);
    for (int64_t k = 0; k < c; ++k)
      store(columns + k * kSide, load(columns + k * kSide) - top - load(sums));
    transpose(columns, kSide, c, kSide, y + r * c, c);
  }
  for (; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, nullptr, c, &top), log_sum = fast_log(sum);
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) y[r * c + k] = x[r * c + k] - top - log_sum;
  }
}

void log_softmax_gradient(const float* y, const float* gy, float* gx, int64_t rows, int64_t c) {
  int64_t r = side_by_side(y, gy, rows, c, gx, [c](const float* out, float* g) {
    Vec sum{};
    for (int64_t k = 0; k < c; ++k) sum += load(g + k * kSide);
    for (int64_t k = 0; k < c; ++k)
      store(g + k * kSide, load(g + k * kSide) - fast_exp_below(load(out + k * kSide)) * sum);
  });
  for (; r < rows; ++r) {
    const float* g = gy + r * c;
    const auto sum = static_cast<float>(sum_of(c, [g](int64_t k) { return g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = gy[r * c + k] - fast_exp(y[r * c + k]) * sum;
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
