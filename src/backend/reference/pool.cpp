// max_pool2d (state: the winner's index in its image plane, -1 for a window of padding), avg_pool2d
// and l2_pool2d.
#include <cmath>

#include "backend/reference/reference.h"
#include "ir/images.h"

namespace mpsnn::backend::reference {
namespace {

struct Window {
  explicit Window(Call& c) {
    const auto image = ir::image_sizes(c.x_shape(0)), out = ir::image_sizes(c.y_shape());
    const auto &k = c.attrs().integers("kernel"), &s = c.attrs().integers("stride"),
               &p = c.attrs().integers("pads"), &d = c.attrs().integers("dilation");
    n = image[0], h = image[1], w = image[2], ch = image[3], oh = out[1], ow = out[2];
    kh = k[0], kw = k[1], sh = s[0], sw = s[1], top = p[0], left = p[1], dh = d[0], dw = d[1];
    bottom = p[2], right = p[3];
  }
  // f(output index, image, channel, i, j) for every output; threads share out the images.
  template <class F>
  void outputs(F f) const {
    each(n, oh * ow * ch * kh * kw, [&](int64_t b) {
      int64_t at = b * oh * ow * ch;
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j)
          for (int64_t c = 0; c < ch; ++c) f(at++, b, c, i, j);
    });
  }
  // f(index of the pixel in its plane) for every pixel of a window that is in the image.
  template <class F>
  void pixels(int64_t i, int64_t j, F f) const {
    for (int64_t ky = 0; ky < kh; ++ky)
      for (int64_t kx = 0; kx < kw; ++kx) {
        const int64_t r = i * sh - top + ky * dh, q = j * sw - left + kx * dw;
        if (r >= 0 && r < h && q >= 0 && q < w) f(r * w + q);
      }
  }
  int64_t at(int64_t b, int64_t pixel, int64_t c) const { return (b * h * w + pixel) * ch + c; }
  int64_t n, h, w, ch, oh, ow, kh, kw, sh, sw, top, left, bottom, right, dh, dw;
};

}  // namespace

void max_pool2d(Call& c) {
  const Window g(c);
  const Epilogue epilogue(c.attrs());
  const double* x = c.x(0);
  double* y = c.y(0);
  auto* winner = c.raw_state<int32_t>(0);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t i, int64_t j) {
    int64_t best = -1;
    double value = -HUGE_VAL;
    g.pixels(i, j, [&](int64_t pixel) {
      const double v = x[g.at(b, pixel, ch)];
      if (best < 0 || v > value || (v != v && value == value)) value = v, best = pixel;
    });
    y[at] = epilogue.apply(value);
    if (winner != nullptr) winner[at] = static_cast<int32_t>(best);
  });
}

void max_pool2d_gradient(Call& c) {
  const Window g(c);
  const Epilogue epilogue(c.attrs());
  const double *gy = c.gy(0), *y = c.y(0);
  const auto* winner = c.raw_state<int32_t>(0);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t, int64_t) {
    const double d = y == nullptr ? gy[at] : gy[at] * epilogue.slope(y[at]);
    if (winner[at] >= 0) c.gx(0)[g.at(b, winner[at], ch)] += d;
  });
}

namespace {

// One over the pixels that count: those in the image, or in the image and its padding, beyond which
// the last windows may reach.
double share(Call& c, const Window& g, int64_t i, int64_t j) {
  int64_t counted = 0;
  if (c.attrs().flag("count_include_pad"))
    counted = std::min(g.kh, g.h + g.bottom + g.top - i * g.sh) *
              std::min(g.kw, g.w + g.right + g.left - j * g.sw);
  else
    g.pixels(i, j, [&](int64_t) { ++counted; });
  return counted == 0 ? 0 : 1.0 / static_cast<double>(counted);
}

}  // namespace

void avg_pool2d(Call& c) {
  const Window g(c);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t i, int64_t j) {
    double sum = 0;
    g.pixels(i, j, [&](int64_t pixel) { sum += c.x(0)[g.at(b, pixel, ch)]; });
    c.y(0)[at] = sum * share(c, g, i, j);
  });
}

void avg_pool2d_gradient(Call& c) {
  const Window g(c);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t i, int64_t j) {
    const double part = c.gy(0)[at] * share(c, g, i, j);
    g.pixels(i, j, [&](int64_t pixel) { c.gx(0)[g.at(b, pixel, ch)] += part; });
  });
}

void l2_pool2d(Call& c) {
  const Window g(c);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t i, int64_t j) {
    double sum = 0;
    g.pixels(i, j, [&](int64_t pixel) {
      const double v = c.x(0)[g.at(b, pixel, ch)];
      sum += v * v;
    });
    c.y(0)[at] = std::sqrt(sum);
  });
}

void l2_pool2d_gradient(Call& c) {
  const Window g(c);
  g.outputs([&](int64_t at, int64_t b, int64_t ch, int64_t i, int64_t j) {
    const double y = c.y(0)[at];
    if (y == 0) return;  // of a window of zeros
    g.pixels(i, j, [&](int64_t pixel) {
      const int64_t k = g.at(b, pixel, ch);
      c.gx(0)[k] += c.gy(0)[at] * c.x(0)[k] / y;
    });
  });
}

}  // namespace mpsnn::backend::reference
