// The losses of ir/losses.def, weighted and summed.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

enum {
#define L(name, ...) k_##name,
#include "ir/losses.def"
#undef L
};

template <int kKind>
inline float value(float a, float y, float t) {
  const float d = y - t, size = __builtin_fabsf(d);
  switch (kKind) {
    case k_mae:
      return size;
    case k_mse:
      return d * d;
    case k_sigmoid_cross_entropy:
      return (y < 0.0f ? 0.0f : y) - y * t + fast_log1p(fast_exp(-__builtin_fabsf(y)));
    case k_categorical_cross_entropy:
      return t == 0.0f ? 0.0f : -t * fast_log(y);
    case k_hinge: {
      const float l = 1.0f - (2.0f * t - 1.0f) * y;
      return l < 0.0f ? 0.0f : l;
    }
    case k_huber:
      return size > a ? a * (size - 0.5f * a) : 0.5f * d * d;
    case k_log:
      return -t * fast_log(y + a) - (1.0f - t) * fast_log(1.0f - y + a);
    default:
      return t == 0.0f ? 0.0f : t * (fast_log(t) - y);
  }
}

template <int kKind>
inline float slope(float a, float y, float t) {
  const float d = y - t;
  switch (kKind) {
    case k_mae:
      return d > 0.0f ? 1.0f : (d < 0.0f ? -1.0f : d);
    case k_mse:
      return 2.0f * d;
    case k_sigmoid_cross_entropy:
      return fast_sigmoid(y) - t;
    case k_categorical_cross_entropy:
      return t == 0.0f ? 0.0f : -t / y;
    case k_hinge:
      return 1.0f - (2.0f * t - 1.0f) * y > 0.0f ? 1.0f - 2.0f * t : 0.0f;
    case k_huber:
      return d > a ? a : (d < -a ? -a : d);
    case k_log:
      return (1.0f - t) / (1.0f - y + a) - t / (y + a);
    default:
      return -t;
  }
}

template <int kKind>
double forward(const LossParams& p, const float* x, const float* t, const float* w, float* l,
               int64_t n) {
  if (w == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) l[i] = value<kKind>(p.a, x[i], p.keep * t[i] + p.add);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float one = w[i] * value<kKind>(p.a, x[i], p.keep * t[i] + p.add);
      l[i] = w[i] == 0.0f ? 0.0f : one;
    }
  }
  return sum_of(n, [l](int64_t i) { return l[i]; });
}

template <int kKind>
void backward(const LossParams& p, const float* x, const float* t, const float* w, float factor,
              float* gx, int64_t n) {
  if (w == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) gx[i] = factor * slope<kKind>(p.a, x[i], p.keep * t[i] + p.add);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float one = factor * w[i] * slope<kKind>(p.a, x[i], p.keep * t[i] + p.add);
      gx[i] = w[i] == 0.0f ? 0.0f : one;
    }
  }
}

}  // namespace

double element_loss(const LossParams& p, const float* x, const float* t, const float* w, float* l,
                    int64_t n) {
  static constexpr decltype(&forward<0>) kForward[] = {
#define L(name, ...) forward<k_##name>,
#include "ir/losses.def"
#undef L
  };
  return kForward[p.kind](p, x, t, w, l, n);
}

void element_loss_gradient(const LossParams& p, const float* x, const float* t, const float* w,
                           float factor, float* gx, int64_t n) {
  static constexpr decltype(&backward<0>) kBackward[] = {
#define L(name, ...) backward<k_##name>,
#include "ir/losses.def"
#undef L
  };
  kBackward[p.kind](p, x, t, w, factor, gx, n);
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
