#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void neuron(Call& c) {
  const auto kind = ir::parse_neuron(c.attrs().text("kind"));
  const double a = c.attrs().number("a");
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) c.y(0)[i] = ir::neuron(kind, c.x(0)[i], a);
}

void neuron_gradient(Call& c) {
  const auto kind = ir::parse_neuron(c.attrs().text("kind"));
  const double a = c.attrs().number("a");
  const int64_t n = count(c.y_shape());
  const double *x = c.x(0), *y = c.y(0), *gy = c.gy(0);
  double* gx = c.gx(0);
  for (int64_t i = 0; i < n; ++i) {
    // Only a leaky ReLU with a slope of at most 0 comes with x: its output does not tell the side.
    const double slope = y != nullptr ? ir::neuron_slope(kind, y[i], a) : (x[i] > 0 ? 1.0 : a);
    gx[i] = gy[i] * slope;
  }
}

}  // namespace mpsnn::backend::reference
