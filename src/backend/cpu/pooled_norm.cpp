// batch_norm in training with max-pooling behind it (Pattern::pooled_norm). A channel's values keep
// their order through scale and rectifier, or turn it around where the scale is negative, so each
// window's value is chosen from the source; what follows sees a value a window. The gradient has as
// many terms: both its sums are over the values chosen, and one pass over the pixels is left.
#include "backend/cpu/lambda.h"
#include "backend/cpu/norm.h"
#include "backend/cpu/pool.h"

namespace mpsnn::backend::cpu {
namespace {

template <class T>
KernelPtr forward(Builder& b, const Node& node) {
  const NormGeometry g(b.shape(node.x(0)));
  const Plane q(node.attrs, b.shape(node.x(0)), b.shape(node.y(0)));
  const NormNeuron behind(node);
  const auto epsilon = node.attrs.number("epsilon");
  const auto x = b.read<T>(node.x(0)), weight = b.in(node.x(1)), bias = b.in(node.x(2)),
             y = b.write<T>(node.y(0)), mean = b.raw(node.state(0)),
             variance = b.raw(node.state(1)), winner = b.raw(node.state(2)),
             chosen = b.write<T>(node.state(3));
  const int64_t pitch = b.pitch(node.y(0));
  const auto channels = b.workspace(g.channels(3));
  const auto sums = b.scratch(g.sums_bytes());
  return kernel([=](const runtime::StepContext&) {
    const auto* in = x.template get<T>();
    const auto* gamma = weight.template get<float>();
    auto *m = mean.template get<float>(), *v = variance.template get<float>();
    statistics(g, in, sums.template get<double>(), m, v);
    float *a = channels.template get<float>(), *shift = a + g.c, *signs = shift + g.c;
    make_affine(g, m, v, epsilon, gamma, bias.template get<float>(), a, shift);
    for (int64_t k = 0; k < g.c; ++k)
      signs[k] = static_cast<float>(gamma[k] > 0) - static_cast<float>(gamma[k] < 0);
    q.rows([&](int64_t r) {
      T* values = chosen.template get<T>() + r * q.row;
      images<T>().max_pool(q.p, in + r / q.p.oh * q.size, r % q.p.oh, signs, values,
                           winner ? winner.template get<int32_t>() + r * q.row : nullptr);
      images<T>().norm_apply(behind.rows(g, q.p.ow, pitch, a, shift), values,
                             y.template get<T>() + r * q.p.ow * pitch);
    });
  });
}

template <class T>
KernelPtr gradient(Builder& b, const Node& node) {
  const NormGeometry g(b.shape(node.x(0))), pooled(b.shape(node.gy(0)));
  const Plane q(node.attrs, b.shape(node.x(0)), b.shape(node.gy(0)));
  const NormNeuron behind(node);
  const auto epsilon = node.attrs.number("epsilon");
  const auto gy = b.read<T>(node.gy(0)), x = b.read<T>(node.x(0)), weight = b.in(node.x(1)),
             bias = b.in(node.x(2)), mean = b.raw(node.state(0)), variance = b.raw(node.state(1)),
             winner = b.raw(node.state(2)), chosen = b.read<T>(node.state(3)),
             gx = b.write<T>(node.gx(0)), gw = b.out(node.gx(1)), gb = b.out(node.gx(2));
  const int64_t pitch = b.pitch(node.gy(0)), parts = threads::team();
  const auto channels = b.workspace(g.channels(8));
  const auto sums = b.scratch(pooled.sums_bytes());
  const auto inner = b.workspace(static_cast<std::size_t>(count(q.out))),
             pixels = b.workspace(static_cast<std::size_t>(parts * q.p.w * g.c));
  return kernel([=](const runtime::StepContext&) {
    const T *dy = gy.template get<T>(), *values = chosen.template get<T>();
    const float *m = mean.template get<float>(), *v = variance.template get<float>(),
                *gamma = weight.template get<float>();
    float *inverse = channels.template get<float>(), *fa = inverse + g.c, *fb = fa + g.c,
          *fd = fb + g.c, *scale = fd + g.c, *shift = scale + g.c, *ones = shift + g.c,
          *zeros = ones + g.c;
    for (int64_t k = 0; k < g.c; ++k)
      inverse[k] = static_cast<float>(1 / std::sqrt(static_cast<double>(v[k]) + epsilon));
    if (bias) make_affine(g, m, v, epsilon, gamma, bias.template get<float>(), scale, shift);
    std::fill_n(ones, g.c, 1.0f);
    std::fill_n(zeros, g.c, 0.0f);
    auto* both = sums.template get<double>();
    std::memset(both, 0, pooled.sums_bytes());
    T* dz = inner.template get<T>();
    pooled.each_tile([&](int64_t part, int64_t first, int64_t rows) {
      double* s = both + part * pooled.sums_pitch();
      const NormRows tile = behind.rows(g, rows, pitch, scale, shift);
      const T *from = dy + first * pitch, *at = values + first * g.c;
      images<T>().norm_dots(tile, from, at, m, inverse, s, s + g.c);
      images<T>().norm_gradient(tile, from, at, ones, zeros, zeros, dz + first * g.c);
    });
    for (int64_t part = 1; part < pooled.parts; ++part)
      for (int64_t k = 0; k < 2 * g.c; ++k) both[k] += both[part * pooled.sums_pitch() + k];
    for (int64_t k = 0; k < g.c; ++k) {
      const NormSlopes s(both[k], both[g.c + k], static_cast<double>(g.rows), gamma[k], inverse[k],
                         m[k]);
      if (gb) gb.template get<float>()[k] = s.bias;
      if (gw) gw.template get<float>()[k] = s.weight;
      fa[k] = s.by_gradient;
      fb[k] = s.by_source;
      fd[k] = s.more;
    }
    if (!gx) return;
    const int64_t all = q.out[0] * q.p.h, row = q.p.w * g.c;
    const NormRows plain{q.p.w, g.c, g.c, nullptr, nullptr, 0, 0};
    threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        T* line = pixels.template get<T>() + part * row;
        for (int64_t r = all * part / parts; r < all * (part + 1) / parts; ++r) {
          const int64_t n = r / q.p.h * q.pooled;
          images<T>().max_pool_gradient(q.p, dz + n, winner.template get<int32_t>() + n, r % q.p.h,
                                        line);
          images<T>().norm_gradient(plain, line, x.template get<T>() + r * row, fa, fb, fd,
                                    gx.template get<T>() + r * row);
        }
      }
    });
  });
}

}  // namespace

KernelPtr make_pooled_norm(Builder& b, const Node& node) {
  return by_images(b, node, [&](auto t) {
    return node.gradient ? gradient<decltype(t)>(b, node) : forward<decltype(t)>(b, node);
  });
}

}  // namespace mpsnn::backend::cpu
