// neuron by ir/neuron.h, and prelu: a slope a channel, or one for all.
#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void neuron(Call& c) {
  const ir::NeuronSpec spec = ir::neuron_of(c.attrs());
  const int64_t n = count(c.y_shape());
  const double* x = c.x(0);
  double* y = c.y(0);
  each(n, 10, [&](int64_t i) { y[i] = ir::neuron(spec, x[i]); });
}

void neuron_gradient(Call& c) {
  const ir::NeuronSpec spec = ir::neuron_of(c.attrs());
  const int64_t n = count(c.y_shape());
  const double *from = ir::gradient_from_output(spec) ? c.y(0) : c.x(0), *gy = c.gy(0);
  double* gx = c.gx(0);
  each(n, 10, [&](int64_t i) { gx[i] = gy[i] * ir::neuron_slope(spec, from[i]); });
}

void prelu(Call& c) {
  const int64_t n = count(c.y_shape()), slopes = count(c.x_shape(1));
  const double *x = c.x(0), *slope = c.x(1);
  double* y = c.y(0);
  each(n, 1, [&](int64_t i) { y[i] = x[i] > 0 ? x[i] : slope[i % slopes] * x[i]; });
}

void prelu_gradient(Call& c) {
  const int64_t n = count(c.y_shape()), slopes = count(c.x_shape(1));
  const double *x = c.x(0), *slope = c.x(1), *gy = c.gy(0);
  double *gx = c.gx(0), *gs = c.gx(1);
  if (gx != nullptr)
    each(n, 1, [&](int64_t i) { gx[i] = x[i] > 0 ? gy[i] : slope[i % slopes] * gy[i]; });
  if (gs == nullptr) return;
  each(slopes, n / slopes, [&](int64_t k) {
    for (int64_t i = k; i < n; i += slopes)
      if (!(x[i] > 0)) gs[k] += gy[i] * x[i];
  });
}

}  // namespace mpsnn::backend::reference
