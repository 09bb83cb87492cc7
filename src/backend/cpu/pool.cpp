// Pooling by our own kernels: a thread takes rows of output pixels forward, images backward.
#include "backend/cpu/lambda.h"
#include "ir/images.h"

namespace mpsnn::backend::cpu {
namespace {

PoolShape pool_shape(const Attrs& attrs, const Shape& image, const Shape& out) {
  const auto &k = attrs.integers("kernel"), &s = attrs.integers("stride"),
             &p = attrs.integers("pads"), &d = attrs.integers("dilation");
  const bool tiles = k == s && d[0] == 1 && d[1] == 1 && p[0] == 0 && p[1] == 0 &&
                     out[1] * s[0] == image[1] && out[2] * s[1] == image[2];
  return {image[1], image[2], image[3], out[1], out[2], k[0], k[1], s[0],
          s[1],     p[0],     p[1],     p[2],   p[3],   d[0], d[1], tiles};
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
  int64_t size, row, pooled;  // of an image, of a row of outputs, of all outputs of an image
};

// T: float, or the bits of a bfloat16.
void pool_row(const PoolShape& p, const float* x, int64_t i, float* y, int32_t* winner) {
  select().max_pool(p, x, i, y, winner);
}
void pool_row(const PoolShape& p, const uint16_t* x, int64_t i, uint16_t* y, int32_t* winner) {
  select().max_pool_bfloat(p, x, i, y, winner);
}
void pool_gradient(const PoolShape& p, const float* gy, const int32_t* winner, float* gx) {
  select().max_pool_gradient(p, gy, winner, gx);
}
void pool_gradient(const PoolShape& p, const uint16_t* gy, const int32_t* winner, uint16_t* gx) {
  select().max_tiles_gradient_bfloat(p, gy, winner, gx);
}

template <class T>
KernelPtr max_forward(Builder& b, const Node& node, const Plane& q, runtime::Ref x,
                      runtime::Ref y) {
  const Epilogue epilogue(node.attrs);
  const auto winner = b.raw(node.state(0));
  return kernel([=](const runtime::StepContext&) {
    q.rows([&](int64_t r) {
      T* to = y.get<T>() + r * q.row;
      pool_row(q.p, x.get<T>() + r / q.p.oh * q.size, r % q.p.oh, to,
               winner ? winner.get<int32_t>() + r * q.row : nullptr);
      epilogue.apply_here(to, q.row);
    });
  });
}

template <class T>
KernelPtr max_gradient(Builder& b, const Node& node, const Plane& q, runtime::Ref gy,
                       runtime::Ref y, runtime::Ref gx) {
  const Epilogue epilogue(node.attrs);
  const auto winner = b.raw(node.state(0)),
             inner = epilogue ? b.workspace(static_cast<std::size_t>(count(q.out))) : gy;
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(q.out[0], 1 + 16384 / q.size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T* g = gy.get<T>() + n * q.pooled;
        if (epilogue) {
          T* turned = inner.get<T>() + begin * q.pooled;  // one image, which stays in cache
          epilogue.gradient_here(g, y.get<T>() + n * q.pooled, turned, q.pooled);
          g = turned;
        }
        pool_gradient(q.p, g, winner.get<int32_t>() + n * q.pooled, gx.get<T>() + n * q.size);
      }
    });
  });
}

}  // namespace

KernelPtr make_max_pool2d(Builder& b, const Node& node) {
  const Plane q(b, node);
  if (!node.gradient)
    return b.bfloat(node) ? max_forward<uint16_t>(b, node, q, b.raw(node.x(0)), b.raw(node.y(0)))
                          : max_forward<float>(b, node, q, b.in(node.x(0)), b.out(node.y(0)));
  if (b.bfloat(node) && q.p.tiles)
    return max_gradient<uint16_t>(b, node, q, b.raw(node.gy(0)), b.raw(node.y(0)),
                                  b.raw(node.gx(0)));
  return max_gradient<float>(b, node, q, b.in(node.gy(0)), b.in(node.y(0)), b.out(node.gx(0)));
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
