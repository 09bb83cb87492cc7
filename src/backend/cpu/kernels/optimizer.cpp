// The fused updates: each reads a gradient once, and reads and writes weight and moments once.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// By value: a store to a weight could alias what a reference reads, and nothing would vectorise.
inline float scaled(const GradientView v, int64_t i) {
  const float g = v.g[i] * v.factor;
  const float low = g < -v.limit ? -v.limit : g;
  return (low > v.limit ? v.limit : low) * v.shrink;
}

}  // namespace

double sum_squares(const GradientView& view, int64_t n) {
  const GradientView v = view;
  constexpr int64_t kBlock = 4096;
  constexpr int kParts = 4;
  double total = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t end = first + kBlock < n ? first + kBlock : n;
    Vec part[kParts] = {};
    int64_t i = first;
    for (; i + kParts * kLanes <= end; i += kParts * kLanes)
      for (int k = 0; k < kParts; ++k) {
        Vec g = load(v.g + i + k * kLanes) * v.factor;
        g = g < -v.limit ? Vec{} - v.limit : g;
        g = g > v.limit ? Vec{} + v.limit : g;
        part[k] += g * g;
      }
    const Vec sum = (part[0] + part[1]) + (part[2] + part[3]);
    float block = 0;
    for (int k = 0; k < kLanes; ++k) block += sum[k];
    for (; i < end; ++i) {
      GradientView one = v;
      one.shrink = 1.0f;
      const float g = scaled(one, i);
      block += g * g;
    }
    total += static_cast<double>(block);
  }
  return total;
}

void accumulate(const float* g, float factor, bool first, float* sum, int64_t n) {
  if (first) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) sum[i] = g[i] * factor;
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) sum[i] += g[i] * factor;
  }
}

void sgd(const SgdStep& step, const GradientView& view, float* w, float* momentum, int64_t n) {
  const SgdStep s = step;
  const GradientView v = view;
  if (momentum == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) w[i] -= s.lr * (scaled(v, i) + s.decay * w[i]);
    return;
  }
  const float keep = s.first ? 0.0f : s.momentum, along = s.nesterov ? s.momentum : 1.0f,
              direct = s.nesterov ? 1.0f : 0.0f;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float g = scaled(v, i) + s.decay * w[i];
    const float b = keep * momentum[i] + s.blend * g;
    momentum[i] = b;
    w[i] -= s.lr * (direct * g + along * b);
  }
}

void adam(const AdamStep& step, const GradientView& view, float* w, float* m, float* second,
          int64_t n) {
  const AdamStep s = step;
  const GradientView v = view;
  const float new1 = 1.0f - s.beta1, new2 = 1.0f - s.beta2, root = 1.0f / s.root_correction2;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float g = scaled(v, i) + s.decay * w[i];
    const float a = s.beta1 * m[i] + new1 * g, b = s.beta2 * second[i] + new2 * g * g;
    m[i] = a;
    second[i] = b;
    w[i] = w[i] * s.keep - s.lr_over_correction * a / (__builtin_sqrtf(b) * root + s.epsilon);
  }
}

void rmsprop(const RmsStep& how, const GradientView& view, float* w, float* square, float* buffer,
             float* mean, int64_t n) {
  const RmsStep s = how;
  const GradientView v = view;
  for (int64_t i = 0; i < n; ++i) {
    const float g = scaled(v, i) + s.decay * w[i];
    const float q = s.alpha * square[i] + (1.0f - s.alpha) * g * g;
    square[i] = q;
    float average = q;
    if (mean != nullptr) {
      mean[i] = s.alpha * mean[i] + (1.0f - s.alpha) * g;
      average -= mean[i] * mean[i];
    }
    float step = g / (__builtin_sqrtf(average) + s.epsilon);
    if (buffer != nullptr) buffer[i] = step = s.momentum * buffer[i] + step;
    w[i] -= s.lr * step;
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
