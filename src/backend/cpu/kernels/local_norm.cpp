// Normalisation by windows: sums over them, and what is made of these.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

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

namespace {

template <bool kSquares>
void box_sums_of(const float* x, const BoxShape& s, double* row, double* out) {
  const int64_t width = s.w * s.c;
  for (int64_t i = 0; i < s.h; ++i) {
    const int64_t first = i < s.before ? 0 : i - s.before,
                  last = i + s.after < s.h ? i + s.after : s.h - 1;
    for (int64_t q = first; q <= last; ++q)
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) {
        const auto v = static_cast<double>(x[q * width + k]);
        row[k] = (q == first ? 0.0 : row[k]) + (kSquares ? v * v : v);
      }
    double* to = out + i * width;
    memset(to, 0, static_cast<size_t>(width) * sizeof(double));
    for (int64_t d = -s.before; d <= s.after; ++d) {
      const int64_t from = d < 0 ? -d : 0, until = d > 0 ? s.w - d : s.w;
#pragma GCC ivdep
      for (int64_t k = from * s.c; k < until * s.c; ++k) to[k] += row[k + d * s.c];
    }
  }
}

}  // namespace

void box_sums(const float* x, bool squares, const BoxShape& s, double* row, double* out) {
  squares ? box_sums_of<true>(x, s, row, out) : box_sums_of<false>(x, s, row, out);
}

void contrast_terms(const float* x, const double* squares, const ContrastParams& p, int64_t n,
                    double* means, float* u, float* d) {
  const double share = 1 / p.area;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const double mean = means[i] * share;
    means[i] = mean;
    u[i] = static_cast<float>(p.delta + p.alpha * (squares[i] * share - mean * mean));
    d[i] = static_cast<float>(static_cast<double>(x[i]) - p.p0 * mean);
  }
}

void contrast_mixed(const float* h, const float* q, const double* means, const ContrastParams& p,
                    int64_t n, float* mixed) {
  const double by_h = -p.p0 * p.ps, by_q = -2 * p.by;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    mixed[i] = static_cast<float>(by_h * static_cast<double>(h[i]) +
                                  by_q * static_cast<double>(q[i]) * means[i]);
}

void contrast_gradient(const float* x, const float* h, const double* mixed, const double* q,
                       const ContrastParams& p, int64_t n, float* gx) {
  const double share = 1 / p.area, by_q = 2 * p.by * share;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    gx[i] = static_cast<float>(p.ps * static_cast<double>(h[i]) + mixed[i] * share +
                               by_q * static_cast<double>(x[i]) * q[i]);
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
