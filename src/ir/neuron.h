// The neuron functions (MPSCNNNeuron types): f(x) and f'(x), the latter also from y = f(x) where
// that is possible, which is what fusion needs.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

namespace mpsnn::ir {

enum class Neuron : uint8_t { none, relu, leaky_relu, sigmoid, tanh };

Neuron parse_neuron(std::string_view name);  // ValueError
const char* name_of(Neuron kind);

// `a` is the slope of leaky_relu.
template <class T>
T neuron(Neuron kind, T x, T a) {
  switch (kind) {
    case Neuron::none:
      return x;
    case Neuron::relu:
      return x > T(0) || x != x ? x : T(0);  // NaN passes
    case Neuron::leaky_relu:
      return x > T(0) ? x : a * x;
    case Neuron::sigmoid:
      return T(1) / (T(1) + std::exp(-x));
    case Neuron::tanh:
      return std::tanh(x);
  }
  return x;
}

// f' from the output; leaky_relu with a < 0 has none (gradient_from_output says so).
template <class T>
T neuron_slope(Neuron kind, T y, T a) {
  switch (kind) {
    case Neuron::none:
      return T(1);
    case Neuron::relu:
      return y > T(0) ? T(1) : T(0);
    case Neuron::leaky_relu:
      return y > T(0) ? T(1) : a;
    case Neuron::sigmoid:
      return y * (T(1) - y);
    case Neuron::tanh:
      return T(1) - y * y;
  }
  return T(1);
}

inline bool gradient_from_output(Neuron kind, double a) {
  return kind != Neuron::leaky_relu || a > 0;
}

}  // namespace mpsnn::ir
