// conv2d: weight (out, kh, kw, in / groups), images (N, H, W, C).
#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

struct Geometry {
  explicit Geometry(Call& c) {
    const Shape &x = c.x_shape(0), &w = c.x_shape(1), &y = c.y_shape();
    n = x[0], h = x[1], wd = x[2], ci = x[3], oh = y[1], ow = y[2], co = w[0], kh = w[1], kw = w[2];
    groups = c.attrs().integer("groups");
    const auto &s = c.attrs().integers("stride"), &d = c.attrs().integers("dilation"),
               &p = c.attrs().integers("pads");
    sh = s[0], sw = s[1], dh = d[0], dw = d[1], top = p[0], left = p[1];
    ig = ci / groups, og = co / groups;
  }
  // Calls f(x index, weight index, y index) for every product of the convolution of output channel
  // o.
  template <class F>
  void taps(int64_t b, int64_t i, int64_t j, int64_t o, F f) const {
    const int64_t yi = ((b * oh + i) * ow + j) * co + o, first = o / og * ig;
    for (int64_t ky = 0; ky < kh; ++ky) {
      const int64_t r = i * sh - top + ky * dh;
      if (r < 0 || r >= h) continue;
      for (int64_t kx = 0; kx < kw; ++kx) {
        const int64_t q = j * sw - left + kx * dw;
        if (q < 0 || q >= wd) continue;
        const int64_t xi = ((b * h + r) * wd + q) * ci + first, wi = ((o * kh + ky) * kw + kx) * ig;
        for (int64_t k = 0; k < ig; ++k) f(xi + k, wi + k, yi);
      }
    }
  }
  template <class F>
  void outputs(F f) const {
    for (int64_t b = 0; b < n; ++b)
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j)
          for (int64_t o = 0; o < co; ++o) f(b, i, j, o);
  }
  int64_t n, h, wd, ci, oh, ow, co, kh, kw, groups, sh, sw, dh, dw, top, left, ig, og;
};

}  // namespace

void conv2d(Call& c) {
  const Geometry g(c);
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *bias = c.has_x(2) ? c.x(2) : nullptr;
  double* y = c.y(0);
  g.outputs([&](int64_t b, int64_t i, int64_t j, int64_t o) {
    double sum = 0;
    g.taps(b, i, j, o, [&](int64_t xi, int64_t wi, int64_t) { sum = c.add(sum, x[xi] * w[wi]); });
    if (bias != nullptr) sum += bias[o];
    y[((b * g.oh + i) * g.ow + j) * g.co + o] = epilogue.apply(sum);
  });
}

void conv2d_gradient(Call& c) {
  const Geometry g(c);
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *gy = c.gy(0), *y = c.y(0);
  double *gx = c.gx(0), *gw = c.gx(1), *gb = c.node().nx > 2 ? c.gx(2) : nullptr;
  g.outputs([&](int64_t b, int64_t i, int64_t j, int64_t o) {
    const int64_t at = ((b * g.oh + i) * g.ow + j) * g.co + o;
    const double d = y == nullptr ? gy[at] : gy[at] * epilogue.slope(y[at]);
    if (gb != nullptr) gb[o] += d;
    g.taps(b, i, j, o, [&](int64_t xi, int64_t wi, int64_t) {
      if (gx != nullptr) gx[xi] = c.add(gx[xi], d * w[wi]);
      if (gw != nullptr) gw[wi] = c.add(gw[wi], d * x[xi]);
    });
  });
}

}  // namespace mpsnn::backend::reference
