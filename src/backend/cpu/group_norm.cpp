// group_norm: sums of an image's columns, folded into groups. Images are shared out to the threads,
// parts of them where there are few.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

struct Groups {
  Groups(const Node& node, const Shape& x)
      : images(x[0]),
        c(x.back()),
        pixels(count(x) / images / c),
        groups(node.attrs.integer("groups")),
        width(c / groups),
        epsilon(node.attrs.number("epsilon")),
        parts(std::clamp<int64_t>((threads::team() + images - 1) / images, 1,
                                  1 + pixels * c / 16384)) {}
  std::size_t parts_bytes(int64_t columns) const {
    return static_cast<std::size_t>(images * parts * apart<double>(columns)) * sizeof(double);
  }
  // add(image, first pixel, pixels, sums) on each part's pixels, finish(image, sums), then
  // apply(image, first pixel, pixels): an image after the other where there are enough of them, and
  // from its end, which is still in cache. Leaves every image's sums at sums_of(image).
  template <class A, class F, class P>
  void run(int64_t columns, double* sums, A add, F finish, P apply) const {
    constexpr int64_t kTile = 64;
    const auto first = [&](int64_t p) { return pixels * (p % parts) / parts; };
    const auto size = [&](int64_t p) { return pixels * (p % parts + 1) / parts - first(p); };
    const int64_t pitch = apart<double>(columns);
    const auto part = [&](int64_t p) {
      std::memset(sums + p * pitch, 0, static_cast<std::size_t>(columns) * sizeof(double));
      add(p / parts, first(p), size(p), sums + p * pitch);
    };
    if (parts == 1) {
      threads::parallel_for(images, 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          part(n);
          finish(n, sums + n * pitch);
          for (int64_t left = pixels; left > 0; left -= kTile)
            apply(n, std::max<int64_t>(0, left - kTile), std::min(kTile, left));
        }
      });
      return;
    }
    threads::parallel_for(images * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) part(p);
    });
    for (int64_t n = 0; n < images; ++n) {
      double* whole = sums_of(sums, columns, n);
      for (int64_t p = 1; p < parts; ++p)
        for (int64_t k = 0; k < columns; ++k) whole[k] += whole[p * pitch + k];
      finish(n, whole);
    }
    threads::parallel_for(images * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) apply(p / parts, first(p), size(p));
    });
  }
  double* sums_of(double* sums, int64_t columns, int64_t image) const {
    return sums + image * parts * apart<double>(columns);
  }
  double size() const { return static_cast<double>(pixels * width); }
  int64_t images, c, pixels, groups, width;
  double epsilon;
  int64_t parts;
};

KernelPtr group_forward(Builder& b, const Node& node) {
  const Groups g(node, b.shape(node.x(0)));
  const auto x = b.in(node.x(0)), y = b.out(node.y(0)), mean = b.raw(node.state(0)),
             inverse = b.raw(node.state(1));
  const auto w = node.nx > 1 && node.x(1) != kNone ? b.in(node.x(1)) : runtime::Ref(),
             bias = node.nx > 2 && node.x(2) != kNone ? b.in(node.x(2)) : runtime::Ref();
  const auto rows = b.workspace(static_cast<std::size_t>(2 * g.images * g.c));
  const auto parts = b.scratch(g.parts_bytes(2 * g.c));
  return kernel([=](const runtime::StepContext&) {
    auto *in = x.get<float>(), *scale = rows.get<float>(), *shift = scale + g.images * g.c;
    const int64_t image = g.pixels * g.c;
    // Means and squared deviations of parts become sums, which add up; doubles have room for it.
    g.run(
        2 * g.c, parts.get<double>(),
        [&](int64_t n, int64_t first, int64_t pixels, double* sums) {
          double* squares = sums + g.c;
          select().single.norm_moments(in + n * image + first * g.c, pixels, g.c, sums, squares);
          const auto many = static_cast<double>(pixels);
          for (int64_t k = 0; k < g.c; ++k) {
            squares[k] += many * sums[k] * sums[k];
            sums[k] *= many;
          }
        },
        [&](int64_t n, const double* sums) {
          for (int64_t i = 0; i < g.groups; ++i) {
            double sum = 0, squares = 0;
            for (int64_t k = i * g.width; k < (i + 1) * g.width; ++k) {
              sum += sums[k];
              squares += sums[g.c + k];
            }
            const double m = sum / g.size(),
                         r = 1 / std::sqrt(std::max(0.0, squares / g.size() - m * m) + g.epsilon);
            mean.get<float>()[n * g.groups + i] = static_cast<float>(m);
            inverse.get<float>()[n * g.groups + i] = static_cast<float>(r);
            for (int64_t k = i * g.width; k < (i + 1) * g.width; ++k) {
              const double s = w ? r * static_cast<double>(w.get<float>()[k]) : r;
              scale[n * g.c + k] = static_cast<float>(s);
              shift[n * g.c + k] = static_cast<float>(
                  (bias ? static_cast<double>(bias.get<float>()[k]) : 0.0) - s * m);
            }
          }
        },
        [&](int64_t n, int64_t first, int64_t pixels) {
          const int64_t at = n * image + first * g.c;
          const NormRows part{pixels,          g.c, g.c, scale + n * g.c,
                              shift + n * g.c, 0,   0,   past_caches(g.images * image)};
          select().single.norm_apply(part, in + at, y.get<float>() + at);
        });
  });
}

KernelPtr group_gradient(Builder& b, const Node& node) {
  const Groups g(node, b.shape(node.gy(0)));
  const auto gy = b.in(node.gy(0)), x = b.in(node.x(0)), mean = b.raw(node.state(0)),
             inverse = b.raw(node.state(1)), gx = b.out(node.gx(0));
  const auto w = node.nx > 1 && node.x(1) != kNone ? b.in(node.x(1)) : runtime::Ref();
  const auto gw = node.nx > 1 ? b.out(node.gx(1)) : runtime::Ref(),
             gb = node.nx > 2 ? b.out(node.gx(2)) : runtime::Ref();
  const auto rows = b.workspace(static_cast<std::size_t>(5 * g.images * g.c));
  const auto parts = b.scratch(g.parts_bytes(2 * g.c));
  return kernel([=](const runtime::StepContext&) {
    const float *in = x.get<float>(), *dy = gy.get<float>();
    const int64_t image = g.pixels * g.c, all = g.images * g.c;
    float *m = rows.get<float>(), *r = m + all, *fa = r + all, *fb = fa + all, *fd = fb + all;
    for (int64_t i = 0; i < g.images * g.groups; ++i) {
      std::fill_n(m + i * g.width, g.width, mean.get<float>()[i]);
      std::fill_n(r + i * g.width, g.width, inverse.get<float>()[i]);
    }
    g.run(
        2 * g.c, parts.get<double>(),
        [&](int64_t n, int64_t first, int64_t pixels, double* s) {
          const int64_t at = n * image + first * g.c;
          const NormRows part{pixels, g.c, g.c, nullptr, nullptr, 0, 0};
          select().single.norm_dots(part, dy + at, in + at, m + n * g.c, r + n * g.c, s, s + g.c);
        },
        [&](int64_t n, const double* s) {
          const auto weight = [&](int64_t k) {
            return w ? static_cast<double>(w.get<float>()[k]) : 1.0;
          };
          for (int64_t i = 0; i < g.groups; ++i) {
            double sum = 0, dot = 0;
            for (int64_t k = i * g.width; k < (i + 1) * g.width; ++k) {
              sum += weight(k) * s[k];
              dot += weight(k) * s[g.c + k];
            }
            const auto inv = static_cast<double>(r[n * g.c + i * g.width]),
                       mid = static_cast<double>(m[n * g.c + i * g.width]);
            const double slope = -inv * inv * dot / g.size();
            for (int64_t k = n * g.c + i * g.width; k < n * g.c + (i + 1) * g.width; ++k) {
              fa[k] = static_cast<float>(inv * weight(k - n * g.c));
              fb[k] = static_cast<float>(slope);
              fd[k] = static_cast<float>(-inv * sum / g.size() - slope * mid);
            }
          }
        },
        [&](int64_t n, int64_t first, int64_t pixels) {
          const int64_t at = n * image + first * g.c;
          const NormRows part{pixels, g.c, g.c, nullptr, nullptr, 0, 0};
          if (gx)
            select().single.norm_gradient(part, dy + at, in + at, fa + n * g.c, fb + n * g.c,
                                          fd + n * g.c, gx.get<float>() + at);
        });
    for (int64_t k = 0; (gw || gb) && k < g.c; ++k) {
      double sum = 0, dot = 0;
      for (int64_t n = 0; n < g.images; ++n) {
        const double* s = g.sums_of(parts.get<double>(), 2 * g.c, n);
        sum += s[k];
        dot += s[g.c + k];
      }
      if (gb) gb.get<float>()[k] = static_cast<float>(sum);
      if (gw) gw.get<float>()[k] = static_cast<float>(dot);
    }
  });
}

}  // namespace

KernelPtr make_group_norm(Builder& b, const Node& node) {
  return node.gradient ? group_gradient(b, node) : group_forward(b, node);
}

}  // namespace mpsnn::backend::cpu
