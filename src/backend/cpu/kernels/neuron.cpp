// Neurons (ir/neurons.def) and prelu.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

enum {
#define N(name, ...) k_##name,
#include "ir/neurons.def"
#undef N
};

// The constants of a kind, made from a, b, c before its loop.
struct Constants {
  float a, b, c;
  float base;  // log of the base that c stands for, and its inverse
  float per_base;
  float sign;  // of u^c for u < 0: 1, -1, or NaN where c is no integer
};

float sign_of_power(float c) {
  if (c != __builtin_floorf(c)) return __builtin_nanf("");
  return 0.5f * c == __builtin_floorf(0.5f * c) ? 1.0f : -1.0f;
}

Constants constants(const NeuronParams& p, float power) {
  const float base = p.c == -1.0f ? 1.0f : __builtin_logf(p.c);
  return {p.a, p.b, p.c, base, 1.0f / base, sign_of_power(power)};
}

inline float clamp01(float x) { return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x); }

inline float expm1(float t) {
  const Power e = fast_power_within(t);
  const float y = e.scale * e.rest + (e.scale - 1.0f), most = t > 87.0f ? __builtin_inff() : y;
  return t < -87.0f ? -1.0f : most;
}

inline float power(float u, float c, float sign) {
  const float size = fast_exp(c * fast_log(__builtin_fabsf(u)));
  const float y = u < 0.0f ? sign * size : size;
  const float all = u != u ? u : y;
  return c == 0.0f ? 1.0f : all;
}

// The normal distribution function: 1/2 + x p(x^2) / q(x^2), which was fitted to within 7.2e-9 for
// |x| < 5.5; 0 or 1 beyond. With its rounding it is within 1.8e-7.
inline float normal_below(float x) {
  const float z = x * x;
  float p = 2.27493633e-8f, q = 1.19750314e-6f;
  p = p * z + 6.35210836e-6f, q = q * z + 7.36473958e-5f;
  p = p * z + 1.688255e-4f, q = q * z + 1.88444403e-3f;
  p = p * z + 4.67725983e-3f, q = q * z + 2.86458656e-2f;
  p = p * z + 3.38526368e-2f, q = q * z + 2.51521885e-1f;
  p = p * z + 3.98942232e-1f, q = q * z + 1.0f;
  const float y = x * (p / q) + 0.5f, most = x > 5.5f ? 1.0f : y;
  return x < -5.5f ? 0.0f : most;
}

constexpr float kRootTwoOverPi = 0.797884561f, kCubic = 0.044715f;

template <int kKind>
inline float value(const Constants& s, float x) {
  const float u = s.a * x + s.b;
  switch (kKind) {
    case k_relu:
      return x < 0.0f ? 0.0f : x;  // NaN passes
    case k_leaky_relu:
      return x > 0.0f ? x : s.a * x;
    case k_sigmoid:
      return fast_sigmoid(x);
    case k_tanh:
      return s.a * fast_tanh(s.b * x);
    case k_linear:
      return u;
    case k_hard_sigmoid:
      return clamp01(u);
    case k_absolute:
      return __builtin_fabsf(x);
    case k_softplus: {
      const float t = s.b * x;
      return s.a * ((t > 0.0f ? t : 0.0f) + fast_log1p(fast_exp_below(-__builtin_fabsf(t))));
    }
    case k_softsign:
      return x / (1.0f + __builtin_fabsf(x));
    case k_elu:
      return s.b * (x > 0.0f ? x : s.a * expm1(s.c * x));
    case k_relun: {
      const float t = x > 0.0f ? x : s.a * x;
      return t > s.b ? s.b : t;
    }
    case k_power:
      return power(u, s.c, s.sign);
    case k_exponential:
      return fast_exp(s.base * u);
    case k_logarithm:
      return fast_log(u) * s.per_base;
    case k_gelu:
      return x * normal_below(x);
    case k_gelu_tanh:
      return 0.5f * x * (1.0f + fast_tanh(kRootTwoOverPi * (x + kCubic * x * x * x)));
    case k_hard_swish:
      return x <= -3.0f ? 0.0f : (x >= 3.0f ? x : x * (x * (1.0f / 6) + 0.5f));
    default:
      return x;
  }
}

// f' from v: the output where ir::gradient_from_output, else the input.
template <int kKind>
inline float slope(const Constants& s, float v) {
  const float u = s.a * v + s.b;
  switch (kKind) {
    case k_relu:
      return v > 0.0f ? 1.0f : 0.0f;
    case k_leaky_relu:
      return v > 0.0f ? 1.0f : s.a;
    case k_sigmoid:
      return v * (1.0f - v);
    case k_tanh:
      return s.a == 0.0f ? 0.0f : s.b * (s.a - v * v / s.a);
    case k_linear:
      return s.a;
    case k_hard_sigmoid:
      return u > 0.0f && u < 1.0f ? s.a : 0.0f;
    case k_absolute:
      return v > 0.0f ? 1.0f : (v < 0.0f ? -1.0f : 0.0f);
    case k_softplus:
      return s.a * s.b * fast_sigmoid(s.b * v);
    case k_softsign: {
      const float d = 1.0f + __builtin_fabsf(v);
      return 1.0f / (d * d);
    }
    case k_elu:
      return v > 0.0f ? s.b : s.c * (v + s.a * s.b);
    case k_relun:
      return v > 0.0f ? (v < s.b ? 1.0f : 0.0f) : (s.a * v < s.b ? s.a : 0.0f);
    case k_power:
      return s.a * s.c * power(u, s.c - 1.0f, s.sign);
    case k_exponential:
      return s.a * s.base * v;
    case k_logarithm:
      return s.a / (s.base * u);
    case k_gelu: {
      return normal_below(v) + v * 0.398942280f * fast_exp_below(-0.5f * v * v);
    }
    case k_gelu_tanh: {
      const float t = fast_tanh(kRootTwoOverPi * (v + kCubic * v * v * v));
      return 0.5f * (1.0f + t) +
             0.5f * v * (1.0f - t * t) * kRootTwoOverPi * (1.0f + 3.0f * kCubic * v * v);
    }
    case k_hard_swish:
      return v <= -3.0f ? 0.0f : (v >= 3.0f ? 1.0f : v * (1.0f / 3) + 0.5f);
    default:
      return 1.0f;
  }
}

template <int kKind>
void forward(const NeuronParams& p, const float* x, float* y, int64_t n) {
  const Constants s = constants(p, p.c);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = value<kKind>(s, x[i]);
}

template <int kKind>
void backward(const NeuronParams& p, const float* gy, const float* from, float* gx, int64_t n) {
  const Constants s = constants(p, p.c - 1.0f);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) gx[i] = gy[i] * slope<kKind>(s, from[i]);
}

// An ELU whose output does not tell the side.
void elu_backward(const NeuronParams& p, const float* gy, const float* x, float* gx, int64_t n) {
  const float below = p.a * p.b * p.c;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    gx[i] = gy[i] * (x[i] > 0.0f ? p.b : below * fast_exp(p.c * x[i]));
}

}  // namespace

void neuron(const NeuronParams& p, const float* x, float* y, int64_t n) {
  static constexpr decltype(&forward<0>) kForward[] = {
#define N(name, ...) forward<k_##name>,
#include "ir/neurons.def"
#undef N
  };
  kForward[p.kind](p, x, y, n);
}

void neuron_gradient(const NeuronParams& p, const float* gy, const float* from, float* gx,
                     int64_t n) {
  static constexpr decltype(&backward<0>) kBackward[] = {
#define N(name, ...) backward<k_##name>,
#include "ir/neurons.def"
#undef N
  };
  if (p.kind == k_elu && !(p.a > 0.0f && p.b > 0.0f && p.c > 0.0f))
    return elu_backward(p, gy, from, gx, n);
  if (p.kind == k_power && p.c == 0.0f) {  // a constant, also where u^-1 is infinite
    for (int64_t i = 0; i < n; ++i) gx[i] = gy[i] * 0.0f;
    return;
  }
  kBackward[p.kind](p, gy, from, gx, n);
}

void prelu(const float* slopes, int64_t period, const float* x, float* y, int64_t n) {
  for (int64_t first = 0; first < n; first += period) {
    const int64_t width = n - first < period ? n - first : period;
#pragma GCC ivdep
    for (int64_t k = 0; k < width; ++k) {
      const float v = x[first + k];
      y[first + k] = v > 0.0f ? v : slopes[k] * v;
    }
  }
}

void prelu_gradient(const float* slopes, int64_t period, const float* gy, const float* x, float* gx,
                    double* sums, int64_t n) {
  for (int64_t first = 0; first < n; first += period) {
    const int64_t width = n - first < period ? n - first : period;
    const float *g = gy + first, *v = x + first;
    if (sums != nullptr) {
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k)
        sums[k] += static_cast<double>(v[k] > 0.0f ? 0.0f : g[k] * v[k]);
    }
    if (gx != nullptr) {
#pragma GCC ivdep
      for (int64_t k = 0; k < width; ++k) gx[first + k] = v[k] > 0.0f ? g[k] : slopes[k] * g[k];
    }
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
