// The neuron functions of neurons.def: f(x) and f'(x). The derivative of some comes from y = f(x),
// which is what fusion needs; of the others from x. At kinks they follow PyTorch.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "mpsnn/attrs.h"

namespace mpsnn::ir {

enum class Neuron : uint8_t {
#define N(name, ...) name,
#include "ir/neurons.def"
#undef N
};

struct NeuronSpec {
  Neuron kind = Neuron::none;
  double a = 0, b = 0, c = 0;
};

const char* name_of(Neuron kind);

// Of a neuron node: attributes `kind`, `a`, `b`, `c`; or of the node that a neuron is fused into:
// `neuron`, `neuron_a`... Absent parameters have their defaults. ValueError.
NeuronSpec neuron_of(const Attrs& attrs);
NeuronSpec epilogue_of(const Attrs& attrs);

// Whether f' can be had from y alone; from x alone otherwise.
inline bool gradient_from_output(const NeuronSpec& s) {
  switch (s.kind) {
    case Neuron::none:
    case Neuron::relu:
    case Neuron::sigmoid:
    case Neuron::linear:
    case Neuron::exponential:
      return true;
    case Neuron::leaky_relu:
      return s.a > 0;
    case Neuron::tanh:
      return s.a != 0;
    case Neuron::elu:
      return s.a > 0 && s.b > 0 && s.c > 0;
    case Neuron::relun:  // y meets b only where every dtype holds it, as the 6 of ReLU6
      return s.a >= 0 && s.b > 0 && s.b <= 256 && s.b == std::floor(s.b);
    default:
      return false;
  }
}

// The natural logarithm of the base that c stands for.
inline double log_base(double c) { return c == -1 ? 1 : std::log(c); }

inline double neuron(const NeuronSpec& s, double x) {
  const double linear = s.a * x + s.b;
  switch (s.kind) {
    case Neuron::none:
      return x;
    case Neuron::relu:
      return x < 0 ? 0 : x;  // NaN passes
    case Neuron::leaky_relu:
      return x > 0 ? x : s.a * x;
    case Neuron::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Neuron::tanh:
      return s.a * std::tanh(s.b * x);
    case Neuron::linear:
      return linear;
    case Neuron::hard_sigmoid:
      return linear < 0 ? 0 : linear > 1 ? 1 : linear;
    case Neuron::absolute:
      return std::fabs(x);
    case Neuron::softplus: {
      const double t = s.b * x;
      return s.a * ((t > 0 ? t : 0) + std::log1p(std::exp(-std::fabs(t))));
    }
    case Neuron::softsign:
      return x / (1 + std::fabs(x));
    case Neuron::elu:
      return s.b * (x > 0 ? x : s.a * std::expm1(s.c * x));
    case Neuron::relun: {
      const double t = x > 0 ? x : s.a * x;
      return t > s.b ? s.b : t;
    }
    case Neuron::power:
      return std::pow(linear, s.c);
    case Neuron::exponential:
      return std::exp(log_base(s.c) * linear);
    case Neuron::logarithm:
      return std::log(linear) / log_base(s.c);
    case Neuron::gelu:
      return 0.5 * x * std::erfc(-x * 0.70710678118654752);
    case Neuron::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case Neuron::hard_swish:
      return x <= -3 ? 0 : x >= 3 ? x : x * (x / 6 + 0.5);
  }
  return x;
}

// f' from y where gradient_from_output, else from x.
inline double neuron_slope(const NeuronSpec& s, double v) {
  const double linear = s.a * v + s.b;
  switch (s.kind) {
    case Neuron::none:
      return 1;
    case Neuron::relu:
      return v > 0 ? 1 : 0;
    case Neuron::leaky_relu:
      return v > 0 ? 1 : s.a;
    case Neuron::sigmoid:
      return v * (1 - v);
    case Neuron::tanh:
      return s.a == 0 ? 0 : s.b * (s.a - v * v / s.a);
    case Neuron::linear:
      return s.a;
    case Neuron::hard_sigmoid:
      return linear > 0 && linear < 1 ? s.a : 0;
    case Neuron::absolute:
      return v > 0 ? 1 : v < 0 ? -1 : 0;
    case Neuron::softplus:
      return s.a * s.b / (1 + std::exp(-s.b * v));
    case Neuron::softsign:
      return 1 / ((1 + std::fabs(v)) * (1 + std::fabs(v)));
    case Neuron::elu:
      if (v > 0) return s.b;
      return gradient_from_output(s) ? s.c * (v + s.a * s.b) : s.a * s.b * s.c * std::exp(s.c * v);
    case Neuron::relun:
      if (v > 0) return v < s.b ? 1 : 0;
      return s.a * v < s.b ? s.a : 0;
    case Neuron::power:
      return s.c == 0 ? 0 : s.a * s.c * std::pow(linear, s.c - 1);
    case Neuron::exponential:
      return s.a * log_base(s.c) * v;
    case Neuron::logarithm:
      return s.a / (log_base(s.c) * linear);
    case Neuron::gelu:
      return 0.5 * std::erfc(-v * 0.70710678118654752) +
             v * 0.39894228040143268 * std::exp(-0.5 * v * v);
    case Neuron::gelu_tanh: {
      const double t = std::tanh(0.79788456080286536 * (v + 0.044715 * v * v * v));
      return 0.5 * (1 + t) +
             0.5 * v * (1 - t * t) * 0.79788456080286536 * (1 + 3 * 0.044715 * v * v);
    }
    case Neuron::hard_swish:
      return v <= -3 ? 0 : v >= 3 ? 1 : v / 3 + 0.5;
  }
  return 1;
}

}  // namespace mpsnn::ir
