// Softmax over rows of c values.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// y = exp(x - max), if y is asked for; returns the sum, and the maximum in `most`.
float exp_row(const float* x, float* y, int64_t c, float* most) {
  constexpr int64_t kWidth = 16, kFlush = 512;
  const int64_t whole = c / kWidth * kWidth, rest = c - whole;
  // What is left of the row, filled up with what is never the largest and has no exponential.
  float last[kWidth], tops[kWidth], part[kWidth];
  for (int64_t k = 0; k < kWidth; ++k)
    tops[k] = last[k] = k < rest ? x[whole + k] : -__builtin_inff();
  for (int64_t i = 0; i < whole; i += kWidth)
#pragma GCC ivdep
    for (int64_t k = 0; k < kWidth; ++k) tops[k] = x[i + k] > tops[k] ? x[i + k] : tops[k];
  const float top = fold(tops, [](float a, float b) { return b > a ? b : a; });
  for (int64_t k = 0; k < kWidth; ++k) part[k] = last[k] = fast_exp_below(last[k] - top);
  if (y != nullptr)
    for (int64_t k = 0; k < rest; ++k) y[whole + k] = last[k];
  double sum = 0;
  for (int64_t i = 0; i < whole;) {
    const int64_t end = i + kFlush < whole ? i + kFlush : whole;
    for (; y != nullptr && i < end; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) part[k] += y[i + k] = fast_exp_below(x[i + k] - top);
    for (; i < end; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) part[k] += fast_exp_below(x[i + k] - top);
    if (end == whole) break;
    sum += static_cast<double>(fold_sum(part));
    for (float& p : part) p = 0.0f;
  }
  *most = top;
  return static_cast<float>(sum + static_cast<double>(fold_sum(part)));
}

// Rows of few values are taken side by side, one to a lane: column k of them is at[k * kSide].
constexpr int64_t kSide = kLanes, kNarrow = 64;

// Columns of kSide rows become exponentials of what they are above their rows' largest values.
void exp_columns(float* at, int64_t c, float* tops, float* sums) {
  Vec top = load(at), sum{};
  for (int64_t k = 1; k < c; ++k) top = larger(load(at + k * kSide), top);
  store(tops, top);
  for (int64_t k = 0; k < c; ++k) {
    float* column = at + k * kSide;
#pragma GCC ivdep
    for (int64_t i = 0; i < kSide; ++i) column[i] = fast_exp_below(column[i] - tops[i]);
    sum += load(column);
  }
  store(sums, sum);
}

}  // namespace

void log_sums(const float* x, int64_t rows, int64_t c, float* y) {
  float columns[kNarrow * kSide], tops[kSide], sums[kSide];
  int64_t r = 0;
  for (; c <= kNarrow && r + kSide <= rows; r += kSide) {
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
  for (; c <= kNarrow && r + kSide <= rows; r += kSide) {
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
  for (int64_t r = 0; r < rows; ++r) {
    const float *out = y + r * c, *g = gy + r * c;
    const auto dot = static_cast<float>(sum_of(c, [=](int64_t k) { return out[k] * g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = y[r * c + k] * (gy[r * c + k] - dot);
  }
}

void log_softmax(const float* x, float* y, int64_t rows, int64_t c) {
  for (int64_t r = 0; r < rows; ++r) {
    float top;
    const float sum = exp_row(x + r * c, nullptr, c, &top), log_sum = fast_log(sum);
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) y[r * c + k] = x[r * c + k] - top - log_sum;
  }
}

void log_softmax_gradient(const float* y, const float* gy, float* gx, int64_t rows, int64_t c) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* g = gy + r * c;
    const auto sum = static_cast<float>(sum_of(c, [g](int64_t k) { return g[k]; }));
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) gx[r * c + k] = gy[r * c + k] - fast_exp(y[r * c + k]) * sum;
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
