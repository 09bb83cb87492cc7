// Pooling by our own kernels: a thread takes rows of output pixels forward, images backward.
#include "backend/cpu/lambda.h"
#include "ir/images.h"

namespace mpsnn::backend::cpu {
namespace {

PoolShape pool_shape(const Attrs& attrs, const Shape& image, const Shape& out) {
  const auto &k = attrs.integers("kernel"), &s = attrs.integers("stride"),
             &p = attrs.integers("pads"), &d = attrs.integers("dilation");
  return {image[1], image[2], image[3], out[1], out[2], k[0], k[1], s[0],
          s[1],     p[0],     p[1],     p[2],   p[3],   d[0], d[1]};
}

// The work of a pooling, and how threads share it.
struct Plane {
  Plane(Builder& b, const Node& node)
      : image(ir::as_image(b.shape(node.gradient ? node.gx(0) : node.x(0)))),
        out(ir::as_image(b.shape(node.gradient ? node.gy(0) : node.y(0)))),
        p(pool_shape(node.attrs, image, out)),
        size(p.h * p.w * p.c),
        row(p.ow * p.c),
        pooled(p.oh * row) {}
  // f(number of the row in all images) / f(number of the image), shared out to threads.
  template <class F>
  void rows(F f) const {
    threads::parallel_for(out[0] * p.oh, 1 + 16384 / row, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r);
    });
  }
  template <class F>
  void images(F f) const {
    threads::parallel_for(out[0], 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n);
    });
  }
  Shape image, out;
  PoolShape p;
  int64_t size, row, pooled;  // floats of an image, of a row of outputs, of all outputs of an image
};

}  // namespace

KernelPtr make_max_pool2d(Builder& b, const Node& node) {
  const Epilogue epilogue(node.attrs);
  if (!node.gradient) {
    const Shape image = ir::as_image(b.shape(node.x(0))), out = ir::as_image(b.shape(node.y(0)));
    const PoolShape p = pool_shape(node.attrs, image, out);
    const auto x = b.in(node.x(0)), y = b.out(node.y(0)), winner = b.raw(node.state(0));
    const int64_t rows = out[0] * p.oh, row = p.ow * p.c, grain = 1 + 16384 / row;
    return kernel([=](const runtime::StepContext&) {
      threads::parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          auto* to = y.get<float>() + r * row;
          select().max_pool(p, x.get<float>() + r / p.oh * p.h * p.w * p.c, r % p.oh, to,
                            winner ? winner.get<int32_t>() + r * row : nullptr);
          if (epilogue) select().neuron(epilogue.params, to, to, row);
        }
      });
    });
  }
  const Shape image = ir::as_image(b.shape(node.gx(0))), out = ir::as_image(b.shape(node.gy(0)));
  const PoolShape p = pool_shape(node.attrs, image, out);
  const auto gy = b.in(node.gy(0)), y = b.in(node.y(0)), gx = b.out(node.gx(0)),
             winner = b.raw(node.state(0));
  const int64_t images = out[0], size = p.h * p.w * p.c, pooled = p.oh * p.ow * p.c;
  const auto inner = epilogue ? b.workspace(static_cast<std::size_t>(count(out))) : gy;
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(images, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const auto* g = gy.get<float>() + n * pooled;
        if (epilogue) {
          auto* turned = inner.get<float>() + begin * pooled;  // one image, which stays in cache
          select().neuron_gradient(epilogue.params, g, y.get<float>() + n * pooled, turned, pooled);
          g = turned;
        }
        select().max_pool_gradient(p, g, winner.get<int32_t>() + n * pooled,
                                   gx.get<float>() + n * size);
      }
    });
  });
}

KernelPtr make_avg_pool2d(Builder& b, const Node& node) {
  const bool include = node.attrs.flag("count_include_pad");
  const Plane q(b, node);
  if (!node.gradient) {
    const auto x = b.in(node.x(0)), y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      q.rows([&](int64_t r) {
        select().avg_pool(q.p, x.get<float>() + r / q.p.oh * q.size, r % q.p.oh, include,
                          y.get<float>() + r * q.row);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    q.images([&](int64_t n) {
      select().avg_pool_gradient(q.p, gy.get<float>() + n * q.pooled, include,
                                 gx.get<float>() + n * q.size);
    });
  });
}

KernelPtr make_l2_pool2d(Builder& b, const Node& node) {
  const Plane q(b, node);
  const auto x = b.in(node.x(0));
  if (!node.gradient) {
    const auto y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      q.rows([&](int64_t r) {
        select().l2_pool(q.p, x.get<float>() + r / q.p.oh * q.size, r % q.p.oh,
                         y.get<float>() + r * q.row);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), y = b.in(node.y(0)), gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    q.images([&](int64_t n) {
      select().l2_pool_gradient(q.p, gy.get<float>() + n * q.pooled, x.get<float>() + n * q.size,
                                y.get<float>() + n * q.pooled, gx.get<float>() + n * q.size);
    });
  });
}

}  // namespace mpsnn::backend::cpu
