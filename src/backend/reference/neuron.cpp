#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void neuron(Call& c) {
  const auto kind = ir::parse_neuron(c.attrs().text("kind"));
  const double a = c.attrs().number("a");
  const int64_t n = count(c.y_shape());
  const double* x = c.x(0);
  double* y = c.y(0);
  each(n, 1, [&](int64_t i) { y[i] = ir::neuron(kind, x[i], a); });
}

void neuron_gradient(Call& c) {
  const auto kind = ir::parse_neuron(c.attrs().text("kind"));
  const double a = c.attrs().number("a");
  const int64_t n = count(c.y_shape());
  const double *x = c.x(0), *y = c.y(0), *gy = c.gy(0);
  double* gx = c.gx(0);
  each(n, 1, [&](int64_t i) {
    // Only a leaky ReLU with a slope of at most 0 comes with x: its output does not tell the side.
    const double slope = y != nullptr ? ir::neuron_slope(kind, y[i], a) : (x[i] > 0 ? 1.0 : a);
    gx[i] = gy[i] * slope;
  });
}

}  // namespace mpsnn::backend::reference
