// Normalisation and softmax over rows of c values.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Row sums are kept in float over a few rows, then added to the doubles.
constexpr int64_t kFlush = 64, kColumns = 256;

template <class F>
void sums_of(int64_t rows, int64_t c, double* sums, F term) {
  for (int64_t c0 = 0; c0 < c; c0 += kColumns) {
    const int64_t width = c - c0 < kColumns ? c - c0 : kColumns;
    for (int64_t r0 = 0; r0 < rows; r0 += kFlush) {
      float part[kColumns] = {};
      const int64_t r1 = r0 + kFlush < rows ? r0 + kFlush : rows;
      for (int64_t r = r0; r < r1; ++r)
#pragma GCC ivdep
        for (int64_t k = 0; k < width; ++k) part[k] += term(r * c + c0 + k, c0 + k);
      for (int64_t k = 0; k < width; ++k) sums[c0 + k] += static_cast<double>(part[k]);
    }
  }
}

}  // namespace

void norm_sums(const float* x, const float* mean, int64_t rows, int64_t c, double* sums) {
  if (mean == nullptr) {
    sums_of(rows, c, sums, [x](int64_t at, int64_t) { return x[at]; });
    return;
  }
  sums_of(rows, c, sums, [x, mean](int64_t at, int64_t k) {
    const float d = x[at] - mean[k];
    return d * d;
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
  sums_of(rows, c, sums, [gy](int64_t at, int64_t) { return gy[at]; });
  sums_of(rows, c, dots, [gy, x, mean, inverse](int64_t at, int64_t k) {
    return gy[at] * ((x[at] - mean[k]) * inverse[k]);
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
  constexpr int64_t kWidth = 16;
  float tops[kWidth];
  for (float& top : tops) top = x[0];
  int64_t i = 0;
  for (; i + kWidth <= c; i += kWidth)
#pragma GCC ivdep
    for (int64_t k = 0; k < kWidth; ++k) tops[k] = x[i + k] > tops[k] ? x[i + k] : tops[k];
  float top = x[0];
  for (; i < c; ++i) top = x[i] > top ? x[i] : top;
  for (const float one : tops) top = one > top ? one : top;
#pragma GCC ivdep
  for (int64_t k = 0; k < c; ++k) y[k] = fast_exp(x[k] - top);
  *most = top;
  return static_cast<float>(sum_of(c, [y](int64_t k) { return y[k]; }));
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
    const float sum = exp_row(x + r * c, y + r * c, c, &top), log_sum = fast_log(sum);
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
