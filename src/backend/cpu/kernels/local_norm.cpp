// Normalisation of rows by themselves, and by windows.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// sum = sum of g(k), dot = sum of g(k) h(k).
template <class G, class H>
inline void sum_and_dot(int64_t n, G g, H h, double& sum, double& dot) {
  constexpr int64_t kWidth = 16, kFlush = 512;
  sum = dot = 0;
  int64_t i = 0;
  while (i + kWidth <= n) {
    const int64_t last = i + kFlush < n ? i + kFlush : n;
    float sums[kWidth] = {}, dots[kWidth] = {};
    for (; i + kWidth <= last; i += kWidth)
#pragma GCC ivdep
      for (int64_t k = 0; k < kWidth; ++k) {
        const float v = g(i + k);
        sums[k] += v;
        dots[k] += v * h(i + k);
      }
    sum += static_cast<double>(fold_sum(sums));
    dot += static_cast<double>(fold_sum(dots));
  }
  for (; i < n; ++i) {
    sum += static_cast<double>(g(i));
    dot += static_cast<double>(g(i) * h(i));
  }
}

}  // namespace

void layer_norm(const float* x, const float* w, const float* b, int64_t rows, int64_t c,
                float epsilon, float* y, float* mean, float* inverse) {
  const auto n = static_cast<double>(c);
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * c;
    const auto m = static_cast<float>(sum_of(c, [in](int64_t k) { return in[k]; }) / n);
    const double squares = sum_of(c, [in, m](int64_t k) { return (in[k] - m) * (in[k] - m); });
    const auto v = static_cast<float>(squares / n);
    const float i = 1.0f / __builtin_sqrtf(v + epsilon);
    float* out = y + r * c;
    if (w != nullptr && b != nullptr) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) out[k] = (in[k] - m) * i * w[k] + b[k];
    } else {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) out[k] = (in[k] - m) * i;
      for (int64_t k = 0; w != nullptr && k < c; ++k) out[k] *= w[k];
      for (int64_t k = 0; b != nullptr && k < c; ++k) out[k] += b[k];
    }
    mean[r] = m;
    inverse[r] = i;
  }
}

void layer_norm_gradient(const float* gy, const float* x, const float* w, const float* mean,
                         const float* inverse, int64_t rows, int64_t c, float* gx) {
  const auto n = static_cast<double>(c);
  for (int64_t r = 0; r < rows; ++r) {
    const float *g = gy + r * c, *in = x + r * c;
    const float m = mean[r], i = inverse[r];
    double sum, dot;
    const auto normal = [=](int64_t k) { return (in[k] - m) * i; };
    if (w != nullptr)
      sum_and_dot(c, [=](int64_t k) { return g[k] * w[k]; }, normal, sum, dot);
    else
      sum_and_dot(c, [=](int64_t k) { return g[k]; }, normal, sum, dot);
    const auto s = static_cast<float>(sum / n), d = static_cast<float>(dot / n);
    float* out = gx + r * c;
    if (w != nullptr) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) out[k] = i * (g[k] * w[k] - s - (in[k] - m) * i * d);
    } else {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) out[k] = i * (g[k] - s - (in[k] - m) * i * d);
    }
  }
}

void layer_norm_weights(const float* gy, const float* x, const float* mean, const float* inverse,
                        int64_t rows, int64_t c, double* gw, double* gb) {
  constexpr int64_t kFlush = 64, kColumns = 256;
  for (int64_t c0 = 0; c0 < c; c0 += kColumns) {
    const int64_t width = c - c0 < kColumns ? c - c0 : kColumns;
    for (int64_t r0 = 0; r0 < rows; r0 += kFlush) {
      float dots[kColumns] = {}, sums[kColumns] = {};
      const int64_t r1 = r0 + kFlush < rows ? r0 + kFlush : rows;
      for (int64_t r = r0; r < r1; ++r) {
        const float *g = gy + r * c + c0, *in = x + r * c + c0;
        const float m = mean[r], i = inverse[r];
#pragma GCC ivdep
        for (int64_t k = 0; k < width; ++k) {
          dots[k] += g[k] * ((in[k] - m) * i);
          sums[k] += g[k];
        }
      }
      for (int64_t k = 0; k < width; ++k) {
        gw[c0 + k] += static_cast<double>(dots[k]);
        gb[c0 + k] += static_cast<double>(sums[k]);
      }
    }
  }
}

void window_sum(const float* v, int64_t n, int64_t size, float a, float k, float* y) {
  constexpr int64_t kBlock = 64;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t width = n - first < kBlock ? n - first : kBlock;
    float sum[kBlock] = {};
    for (int64_t j = 0; j < size; ++j)
#pragma GCC ivdep
      for (int64_t i = 0; i < width; ++i) sum[i] += v[first + i + j];
    for (int64_t i = 0; i < width; ++i) y[first + i] = k + a * sum[i];
  }
}

void local_scale(const float* x, const float* u, float beta, float* y, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * fast_exp(-beta * fast_log(u[i]));
}

void local_terms(const float* g, const float* x, const float* u, float beta, float* direct,
                 float* through, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = g[i] * fast_exp(-beta * fast_log(u[i]));
    direct[i] = scaled;
    through[i] = scaled * x[i] / u[i];
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
