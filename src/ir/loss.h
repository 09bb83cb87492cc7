// The losses of losses.def: l(y, t) and its derivative by y. At kinks they follow PyTorch; 0 log 0
// is 0.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "mpsnn/attrs.h"

namespace mpsnn::ir {

enum class Loss : uint8_t {
#define L(name, ...) name,
#include "ir/losses.def"
#undef L
};

struct LossSpec {
  Loss kind = Loss::mse;
  double a = 0;
};

// Of an element_loss node: attributes `kind`, `a`. ValueError.
LossSpec loss_of(const Attrs& attrs);

// Whether targets may be class indices.
inline bool classifies(Loss kind) {
  return kind == Loss::sigmoid_cross_entropy || kind == Loss::categorical_cross_entropy ||
         kind == Loss::hinge || kind == Loss::log;
}

inline double element_loss(const LossSpec& s, double y, double t) {
  const double d = y - t, size = std::fabs(d);
  switch (s.kind) {
    case Loss::mae:
      return size;
    case Loss::mse:
      return d * d;
    case Loss::sigmoid_cross_entropy:
      return (y < 0 ? 0 : y) - y * t + std::log1p(std::exp(-std::fabs(y)));
    case Loss::categorical_cross_entropy:
      return t == 0 ? 0 : -t * std::log(y);
    case Loss::hinge: {
      const double l = 1 - (2 * t - 1) * y;
      return l < 0 ? 0 : l;
    }
    case Loss::huber:
      return size > s.a ? s.a * (size - 0.5 * s.a) : 0.5 * d * d;
    case Loss::log:
      return -t * std::log(y + s.a) - (1 - t) * std::log(1 - y + s.a);
    case Loss::kl_divergence:
      return t == 0 ? 0 : t * (std::log(t) - y);
  }
  return 0;
}

inline double element_loss_slope(const LossSpec& s, double y, double t) {
  const double d = y - t;
  switch (s.kind) {
    case Loss::mae:
      return d > 0 ? 1 : d < 0 ? -1 : d;
    case Loss::mse:
      return 2 * d;
    case Loss::sigmoid_cross_entropy:
      return 1 / (1 + std::exp(-y)) - t;
    case Loss::categorical_cross_entropy:
      return t == 0 ? 0 : -t / y;
    case Loss::hinge:
      return 1 - (2 * t - 1) * y > 0 ? 1 - 2 * t : 0;
    case Loss::huber:
      return d > s.a ? s.a : d < -s.a ? -s.a : d;
    case Loss::log:
      return (1 - t) / (1 - y + s.a) - t / (y + s.a);
    case Loss::kl_divergence:
      return -t;
  }
  return 0;
}

}  // namespace mpsnn::ir
