// conv2d and conv_transpose2d: weight (out, kh, kw, in / groups), images (N, H, W, C). They differ
// only in which pixel a tap meets.
#include <cmath>

#include "backend/reference/reference.h"
#include "ir/images.h"

namespace mpsnn::backend::reference {
namespace {

struct Geometry {
  explicit Geometry(Call& c) : transposed(c.node().op == Op::conv_transpose2d) {
    const auto x = ir::image_sizes(c.x_shape(0)), w = ir::image_sizes(c.x_shape(1)),
               y = ir::image_sizes(c.y_shape());
    n = x[0], h = x[1], wd = x[2], ci = x[3], oh = y[1], ow = y[2], co = w[0], kh = w[1], kw = w[2];
    groups = c.attrs().integer("groups");
    const auto &s = c.attrs().integers("stride"), &d = c.attrs().integers("dilation"),
               &p = c.attrs().integers("pads");
    sh = s[0], sw = s[1], dh = d[0], dw = d[1], top = p[0], left = p[1];
    ig = ci / groups, og = co / groups;
  }
  // The input's pixel that tap k of output pixel i meets, along one axis; -1 for none.
  int64_t meets(int64_t i, int64_t k, int64_t size, int64_t stride, int64_t pad) const {
    int64_t at = transposed ? i + pad - k : i * stride - pad + k;
    if (transposed) at = at % stride == 0 ? at / stride : -1;
    return at < size ? at : -1;
  }
  // f(x index, weight index) for every product of one output of channel o.
  template <class F>
  void taps(int64_t b, int64_t i, int64_t j, int64_t o, F f) const {
    const int64_t first = o / og * ig;
    for (int64_t ky = 0; ky < kh; ++ky) {
      const int64_t r = meets(i, ky * dh, h, sh, top);
      if (r < 0) continue;
      for (int64_t kx = 0; kx < kw; ++kx) {
        const int64_t q = meets(j, kx * dw, wd, sw, left);
        if (q < 0) continue;
        const int64_t xi = ((b * h + r) * wd + q) * ci + first, wi = ((o * kh + ky) * kw + kx) * ig;
        for (int64_t k = 0; k < ig; ++k) f(xi + k, wi + k);
      }
    }
  }
  // f(index of the output, i, j) for every pixel of image b.
  template <class F>
  void pixels(int64_t b, F f) const {
    for (int64_t i = 0; i < oh; ++i)
      for (int64_t j = 0; j < ow; ++j) f(((b * oh + i) * ow + j) * co, i, j);
  }
  int64_t terms() const { return kh * kw * ig; }  // of one output
  bool transposed;
  int64_t n, h, wd, ci, oh, ow, co, kh, kw, groups, sh, sw, dh, dw, top, left, ig, og;
};

}  // namespace

void conv2d(Call& c) {
  const Geometry g(c);
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *bias = c.has_x(2) ? c.x(2) : nullptr;
  // A batch-norm folded in (compile/passes/fuse.cpp).
  const bool folded = c.has_x(3);
  const double *weight = folded ? c.x(3) : nullptr, *shift = folded ? c.x(4) : nullptr,
               *mean = folded ? c.x(5) : nullptr, *variance = folded ? c.x(6) : nullptr;
  const double epsilon = c.attrs().number("epsilon", 0.0);
  double* y = c.y(0);
  each(g.n * g.oh * g.ow, g.co * g.terms(), [&](int64_t pixel) {
    const int64_t b = pixel / (g.oh * g.ow), i = pixel / g.ow % g.oh, j = pixel % g.ow;
    for (int64_t o = 0; o < g.co; ++o) {
      double sum = 0;
      g.taps(b, i, j, o, [&](int64_t xi, int64_t wi) { sum = c.add(sum, x[xi] * w[wi]); });
      if (bias != nullptr) sum = c.add(sum, bias[o]);
      if (folded) sum = (sum - mean[o]) * weight[o] / std::sqrt(variance[o] + epsilon) + shift[o];
      y[pixel * g.co + o] = epilogue.apply(sum);
    }
  });
}

void conv2d_gradient(Call& c) {
  const Geometry g(c);
  const Epilogue epilogue(c.attrs());
  const double *x = c.x(0), *w = c.x(1), *gy = c.gy(0), *y = c.y(0);
  double *gx = c.gx(0), *gw = c.gx(1), *gb = c.node().nx > 2 ? c.gx(2) : nullptr;
  const auto inside = [&](int64_t at) {
    return y == nullptr ? gy[at] : gy[at] * epilogue.slope(y[at]);
  };
  const int64_t pixels = g.oh * g.ow;
  if (gx != nullptr)
    each(g.n, pixels * g.co * g.terms(), [&](int64_t b) {
      g.pixels(b, [&](int64_t first, int64_t i, int64_t j) {
        for (int64_t o = 0; o < g.co; ++o) {
          const double d = inside(first + o);
          g.taps(b, i, j, o, [&](int64_t xi, int64_t wi) { gx[xi] = c.add(gx[xi], d * w[wi]); });
        }
      });
    });
  if (gw == nullptr && gb == nullptr) return;
  each(g.co, g.n * pixels * g.terms(), [&](int64_t o) {
    for (int64_t b = 0; b < g.n; ++b)
      g.pixels(b, [&](int64_t first, int64_t i, int64_t j) {
        const double d = inside(first + o);
        if (gb != nullptr) gb[o] = c.add(gb[o], d);
        if (gw == nullptr) return;
        g.taps(b, i, j, o, [&](int64_t xi, int64_t wi) { gw[wi] = c.add(gw[wi], d * x[xi]); });
      });
  });
}

void conv_transpose2d(Call& c) { conv2d(c); }
void conv_transpose2d_gradient(Call& c) { conv2d_gradient(c); }

}  // namespace mpsnn::backend::reference
