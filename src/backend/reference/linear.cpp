// linear over the last axis: weight (out, in).
#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void linear(Call& c) {
  const int64_t out = c.x_shape(1)[0], in = c.x_shape(1)[1], rows = count(c.x_shape(0)) / in;
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *bias = c.has_x(2) ? c.x(2) : nullptr;
  double* y = c.y(0);
  each(rows * out, in, [&](int64_t at) {
    const int64_t r = at / out, o = at % out;
    double sum = 0;
    for (int64_t k = 0; k < in; ++k) sum = c.add(sum, x[r * in + k] * w[o * in + k]);
    if (bias != nullptr) sum = c.add(sum, bias[o]);
    y[at] = epilogue.apply(sum);
  });
}

void linear_gradient(Call& c) {
  const int64_t out = c.x_shape(1)[0], in = c.x_shape(1)[1], rows = count(c.x_shape(0)) / in;
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *gy = c.gy(0), *y = c.y(0);
  double *gx = c.gx(0), *gw = c.gx(1), *gb = c.node().nx > 2 ? c.gx(2) : nullptr;
  const auto inside = [&](int64_t at) {
    return y == nullptr ? gy[at] : gy[at] * epilogue.slope(y[at]);
  };
  if (gx != nullptr)
    each(rows, out * in, [&](int64_t r) {
      for (int64_t o = 0; o < out; ++o) {
        const double d = inside(r * out + o);
        for (int64_t k = 0; k < in; ++k) gx[r * in + k] = c.add(gx[r * in + k], d * w[o * in + k]);
      }
    });
  if (gw == nullptr && gb == nullptr) return;
  each(out, rows * in, [&](int64_t o) {
    for (int64_t r = 0; r < rows; ++r) {
      const double d = inside(r * out + o);
      if (gb != nullptr) gb[o] = c.add(gb[o], d);
      if (gw == nullptr) continue;
      for (int64_t k = 0; k < in; ++k) gw[o * in + k] = c.add(gw[o * in + k], d * x[r * in + k]);
    }
  });
}

}  // namespace mpsnn::backend::reference
