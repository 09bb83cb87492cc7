// batch_norm by our own kernels: rows are split over the threads, partial sums added in order. A
// fused rectifier is part of the kernels; other neurons work on tiles of rows that stay in cache.
// The gradient computes its output again, which is cheaper than reading it. Both sides may lie in a
// concatenation (Slice). With lengths the kernels see runs of rows that count, and padding becomes
// zero.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

// Rows x channels, in parts of which a thread takes one, in tiles of some 32 KiB.
struct Geometry {
  explicit Geometry(const Shape& x)
      : c(x.back()),
        rows(count(x) / c),
        parts(std::clamp<int64_t>(rows * c / 16384, 1, threads::team())),
        tile(std::max<int64_t>(1, 8192 / c)),
        width(x[x.size() - 2]),
        image(rows / x[0]) {}
  int64_t first(int64_t part) const { return rows * part / parts; }
  template <class F>
  void each_part(F f) const {
    threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) f(part);
    });
  }
  // f(part, first row, rows); the second time from the end of a part, which is still in cache.
  template <class F>
  void each_tile(F f, bool again = false) const {
    each_part([&](int64_t part) {
      const int64_t begin = first(part), end = first(part + 1),
                    tiles = (end - begin + tile - 1) / tile;
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t r = begin + (again ? tiles - 1 - i : i) * tile;
        f(part, r, std::min(tile, end - r));
      }
    });
  }
  // Of the rows begin..end: f(first, count) of each run that counts, g of each that does not.
  template <class F, class G>
  void split(const int32_t* lengths, int64_t begin, int64_t end, F f, G g) const {
    if (lengths == nullptr) return f(begin, end - begin);
    for (int64_t next; begin < end; begin = next) {
      const int64_t start = begin / width * width;
      next = std::min(end, start + width);
      const int64_t padding = std::clamp(start + lengths[begin / image], begin, next);
      if (padding > begin) f(begin, padding - begin);
      if (next > padding) g(padding, next - padding);
    }
  }
  double counting(const int32_t* lengths) const {
    int64_t n = 0;
    split(lengths, 0, rows, [&](int64_t, int64_t size) { n += size; }, skip);
    return static_cast<double>(n);
  }
  std::size_t channels(int64_t n) const { return static_cast<std::size_t>(n * c); }
  static void skip(int64_t, int64_t) {}
  int64_t c, rows, parts, tile, width, image;
};

// Means and biased variances of the n rows that count; `sums`: parts x c doubles.
template <class T>
void masked_statistics(const Geometry& g, const T* x, const int32_t* lengths, double n,
                       double* sums, float* mean, float* variance) {
  for (float* result : {mean, variance}) {
    const float* centre = result == mean ? nullptr : mean;
    std::memset(sums, 0, g.channels(g.parts) * sizeof(double));
    g.each_part([&](int64_t part) {
      const auto run = [&](int64_t r, int64_t size) {
        images<T>().norm_sums(x + r * g.c, centre, size, g.c, sums + part * g.c);
      };
      g.split(lengths, g.first(part), g.first(part + 1), run, g.skip);
    });
    for (int64_t k = 0; k < g.c; ++k) {
      double sum = 0;
      for (int64_t part = 0; part < g.parts; ++part) sum += sums[part * g.c + k];
      result[k] = static_cast<float>(sum / n);
    }
  }
}

// The same of all rows, in one pass; `sums`: parts x 2 x c doubles.
template <class T>
void statistics(const Geometry& g, const T* x, double* sums, float* mean, float* variance) {
  g.each_part([&](int64_t part) {
    double* m = sums + 2 * part * g.c;
    const int64_t r = g.first(part);
    images<T>().norm_moments(x + r * g.c, g.first(part + 1) - r, g.c, m, m + g.c);
  });
  for (int64_t part = 1; part < g.parts; ++part) {  // Chan, Golub, LeVeque 1983
    const auto before = static_cast<double>(g.first(part)),
               more = static_cast<double>(g.first(part + 1)) - before, all = before + more;
    const double *m = sums + 2 * part * g.c, *s = m + g.c;
    for (int64_t k = 0; k < g.c; ++k) {
      const double step = m[k] - sums[k];
      sums[k] += step * more / all;
      sums[g.c + k] += s[k] + step * step * before * more / all;
    }
  }
  for (int64_t k = 0; k < g.c; ++k) {
    mean[k] = static_cast<float>(sums[k]);
    variance[k] = static_cast<float>(sums[g.c + k] / static_cast<double>(g.rows));
  }
}

// y = x a + shift, before the neuron.
void make_affine(const Geometry& g, const float* mean, const float* variance, double epsilon,
                 const float* weight, const float* bias, float* a, float* shift) {
  for (int64_t k = 0; k < g.c; ++k) {
    const double s = weight[k] / std::sqrt(static_cast<double>(variance[k]) + epsilon);
    a[k] = static_cast<float>(s);
    shift[k] = static_cast<float>(bias[k] - static_cast<double>(mean[k]) * s);
  }
}

// The neuron behind the norm: one that the kernels have, or a pass of its own.
struct Behind {
  explicit Behind(const Node& node) : spec(ir::epilogue_of(node.attrs)), pass(node.attrs) {
    inside = spec.kind == ir::Neuron::none || spec.kind == ir::Neuron::relu ||
             spec.kind == ir::Neuron::leaky_relu;
  }
  NormRows rows(const Geometry& g, int64_t n, int64_t pitch, const float* scale,
                const float* shift) const {
    const ir::NeuronSpec own = inside ? spec : ir::NeuronSpec();
    return {n, g.c, pitch, scale, shift, static_cast<int>(own.kind), static_cast<float>(own.a)};
  }
  template <class T>
  void apply(T* y, int64_t rows, int64_t c, int64_t pitch) const {
    if (inside) return;
    runs(rows, c, pitch, [&](int64_t r, int64_t n) { pass.apply_here(y + r * pitch, n); });
  }
  // Of z, whose rows are dense.
  template <class T>
  void gradient(const T* gy, int64_t pitch, const T* z, int64_t rows, int64_t c, T* gz) const {
    runs(rows, c, pitch, [&](int64_t r, int64_t n) {
      pass.gradient_here(gy + r * pitch, z + r * c, gz + r * c, n);
    });
  }
  // f(row, elements): all at once where they lie side by side.
  template <class F>
  static void runs(int64_t rows, int64_t c, int64_t pitch, F f) {
    if (pitch == c) return f(0, rows * c);
    for (int64_t r = 0; r < rows; ++r) f(r, c);
  }
  ir::NeuronSpec spec;
  Epilogue pass;
  bool inside;
};

template <class T>
KernelPtr forward(Builder& b, const Node& node) {
  const Geometry g(b.shape(node.x(0)));
  const Behind behind(node);
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
  const auto sums = b.scratch(g.channels(2 * g.parts) * sizeof(double));
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
                images<T>().norm_apply(behind.rows(g, size, pitch, a, shift), in + r * g.c,
                                       out + r * pitch);
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
  const Geometry g(b.shape(node.gy(0)));
  const Behind behind(node);
  const bool training = node.attrs.flag("training");
  const auto epsilon = node.attrs.number("epsilon");
  const auto gy = b.read<T>(node.gy(0)), x = b.read<T>(node.x(0)), weight = b.in(node.x(1)),
             bias = b.in(node.x(2)), mean = training ? b.raw(node.state(0)) : b.in(node.x(3)),
             variance = training ? b.raw(node.state(1)) : b.in(node.x(4)),
             gx = b.write<T>(node.gx(0)), gw = b.out(node.gx(1)), gb = b.out(node.gx(2));
  const auto sizes = node.nx > 5 ? b.raw(node.x(5)) : runtime::Ref();
  const int64_t pitch = b.pitch(node.gy(0));
  const auto factors = b.workspace(g.channels(6));
  const auto sums = b.scratch(g.channels(2 * g.parts) * sizeof(double));
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
    std::memset(both, 0, g.channels(2 * g.parts) * sizeof(double));
    g.each_tile([&](int64_t part, int64_t first, int64_t rows) {
      double* s = both + 2 * part * g.c;
      const Incoming dz = incoming(part, first, rows);
      const auto run = [&](int64_t r, int64_t size) {
        images<T>().norm_dots(behind.rows(g, size, dz.pitch, scale, shift),
                              dz.at + (r - first) * dz.pitch, in + r * g.c, m, inverse, s, s + g.c);
      };
      g.split(lengths, first, first + rows, run, g.skip);
    });
    for (int64_t part = 1; part < g.parts; ++part)
      for (int64_t k = 0; k < 2 * g.c; ++k) both[k] += both[2 * part * g.c + k];
    const double n = std::max(g.counting(lengths), 1.0);
    for (int64_t k = 0; k < g.c; ++k) {
      const double sum = both[k], dot = both[g.c + k];
      if (gb) gb.get<float>()[k] = static_cast<float>(sum);
      if (gw) gw.get<float>()[k] = static_cast<float>(dot);
      const double a = static_cast<double>(weight.get<float>()[k]) * inverse[k];
      const double slope = training ? -a * inverse[k] * dot / n : 0;
      fa[k] = static_cast<float>(a);
      fb[k] = static_cast<float>(slope);
      fd[k] = static_cast<float>(training ? -a * sum / n - slope * m[k] : 0);
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
  return by_images(b, node, [&](auto t) {
    return node.gradient ? gradient<decltype(t)>(b, node) : forward<decltype(t)>(b, node);
  });
}

}  // namespace mpsnn::backend::cpu
