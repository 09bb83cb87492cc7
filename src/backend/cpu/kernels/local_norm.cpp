// Normalisation of rows by themselves, and by windows.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// The sums of g w, and of g w (x - m): by lanes over a few hundred terms, then in double.
template <bool kWeighted>
void sum_and_dot(const float* g, const float* w, const float* x, float m, int64_t n, double& sum,
                 double& dot) {
  constexpr int64_t kFlush = 512;
  sum = dot = 0;
  int64_t i = 0;
  while (i + kLanes <= n) {
    const int64_t last = i + kFlush < n ? i + kFlush : n;
    Vec sums{}, dots{};
    for (; i + kLanes <= last; i += kLanes) {
      const Vec v = kWeighted ? load(g + i) * load(w + i) : load(g + i);
      sums += v;
      dots += v * (load(x + i) - m);
    }
    sum += static_cast<double>(fold_sum(sums));
    dot += static_cast<double>(fold_sum(dots));
  }
  for (; i < n; ++i) {
    const float v = kWeighted ? g[i] * w[i] : g[i];
    sum += static_cast<double>(v);
    dot += static_cast<double>(v * (x[i] - m));
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

namespace {

// kRows rows at a time. Also adds to the sums that the gradients by weight and bias are.
template <bool kWeighted, bool kSums, int kRows>
void layer_norm_rows(const float* g, const float* x, const float* w, const float* mean,
                     const float* inverse, int64_t c, float* gx, float* dots, float* sums) {
  float m[kRows], scale[kRows], s[kRows], d[kRows];  // gx = scale (g w - s - d (x - m))
  for (int r = 0; r < kRows; ++r) {
    double sum, dot;
    m[r] = mean[r];
    scale[r] = inverse[r];
    sum_and_dot<kWeighted>(g + r * c, w, x + r * c, m[r], c, sum, dot);
    const auto square = static_cast<double>(scale[r]) * static_cast<double>(scale[r]);
    s[r] = static_cast<float>(sum / static_cast<double>(c));
    d[r] = static_cast<float>(dot * square / static_cast<double>(c));
  }
  int64_t k = 0;
  for (; k + kLanes <= c; k += kLanes) {
    Vec by_weight{}, by_bias{};
    const Vec weight = kWeighted ? load(w + k) : Vec{};
    for (int r = 0; r < kRows; ++r) {
      const Vec one = load(g + r * c + k), off = load(x + r * c + k) - m[r];
      store(gx + r * c + k, scale[r] * ((kWeighted ? one * weight : one) - s[r] - off * d[r]));
      by_weight += one * (off * scale[r]);
      by_bias += one;
    }
    if (kSums) {
      store(dots + k, load(dots + k) + by_weight);
      store(sums + k, load(sums + k) + by_bias);
    }
  }
  for (; k < c; ++k)
    for (int r = 0; r < kRows; ++r) {
      const float one = g[r * c + k], off = x[r * c + k] - m[r];
      gx[r * c + k] = scale[r] * ((kWeighted ? one * w[k] : one) - s[r] - off * d[r]);
      if (kSums) {
        dots[k] += one * (off * scale[r]);
        sums[k] += one;
      }
    }
}

template <bool kWeighted, bool kSums>
void layer_norm_all(const float* g, const float* x, const float* w, const float* mean,
                    const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                    float* sums) {
  constexpr int kRows = 4;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    layer_norm_rows<kWeighted, kSums, kRows>(g + r * c, x + r * c, w, mean + r, inverse + r, c,
                                             gx + r * c, dots, sums);
  for (; r < rows; ++r)
    layer_norm_rows<kWeighted, kSums, 1>(g + r * c, x + r * c, w, mean + r, inverse + r, c,
                                         gx + r * c, dots, sums);
}

}  // namespace

void layer_norm_gradient(const float* gy, const float* x, const float* w, const float* mean,
                         const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                         float* sums) {
  const auto run = [&](auto kernel) { kernel(gy, x, w, mean, inverse, rows, c, gx, dots, sums); };
  if (w != nullptr)
    return dots != nullptr ? run(layer_norm_all<true, true>) : run(layer_norm_all<true, false>);
  dots != nullptr ? run(layer_norm_all<false, true>) : run(layer_norm_all<false, false>);
}

void layer_norm_weights(const float* gy, const float* x, const float* mean, const float* inverse,
                        int64_t rows, int64_t c, float* dots, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *g = gy + r * c, *in = x + r * c;
    const float m = mean[r], i = inverse[r];
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) {
      dots[k] += g[k] * ((in[k] - m) * i);
      sums[k] += g[k];
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
