// resize2d and pad2d: each pixel is blended from at most four of the source, or padding.
#include "ir/resample.h"

#include "backend/reference/reference.h"
#include "ir/images.h"

namespace mpsnn::backend::reference {
namespace {

struct Samples {
  explicit Samples(Call& c)
      : x(ir::image_sizes(c.x_shape(0))),
        y(ir::image_sizes(c.y_shape())),
        how(ir::resampling_of(c.node().op, c.attrs())) {
    if (c.node().op != Op::pad2d) return;
    const auto& sides = c.attrs().integers("sides");
    top = sides[0], left = sides[1];
  }
  // f(index of the output pixel, its row's and column's sample) for every pixel of image b.
  template <class F>
  void pixels(int64_t b, F f) const {
    for (int64_t i = 0; i < y[1]; ++i)
      for (int64_t j = 0; j < y[2]; ++j)
        f((b * y[1] + i) * y[2] + j, ir::sample(how, i, x[1], y[1], top),
          ir::sample(how, j, x[2], y[2], left));
  }
  // g(index of the source's pixel, its weight) for those that make an output pixel of image b.
  template <class G>
  void sources(int64_t b, const ir::Sample& r, const ir::Sample& q, G g) const {
    if (r.low < 0 || q.low < 0) return;
    const auto at = [&](int64_t row, int64_t column) { return (b * x[1] + row) * x[2] + column; };
    g(at(r.low, q.low), (1 - r.part) * (1 - q.part));
    if (q.part > 0) g(at(r.low, q.high), (1 - r.part) * q.part);
    if (r.part > 0) g(at(r.high, q.low), r.part * (1 - q.part));
    if (r.part > 0 && q.part > 0) g(at(r.high, q.high), r.part * q.part);
  }
  std::array<int64_t, 4> x, y;
  ir::Resampling how;
  int64_t top = 0, left = 0;
};

}  // namespace

void resize2d(Call& c) {
  const Samples s(c);
  const int64_t ch = s.x[3];
  const double fill = c.attrs().number("value", 0.0);
  each(s.x[0], s.y[1] * s.y[2] * ch, [&](int64_t b) {
    s.pixels(b, [&](int64_t pixel, const ir::Sample& r, const ir::Sample& q) {
      double* to = c.y(0) + pixel * ch;
      std::fill_n(to, ch, r.low < 0 || q.low < 0 ? fill : 0.0);
      s.sources(b, r, q, [&](int64_t source, double weight) {
        for (int64_t k = 0; k < ch; ++k) to[k] += weight * c.x(0)[source * ch + k];
      });
    });
  });
}

void resize2d_gradient(Call& c) {
  const Samples s(c);
  const int64_t ch = s.x[3];
  each(s.x[0], s.y[1] * s.y[2] * ch, [&](int64_t b) {
    s.pixels(b, [&](int64_t pixel, const ir::Sample& r, const ir::Sample& q) {
      s.sources(b, r, q, [&](int64_t source, double weight) {
        for (int64_t k = 0; k < ch; ++k)
          c.gx(0)[source * ch + k] += weight * c.gy(0)[pixel * ch + k];
      });
    });
  });
}

void pad2d(Call& c) { resize2d(c); }
void pad2d_gradient(Call& c) { resize2d_gradient(c); }

}  // namespace mpsnn::backend::reference
