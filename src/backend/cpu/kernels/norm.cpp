// Normalisation and softmax over rows of c values.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Row sums are kept in float over a block of rows, then added to the doubles.
constexpr int64_t kFlush = 64, kColumns = 128;

// f(first row, rows, first column, columns)
template <class F>
void each_block(int64_t rows, int64_t c, F f) {
  for (int64_t c0 = 0; c0 < c; c0 += kColumns)
    for (int64_t r0 = 0; r0 < rows; r0 += kFlush)
      f(r0, rows - r0 < kFlush ? rows - r0 : kFlush, c0, c - c0 < kColumns ? c - c0 : kColumns);
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

// A block is read twice while it is in the first cache, and joins the others by the formula of
// Chan, Golub and LeVeque (1983): one pass over memory with the accuracy of two.
void norm_moments(const float* x, int64_t rows, int64_t c, double* mean, double* squares) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float sum[kColumns] = {}, rest[kColumns] = {}, square[kColumns] = {};
    const float* first = x + r0 * c + c0;
    for (int64_t r = 0; r < n; ++r)
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) sum[k] += first[r * c + k];
    const auto share = 1.0f / static_cast<float>(n);
    for (int64_t k = 0; k < width; ++k) sum[k] *= share;
    for (int64_t r = 0; r < n; ++r)
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) {
        const float d = first[r * c + k] - sum[k];
        rest[k] += d;
        square[k] += d * d;
      }
    const auto before = static_cast<double>(r0), more = static_cast<double>(n), all = before + more;
#pragma GCC ivdep
    for (int64_t k = 0; k < width; ++k) {
      const double off = static_cast<double>(rest[k]) / more;  // what rounding left of the mean
      const double here = static_cast<double>(sum[k]) + off;
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
  for (int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) y[r * c + k] = x[r * c + k] * scale[k] + shift[k];
}

void norm_dots(const float* gy, const float* x, const float* mean, const float* inverse,
               int64_t rows, int64_t c, double* sums, double* dots) {
  each_block(rows, c, [=](int64_t r0, int64_t n, int64_t c0, int64_t width) {
    float sum[kColumns] = {}, dot[kColumns] = {};
    for (int64_t r = r0; r < r0 + n; ++r) {
      const float *g = gy + r * c + c0, *v = x + r * c + c0;
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) {
        sum[k] += g[k];
        dot[k] += g[k] * ((v[k] - mean[c0 + k]) * inverse[c0 + k]);
      }
    }
    for (int64_t k = 0; k < width; ++k) {
      sums[c0 + k] += static_cast<double>(sum[k]);
      dots[c0 + k] += static_cast<double>(dot[k]);
    }
  });
}

void norm_gradient(const float* gy, const float* x, const float* a, const float* b, const float* d,
                   int64_t rows, int64_t c, float* gx) {
  for (int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k)
      gx[r * c + k] = gy[r * c + k] * a[k] + x[r * c + k] * b[k] + d[k];
}

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
  for (int64_t k = 0; k < kWidth; ++k) part[k] = last[k] = fast_exp(last[k] - top);
  if (y != nullptr)
    for (int64_t k = 0; k < rest; ++k) y[whole + k] = last[k];
  double sum = 0;
  for (int64_t i = 0; i < whole;) {
    const int64_t end = i + kFlush < whole ? i + kFlush : whole;
    for (; y != nullptr && i < end; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) part[k] += y[i + k] = fast_exp(x[i + k] - top);
    for (; i < end; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) part[k] += fast_exp(x[i + k] - top);
    if (end == whole) break;
    sum += static_cast<double>(fold_sum(part));
    for (float& p : part) p = 0.0f;
  }
  *most = top;
  return static_cast<float>(sum + static_cast<double>(fold_sum(part)));
}

void softmax(const float* x, float* y, int64_t rows, int64_t c) {
  for (int64_t r = 0; r < rows; ++r) {
    float top;
    const float share = 1.0f / exp_row(x + r * c, y + r * c, c, &top);
    for (int64_t k = 0; k < c; ++k) y[r * c + k] *= share;
  }
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
