// What poolings share: their shape, and how threads share the work.
#pragma once

#include "backend/cpu/cpu.h"
#include "ir/images.h"

namespace mpsnn::backend::cpu {

PoolShape pool_shape(const Attrs& attrs, const Shape& image, const Shape& out);

// The work of a pooling, and how threads share it.
struct Plane {
  Plane(const Attrs& attrs, const Shape& from, const Shape& to)
      : image(ir::as_image(from)),
        out(ir::as_image(to)),
        p(pool_shape(attrs, image, out)),
        size(p.h * p.w * p.c),
        row(p.ow * p.c),
        pooled(p.oh * row) {}
  // f(number of the row of outputs, or of pixels, in all images) / f(number of the image), shared
  // out to threads.
  template <class F>
  void rows(F f) const {
    threads::parallel_for(out[0] * p.oh, 1 + 16384 / row, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r);
    });
  }
  template <class F>
  void pixel_rows(F f) const {
    threads::parallel_for(out[0] * p.h, 1 + 16384 / (p.w * p.c), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r);
    });
  }
  template <class F>
  void each_image(F f) const {
    threads::parallel_for(out[0], 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n);
    });
  }
  Shape image, out;
  PoolShape p;
  int64_t size, row, pooled;  // of an image, of a row of outputs, of all outputs of an image
};

}  // namespace mpsnn::backend::cpu
