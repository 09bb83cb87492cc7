// Normalisation over rows of c values.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Row sums are kept in float over a block of rows, then added to the doubles.
constexpr int64_t kFlush = 64, kColumns = 128;

// f(first row, rows, first column, columns)
template <class F>
void each_block(int64_t rows, int64_t c, F f) {
  for (int64_t r0 = 0; r0 < rows; r0 += kFlush)
    for (int64_t c0 = 0; c0 < c; c0 += kColumns)
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

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
