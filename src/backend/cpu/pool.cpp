// Pooling by our own kernels: a thread takes rows of output pixels forward, of pixels backward.
#include "backend/cpu/pool.h"

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

PoolShape pool_shape(const Attrs& attrs, const Shape& image, const Shape& out) {
  const auto &k = attrs.integers("kernel"), &s = attrs.integers("stride"),
             &p = attrs.integers("pads"), &d = attrs.integers("dilation");
  const bool tiles = k == s && d[0] == 1 && d[1] == 1 && p[0] == 0 && p[1] == 0 &&
                     out[1] * s[0] == image[1] && out[2] * s[1] == image[2];
  return {image[1], image[2], image[3], out[1], out[2], k[0], k[1], s[0],
          s[1],     p[0],     p[1],     p[2],   p[3],   d[0], d[1], tiles};
}

namespace {

Plane plane(Builder& b, const Node& node) {
  return {node.attrs, b.shape(node.gradient ? node.gx(0) : node.x(0)),
          b.shape(node.gradient ? node.gy(0) : node.y(0))};
}

template <class T>
KernelPtr max_forward(Builder& b, const Node& node) {
  const Plane q = plane(b, node);
  const Epilogue epilogue(node.attrs);
  const auto x = b.read<T>(node.x(0)), y = b.write<T>(node.y(0)), winner = b.raw(node.state(0));
  return kernel([=](const runtime::StepContext&) {
    q.rows([&](int64_t r) {
      T* to = y.template get<T>() + r * q.row;
      images<T>().max_pool(q.p, x.template get<T>() + r / q.p.oh * q.size, r % q.p.oh, nullptr, to,
                           winner ? winner.template get<int32_t>() + r * q.row : nullptr);
      epilogue.apply_here(to, q.row);
    });
  });
}

template <class T>
KernelPtr max_gradient(Builder& b, const Node& node) {
  const Plane q = plane(b, node);
  const Epilogue epilogue(node.attrs);
  const auto gy = b.read<T>(node.gy(0)), y = b.read<T>(node.y(0)), gx = b.write<T>(node.gx(0)),
             winner = b.raw(node.state(0));
  const auto inner = epilogue ? b.workspace(static_cast<std::size_t>(count(q.out))) : gy;
  return kernel([=](const runtime::StepContext&) {
    const auto pixels = [&](int64_t row, const T* g) {
      const int64_t n = row / q.p.h;
      images<T>().max_pool_gradient(q.p, g, winner.template get<int32_t>() + n * q.pooled,
                                    row % q.p.h, gx.template get<T>() + row * q.p.w * q.p.c);
    };
    if (!epilogue)
      return q.pixel_rows(
          [&](int64_t row) { pixels(row, gy.template get<T>() + row / q.p.h * q.pooled); });
    threads::parallel_for(q.out[0], 1 + 16384 / q.size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        T* turned = inner.template get<T>() + begin * q.pooled;  // one image, which stays in cache
        epilogue.gradient_here(gy.template get<T>() + n * q.pooled,
                               y.template get<T>() + n * q.pooled, turned, q.pooled);
        for (int64_t r = 0; r < q.p.h; ++r) pixels(n * q.p.h + r, turned);
      }
    });
  });
}

template <class T>
KernelPtr average(Builder& b, const Node& node) {
  const bool include = node.attrs.flag("count_include_pad");
  const Plane q = plane(b, node);
  if (!node.gradient) {
    const auto x = b.read<T>(node.x(0)), y = b.write<T>(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      q.rows([&](int64_t r) {
        images<T>().avg_pool(q.p, x.template get<T>() + r / q.p.oh * q.size, r % q.p.oh, include,
                             y.template get<T>() + r * q.row);
      });
    });
  }
  const auto gy = b.read<T>(node.gy(0)), gx = b.write<T>(node.gx(0));
  std::vector<runtime::Ref> others;
  for (auto i = static_cast<std::size_t>(node.addends()); i < node.inputs.size(); ++i)
    others.push_back(b.read<T>(node.inputs[i]));
  std::vector<const T*> addends(others.size());
  return kernel([=](const runtime::StepContext&) mutable {
    for (std::size_t i = 0; i < others.size(); ++i) addends[i] = others[i].template get<T>();
    q.pixel_rows([&](int64_t row) {
      const int64_t at = row * q.p.w * q.p.c;
      images<T>().avg_pool_gradient(q.p, gy.template get<T>() + row / q.p.h * q.pooled, row % q.p.h,
                                    include, addends.data(), static_cast<int64_t>(addends.size()),
                                    at, gx.template get<T>() + at);
    });
  });
}

}  // namespace

KernelPtr make_max_pool2d(Builder& b, const Node& node) {
  return by_images(b, node, [&](auto t) {
    return node.gradient ? max_gradient<decltype(t)>(b, node) : max_forward<decltype(t)>(b, node);
  });
}

KernelPtr make_avg_pool2d(Builder& b, const Node& node) {
  return by_images(b, node, [&](auto t) { return average<decltype(t)>(b, node); });
}

KernelPtr make_l2_pool2d(Builder& b, const Node& node) {
  const Plane q = plane(b, node);
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
    q.each_image([&](int64_t n) {
      select().l2_pool_gradient(q.p, gy.get<float>() + n * q.pooled, x.get<float>() + n * q.size,
                                y.get<float>() + n * q.pooled, gx.get<float>() + n * q.size);
    });
  });
}

}  // namespace mpsnn::backend::cpu
