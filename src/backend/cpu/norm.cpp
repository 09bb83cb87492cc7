// batch_norm by our own kernels: rows are split over the threads, partial sums added in order. With
// lengths the kernels see runs of rows that count, and padding becomes zero.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

struct Geometry {
  explicit Geometry(const Shape& x)
      : c(x.back()),
        rows(count(x) / c),
        grain(1 + 16384 / c),
        width(x[x.size() - 2]),
        image(rows / x[0]) {}

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
    split(lengths, 0, rows, [&](int64_t, int64_t size) { n += size; }, [](int64_t, int64_t) {});
    return static_cast<double>(n);
  }
  int64_t c, rows, grain, width, image;
};

// sums[c] by `f(first row, rows, sums)` on the runs of each thread; `parts`: team x c doubles.
template <class F>
void reduce_rows(const Geometry& g, const int32_t* lengths, int64_t c, double* parts, double* sums,
                 F f) {
  const int64_t rows = g.rows;
  const int64_t team = threads::team();
  threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r0 = rows * t / team, r1 = rows * (t + 1) / team;
      std::memset(parts + t * c, 0, static_cast<std::size_t>(c) * sizeof(double));
      const auto run = [&](int64_t first, int64_t size) { f(first, size, parts + t * c); };
      g.split(lengths, r0, r1, run, [](int64_t, int64_t) {});
    }
  });
  for (int64_t k = 0; k < c; ++k) {
    sums[k] = 0;
    for (int64_t t = 0; t < team; ++t) sums[k] += parts[t * c + k];
  }
}

KernelPtr forward(Builder& b, const Node& node) {
  const Geometry g(b.shape(node.x(0)));
  const bool training = node.attrs.flag("training");
  const auto epsilon = node.attrs.number("epsilon");
  const auto x = b.in(node.x(0)), weight = b.in(node.x(1)), bias = b.in(node.x(2)),
             y = b.out(node.y(0)), mean = b.raw(node.state(0)), variance = b.raw(node.state(1));
  const auto running_mean = node.nx > 3 ? b.in(node.x(3)) : runtime::Ref(),
             running_variance = node.nx > 4 ? b.in(node.x(4)) : runtime::Ref();
  const auto sizes = node.nx > 5 ? b.raw(node.x(5)) : runtime::Ref(),
             number = node.nx > 5 ? b.raw(node.state(2)) : runtime::Ref();
  const auto channels = static_cast<std::size_t>(g.c);
  const auto scale = b.workspace(2 * channels);
  const auto parts = b.scratch((static_cast<std::size_t>(threads::team()) + 1) * channels * 8);
  return kernel([=](const runtime::StepContext&) {
    const auto* in = x.get<float>();
    float *m = mean.get<float>(), *v = variance.get<float>();
    double *sums = parts.get<double>(), *rest = sums + g.c;
    const auto* lengths = sizes.get<int32_t>();
    const double counting = g.counting(lengths), n = std::max(counting, 1.0);
    if (number) *number.get<float>() = static_cast<float>(counting);
    if (training) {
      reduce_rows(g, lengths, g.c, rest, sums, [&](int64_t r, int64_t rows, double* s) {
        select().norm_sums(in + r * g.c, nullptr, rows, g.c, s);
      });
      for (int64_t k = 0; k < g.c; ++k) m[k] = static_cast<float>(sums[k] / n);
      reduce_rows(g, lengths, g.c, rest, sums, [&](int64_t r, int64_t rows, double* s) {
        select().norm_sums(in + r * g.c, m, rows, g.c, s);
      });
      for (int64_t k = 0; k < g.c; ++k) v[k] = static_cast<float>(sums[k] / n);
    } else {
      std::memcpy(m, running_mean.get<float>(), static_cast<std::size_t>(g.c) * sizeof(float));
      std::memcpy(v, running_variance.get<float>(), static_cast<std::size_t>(g.c) * sizeof(float));
    }
    float *a = scale.get<float>(), *shift = a + g.c;
    for (int64_t k = 0; k < g.c; ++k) {
      const double s = weight.get<float>()[k] / std::sqrt(static_cast<double>(v[k]) + epsilon);
      a[k] = static_cast<float>(s);
      shift[k] = static_cast<float>(bias.get<float>()[k] - static_cast<double>(m[k]) * s);
    }
    threads::parallel_for(g.rows, g.grain, [&](int64_t begin, int64_t end) {
      auto* to = y.get<float>();
      g.split(
          lengths, begin, end,
          [&](int64_t r, int64_t rows) {
            select().norm_apply(in + r * g.c, a, shift, rows, g.c, to + r * g.c);
          },
          [&](int64_t r, int64_t rows) { std::fill_n(to + r * g.c, rows * g.c, 0.0f); });
    });
  });
}

KernelPtr gradient(Builder& b, const Node& node) {
  const Geometry g(b.shape(node.gy(0)));
  const bool training = node.attrs.flag("training");
  const auto epsilon = node.attrs.number("epsilon");
  const auto gy = b.in(node.gy(0)), x = b.in(node.x(0)), weight = b.in(node.x(1)),
             mean = training ? b.raw(node.state(0)) : b.in(node.x(3)),
             variance = training ? b.raw(node.state(1)) : b.in(node.x(4)), gx = b.out(node.gx(0)),
             gw = b.out(node.gx(1)), gb = b.out(node.gx(2));
  const auto sizes = node.nx > 5 ? b.raw(node.x(5)) : runtime::Ref();
  const auto channels = static_cast<std::size_t>(g.c);
  const auto factors = b.workspace(4 * channels);
  const auto parts = b.scratch((static_cast<std::size_t>(threads::team()) * 2 + 2) * channels * 8);
  return kernel([=](const runtime::StepContext&) {
    const float *in = x.get<float>(), *dy = gy.get<float>(), *m = mean.get<float>();
    float *inverse = factors.get<float>(), *fa = inverse + g.c, *fb = fa + g.c, *fd = fb + g.c;
    for (int64_t k = 0; k < g.c; ++k)
      inverse[k] = static_cast<float>(
          1 / std::sqrt(static_cast<double>(variance.get<float>()[k]) + epsilon));
    double *both = parts.get<double>(), *rest = both + 2 * g.c;
    const auto* lengths = sizes.get<int32_t>();
    reduce_rows(g, lengths, 2 * g.c, rest, both, [&](int64_t r, int64_t rows, double* s) {
      select().norm_dots(dy + r * g.c, in + r * g.c, m, inverse, rows, g.c, s, s + g.c);
    });
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
    threads::parallel_for(g.rows, g.grain, [&](int64_t begin, int64_t end) {
      auto* to = gx.get<float>();
      g.split(
          lengths, begin, end,
          [&](int64_t r, int64_t rows) {
            select().norm_gradient(dy + r * g.c, in + r * g.c, fa, fb, fd, rows, g.c, to + r * g.c);
          },
          [&](int64_t r, int64_t rows) { std::fill_n(to + r * g.c, rows * g.c, 0.0f); });
    });
  });
}

}  // namespace

KernelPtr make_batch_norm(Builder& b, const Node& node) {
  return node.gradient ? gradient(b, node) : forward(b, node);
}

}  // namespace mpsnn::backend::cpu
