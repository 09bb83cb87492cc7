// batch_norm by our own kernels: rows are split over the threads, partial sums added in order. A
// fused rectifier is part of the kernels; other neurons work on tiles of rows that stay in cache.
// The gradient computes its output again, which is cheaper than reading it. Both sides may lie in a
// concatenation (Slice). With lengths the kernels see runs of rows that count, and padding becomes
// zero.
#include "backend/cpu/norm.h"

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

// Means and biased variances of the n rows that count; `sums`: of g's parts.
template <class T>
void masked_statistics(const NormGeometry& g, const T* x, const int32_t* lengths, double n,
                       double* sums, float* mean, float* variance) {
  for (float* result : {mean, variance}) {
    const float* centre = result == mean ? nullptr : mean;
    std::memset(sums, 0, g.sums_bytes());
    g.each_part([&](int64_t part) {
      const auto run = [&](int64_t r, int64_t size) {
        images<T>().norm_sums(x + r * g.c, centre, size, g.c, sums + part * g.sums_pitch());
      };
      g.split(lengths, g.first(part), g.first(part + 1), run, g.skip);
    });
    for (int64_t k = 0; k < g.c; ++k) {
      double sum = 0;
      for (int64_t part = 0; part < g.parts; ++part) sum += sums[part * g.sums_pitch() + k];
      result[k] = static_cast<float>(sum / n);
    }
  }
}

template <class T>
KernelPtr forward(Builder& b, const Node& node) {
  const NormGeometry g(b.shape(node.x(0)));
  const NormNeuron behind(node);
  const bool training = node.attrs.flag("training");
  const auto epsilon = node.attrs.number("epsilon");
  const auto x = b.read<T>(node.x(0)), weight = b.in(node.x(1)), bias = b.in(node.x(2)),
             y = b.write<T>(node.y(0)), mean = b.raw(node.state(0)),
             variance = b.raw(node.state(1));
  const auto running_mean = node.nx > 3 ? b.in(node.x(3)) : runtime::Ref(),
             running_variance = node.nx > 4 ? b.in(node.x(4)) : runtime::Ref();
  const auto sizes = node.nx > 5 ? b.raw(node.x(5)) : runtime::Ref(),
             number = node.nx > 5 ? b.raw(node.state(2)) : runtime::Ref();
  const int64_t pitch = b.pitch(node.y(0));
  const auto scale = b.workspace(g.channels(2));
  const auto sums = b.scratch(g.sums_bytes());
  return kernel([=](const runtime::StepContext&) {
    const auto* in = x.template get<T>();
    float *m = mean.get<float>(), *v = variance.get<float>();
    const auto* lengths = sizes.get<int32_t>();
    const double counting = g.counting(lengths);
    if (number) *number.get<float>() = static_cast<float>(counting);
    if (training && lengths != nullptr) {
      masked_statistics(g, in, lengths, std::max(counting, 1.0), sums.get<double>(), m, v);
    } else if (training) {
      statistics(g, in, sums.get<double>(), m, v);
    } else {
      std::memcpy(m, running_mean.get<float>(), g.channels(1) * sizeof(float));
      std::memcpy(v, running_variance.get<float>(), g.channels(1) * sizeof(float));
    }
    float *a = scale.get<float>(), *shift = a + g.c;
    make_affine(g, m, v, epsilon, weight.get<float>(), bias.get<float>(), a, shift);
    g.each_tile(
        [&](int64_t, int64_t first, int64_t rows) {
          auto* out = y.template get<T>();
          g.split(
              lengths, first, first + rows,
              [&](int64_t r, int64_t size) {
                NormRows part = behind.rows(g, size, pitch, a, shift);
                part.past_caches = training && behind.inside && past_caches(g.rows * g.c);
                images<T>().norm_apply(part, in + r * g.c, out + r * pitch);
              },
              [&](int64_t r, int64_t size) {
                for (int64_t i = r; i < r + size; ++i) std::fill_n(out + i * pitch, g.c, T());
              });
          behind.apply(out + first * pitch, rows, g.c, pitch);
        },
        true);
  });
}

template <class T>
KernelPtr gradient(Builder& b, const Node& node) {
  const NormGeometry g(b.shape(node.gy(0)));
  const NormNeuron behind(node);
  const bool training = node.attrs.flag("training");
  const auto epsilon = node.attrs.number("epsilon");
  const auto gy = b.read<T>(node.gy(0)), x = b.read<T>(node.x(0)), weight = b.in(node.x(1)),
             bias = b.in(node.x(2)), mean = training ? b.raw(node.state(0)) : b.in(node.x(3)),
             variance = training ? b.raw(node.state(1)) : b.in(node.x(4)),
             gx = b.write<T>(node.gx(0)), gw = b.out(node.gx(1)), gb = b.out(node.gx(2));
  const auto sizes = node.nx > 5 ? b.raw(node.x(5)) : runtime::Ref();
  const int64_t pitch = b.pitch(node.gy(0));
  const auto factors = b.workspace(g.channels(6));
  const auto sums = b.scratch(g.sums_bytes());
  const auto tiles = behind.inside ? runtime::Ref() : b.workspace(g.channels(2 * g.parts * g.tile));
  return kernel([=](const runtime::StepContext&) {
    const T* in = x.template get<T>();
    const float *m = mean.get<float>(), *v = variance.get<float>();
    float *inverse = factors.get<float>(), *fa = inverse + g.c, *fb = fa + g.c, *fd = fb + g.c,
          *scale = fd + g.c, *shift = scale + g.c;
    for (int64_t k = 0; k < g.c; ++k)
      inverse[k] = static_cast<float>(1 / std::sqrt(static_cast<double>(v[k]) + epsilon));
    if (behind.spec.kind != ir::Neuron::none)
      make_affine(g, m, v, epsilon, weight.get<float>(), bias.get<float>(), scale, shift);
    // The gradient as the kernels take it, of one tile, and the distance of its rows.
    struct Incoming {
      const T* at;
      int64_t pitch;
    };
    const auto incoming = [&](int64_t part, int64_t first, int64_t rows) -> Incoming {
      const T* dy = gy.template get<T>() + first * pitch;
      if (behind.inside) return {dy, pitch};
      T *dz = tiles.template get<T>() + 2 * part * g.tile * g.c, *z = dz + g.tile * g.c;
      images<T>().norm_apply(behind.rows(g, rows, g.c, scale, shift), in + first * g.c, z);
      behind.apply(z, rows, g.c, g.c);
      behind.gradient(dy, pitch, z, rows, g.c, dz);
      return {dz, g.c};
    };
    const auto* lengths = sizes.get<int32_t>();
    auto* both = sums.get<double>();
    std::memset(both, 0, g.sums_bytes());
    g.each_tile([&](int64_t part, int64_t first, int64_t rows) {
      double* s = both + part * g.sums_pitch();
      const Incoming dz = incoming(part, first, rows);
      const auto run = [&](int64_t r, int64_t size) {
        images<T>().norm_dots(behind.rows(g, size, dz.pitch, scale, shift),
                              dz.at + (r - first) * dz.pitch, in + r * g.c, m, inverse, s, s + g.c);
      };
      g.split(lengths, first, first + rows, run, g.skip);
    });
    for (int64_t part = 1; part < g.parts; ++part)
      for (int64_t k = 0; k < 2 * g.c; ++k) both[k] += both[part * g.sums_pitch() + k];
    const double n = std::max(g.counting(lengths), 1.0);
    for (int64_t k = 0; k < g.c; ++k) {
      const NormSlopes s(both[k], both[g.c + k], n, weight.get<float>()[k], inverse[k], m[k]);
      if (gb) gb.get<float>()[k] = s.bias;
      if (gw) gw.get<float>()[k] = s.weight;
      fa[k] = s.by_gradient;
      fb[k] = training ? s.by_source : 0.0f;
      fd[k] = training ? s.more : 0.0f;
    }
    if (!gx) return;
    g.each_tile(
        [&](int64_t part, int64_t first, int64_t rows) {
          const Incoming dz = incoming(part, first, rows);
          auto* to = gx.template get<T>();
          g.split(
              lengths, first, first + rows,
              [&](int64_t r, int64_t size) {
                images<T>().norm_gradient(behind.rows(g, size, dz.pitch, scale, shift),
                                          dz.at + (r - first) * dz.pitch, in + r * g.c, fa, fb, fd,
                                          to + r * g.c);
              },
              [&](int64_t r, int64_t size) { std::fill_n(to + r * g.c, size * g.c, T()); });
        },
        true);
  });
}

}  // namespace

KernelPtr make_batch_norm(Builder& b, const Node& node) {
  if (node.attrs.flag("pooled", false)) return make_pooled_norm(b, node);
  return by_images(b, node, [&](auto t) {
    return node.gradient ? gradient<decltype(t)>(b, node) : forward<decltype(t)>(b, node);
  });
}

}  // namespace mpsnn::backend::cpu
