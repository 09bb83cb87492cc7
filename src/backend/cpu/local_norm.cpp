// local_response_norm and local_contrast_norm. Windows reach size / 2 to the front and (size - 1) /
// 2 to the back, mirrored for gradients; beyond the image there are zeros. Sums over space are made
// in double, along one axis after the other.
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

struct Image {
  explicit Image(const Shape& x) : h(x[1]), w(x[2]), c(x[3]), size(h * w * c) {}
  int64_t h, w, c, size;
};

// Windows of an image, or the mirrored ones of its gradient.
BoxShape windows(const Image& s, int64_t size, bool reverse) {
  const int64_t front = size / 2, back = (size - 1) / 2;
  return {s.h, s.w, s.c, reverse ? back : front, reverse ? front : back};
}

// Rows of c values: y = x u^-beta with u = k + alpha / size * sum of squares in the window.
struct Response {
  explicit Response(const Node& node)
      : size(node.attrs.integer("size")),
        alpha(node.attrs.number("alpha")),
        beta(static_cast<float>(node.attrs.number("beta"))),
        k(static_cast<float>(node.attrs.number("k"))) {}
  int64_t size;
  double alpha;
  float beta, k;
};

int64_t whole_vectors(int64_t floats) { return (floats + 15) / 16 * 16; }

// Short rows are copied together, each behind as many zeros as a window reaches beyond it, and are
// one row to the kernels; of what these compute beyond a row's own values, nothing is used.
KernelPtr across_channels(Builder& b, const Node& node) {
  constexpr int64_t kLong = 128;
  const Response p(node);
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const int64_t c = shape.back(), rows = count(shape) / c, team = threads::team();
  const auto share = static_cast<float>(p.alpha / static_cast<double>(p.size));
  const float through = -2.0f * share * p.beta;
  const bool alone = c >= kLong;
  const int64_t pitch = c + p.size - 1,
                together = alone ? 1 : std::clamp<int64_t>(1024 / pitch, 1, rows),
                n = alone ? c : whole_vectors(together * pitch), padded = whole_vectors(n + p.size),
                room = 4 * whole_vectors(n) + 2 * padded, blocks = (rows + together - 1) / together;
  const auto space = b.workspace(static_cast<std::size_t>(team * room));
  const bool gradient = node.gradient;
  const auto x = b.in(node.x(0)), y = gradient ? b.in(node.gy(0)) : b.out(node.y(0)),
             gx = gradient ? b.out(node.gx(0)) : runtime::Ref();
  // The rows to be read, copied to `spread` if need be.
  const auto read = [=](const float* from, int64_t many, float* spread) -> const float* {
    if (alone) return from;
    for (int64_t r = 0; r < many; ++r) std::copy_n(from + r * c, c, spread + r * pitch);
    return spread;
  };
  const auto write = [=](const float* spread, int64_t many, float* to) {
    for (int64_t r = 0; !alone && r < many; ++r) std::copy_n(spread + r * pitch, c, to + r * c);
  };
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t part = whole_vectors(n);
        float *own = space.get<float>() + t * room, *own_g = own + part, *sums = own_g + part,
              *own_out = sums + part, *before = own_out + part, *after = before + padded;
        std::memset(own, 0, static_cast<std::size_t>(room) * sizeof(float));
        for (int64_t block = blocks * t / team; block < blocks * (t + 1) / team; ++block) {
          const int64_t first = block * together, many = std::min(together, rows - first),
                        at = first * c;
          const float* in = read(x.get<float>() + at, many, own);
          float *squares = before + p.size / 2, *to = (gradient ? gx : y).get<float>() + at,
                *out = alone ? to : own_out;
          for (int64_t i = 0; i < n; ++i) squares[i] = in[i] * in[i];
          select().window_sum(before, n, p.size, share, p.k, sums);
          if (!gradient) {
            select().local_scale(in, sums, p.beta, out, n);
            write(out, many, to);
            continue;
          }
          const float* g = read(y.get<float>() + at, many, own_g);
          float* terms = after + (p.size - 1) / 2;
          select().local_terms(g, in, sums, p.beta, own_out, terms, n);
          for (int64_t r = 0; r < many; ++r)  // 0 by infinity may be among them
            std::fill_n(terms + r * pitch + c, p.size - 1, 0.0f);
          select().window_sum(after, n, p.size, through, 0.0f, sums);
          for (int64_t i = 0; i < n; ++i) out[i] = own_out[i] + in[i] * sums[i];
          write(out, many, to);
        }
      }
    });
  });
}

KernelPtr across_space(Builder& b, const Node& node) {
  const Response p(node);
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const Image s(shape);
  const int64_t images = shape[0], team = std::min<int64_t>(threads::team(), images);
  const double share = p.alpha / static_cast<double>(p.size * p.size);
  const auto floats = b.workspace(static_cast<std::size_t>(team * 3 * s.size));
  const int64_t room = s.size + s.w * s.c;
  const auto doubles = b.scratch(static_cast<std::size_t>(team * room) * sizeof(double));
  const bool gradient = node.gradient;
  const auto x = b.in(node.x(0)), y = gradient ? b.in(node.gy(0)) : b.out(node.y(0)),
             gx = gradient ? b.out(node.gx(0)) : runtime::Ref();
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        double *sums = doubles.get<double>() + t * room, *row = sums + s.size;
        float *u = floats.get<float>() + t * 3 * s.size, *direct = u + s.size, *q = direct + s.size;
        for (int64_t n = images * t / team; n < images * (t + 1) / team; ++n) {
          const float* in = x.get<float>() + n * s.size;
          select().box_sums(in, true, windows(s, p.size, false), row, sums);
          for (int64_t i = 0; i < s.size; ++i) u[i] = static_cast<float>(p.k + share * sums[i]);
          if (!gradient) {
            select().local_scale(in, u, p.beta, y.get<float>() + n * s.size, s.size);
            continue;
          }
          select().local_terms(y.get<float>() + n * s.size, in, u, p.beta, direct, q, s.size);
          select().box_sums(q, false, windows(s, p.size, true), row, sums);
          float* to = gx.get<float>() + n * s.size;
          const double by = -2 * share * static_cast<double>(p.beta);
          for (int64_t i = 0; i < s.size; ++i)
            to[i] = direct[i] + static_cast<float>(by * in[i] * sums[i]);
        }
      }
    });
  });
}

}  // namespace

KernelPtr make_local_response_norm(Builder& b, const Node& node) {
  return node.attrs.text("across") == "space" ? across_space(b, node) : across_channels(b, node);
}

// With m and V the window's mean and variance, u = delta + alpha V and d = x - p0 m: y = pm + ps d
// u^-beta. A gradient g gives, with h = ps g u^-beta and q = -alpha beta h d / u, and with sums
// over the windows that a value is in: h + (sum(-p0 h - 2 q m) + 2 x sum(q)) / size^2.
KernelPtr make_local_contrast_norm(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const Image s(shape);
  const int64_t images = shape[0], size = node.attrs.integer("size"),
                team = std::min<int64_t>(threads::team(), images);
  ContrastParams p{};
  p.area = static_cast<double>(size * size);
  p.alpha = node.attrs.number("alpha");
  p.delta = node.attrs.number("delta");
  p.p0 = node.attrs.number("p0");
  p.ps = node.attrs.number("ps");
  p.by = -p.alpha * node.attrs.number("beta") * p.ps;
  const auto beta = static_cast<float>(node.attrs.number("beta")),
             pm = static_cast<float>(node.attrs.number("pm")),
             ps = static_cast<float>(node.attrs.number("ps"));
  const auto floats = b.workspace(static_cast<std::size_t>(team * 4 * s.size));
  const int64_t room = 2 * s.size + s.w * s.c;
  const auto doubles = b.scratch(static_cast<std::size_t>(team * room) * sizeof(double));
  const bool gradient = node.gradient;
  const auto x = b.in(node.x(0)), y = gradient ? b.in(node.gy(0)) : b.out(node.y(0)),
             gx = gradient ? b.out(node.gx(0)) : runtime::Ref();
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        double *means = doubles.get<double>() + t * room, *sums = means + s.size,
               *row = sums + s.size;
        float *u = floats.get<float>() + t * 4 * s.size, *d = u + s.size, *h = d + s.size,
              *q = h + s.size;
        for (int64_t n = images * t / team; n < images * (t + 1) / team; ++n) {
          const float* in = x.get<float>() + n * s.size;
          select().box_sums(in, false, windows(s, size, false), row, means);
          select().box_sums(in, true, windows(s, size, false), row, sums);
          select().contrast_terms(in, sums, p, s.size, means, u, d);
          if (!gradient) {
            float* to = y.get<float>() + n * s.size;
            select().local_scale(d, u, beta, to, s.size);
            for (int64_t i = 0; i < s.size; ++i) to[i] = pm + ps * to[i];
            continue;
          }
          select().local_terms(y.get<float>() + n * s.size, d, u, beta, h, q, s.size);
          select().contrast_mixed(h, q, means, p, s.size, u);
          select().box_sums(u, false, windows(s, size, true), row, means);
          select().box_sums(q, false, windows(s, size, true), row, sums);
          select().contrast_gradient(in, h, means, sums, p, s.size, gx.get<float>() + n * s.size);
        }
      }
    });
  });
}

}  // namespace mpsnn::backend::cpu
