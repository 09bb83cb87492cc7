// Normalisation by groups, rows and windows. Windows reach size / 2 to the front and (size - 1) / 2
// to the back; beyond the image there are zeros, and the divisor stays.
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

// One set of values that is normalised together: value i is at at(i), its weight and bias at
// channel(i).
template <class At, class Channel>
void normalize(Call& c, int64_t set, int64_t n, At at, Channel channel) {
  const double *x = c.x(0), *w = c.has_x(1) ? c.x(1) : nullptr, *b = c.has_x(2) ? c.x(2) : nullptr;
  const auto size = static_cast<double>(n);
  double mean = 0, variance = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[at(i)];
  mean /= size;
  for (int64_t i = 0; i < n; ++i) variance += (x[at(i)] - mean) * (x[at(i)] - mean);
  variance /= size;
  const double inverse = 1 / std::sqrt(variance + c.attrs().number("epsilon"));
  c.state(0)[set] = mean;
  c.state(1)[set] = inverse;
  for (int64_t i = 0; i < n; ++i)
    c.y(0)[at(i)] = (x[at(i)] - mean) * inverse * (w == nullptr ? 1 : w[channel(i)]) +
                    (b == nullptr ? 0 : b[channel(i)]);
}

template <class At, class Channel>
void normalize_gradient(Call& c, int64_t set, int64_t n, At at, Channel channel) {
  const double *x = c.x(0), *w = c.has_x(1) ? c.x(1) : nullptr, *gy = c.gy(0);
  const double mean = c.state(0)[set], inverse = c.state(1)[set];
  const auto size = static_cast<double>(n);
  double sum = 0, dot = 0;
  const auto inner = [&](int64_t i) { return gy[at(i)] * (w == nullptr ? 1 : w[channel(i)]); };
  for (int64_t i = 0; i < n; ++i) {
    sum += inner(i);
    dot += inner(i) * (x[at(i)] - mean) * inverse;
  }
  for (int64_t i = 0; i < n; ++i)
    c.gx(0)[at(i)] = inverse * (inner(i) - sum / size - (x[at(i)] - mean) * inverse * dot / size);
}

// Gradients by weight and bias: of each value of `channels`, over `count` values at at(channel, i)
// of the set set(channel, i).
template <class At, class Set>
void weight_gradients(Call& c, int64_t channels, int64_t count, At at, Set set) {
  double *gw = c.node().nx > 1 ? c.gx(1) : nullptr, *gb = c.node().nx > 2 ? c.gx(2) : nullptr;
  each(channels, count, [&](int64_t k) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t where = at(k, i), s = set(k, i);
      if (gb != nullptr) gb[k] += c.gy(0)[where];
      if (gw != nullptr) gw[k] += c.gy(0)[where] * (c.x(0)[where] - c.state(0)[s]) * c.state(1)[s];
    }
  });
}

struct Groups {
  explicit Groups(Call& c)
      : channels(c.x_shape(0).back()),
        pixels(count(c.x_shape(0)) / c.x_shape(0)[0] / channels),
        groups(c.attrs().integer("groups")),
        width(channels / groups),
        sets(c.x_shape(0)[0] * groups) {}
  int64_t at(int64_t set, int64_t i) const {
    return (set / groups * pixels + i / width) * channels + channel(set, i);
  }
  int64_t channel(int64_t set, int64_t i) const { return set % groups * width + i % width; }
  int64_t channels, pixels, groups, width, sets;
};

struct Window {
  explicit Window(int64_t size) : before(size / 2), after((size - 1) / 2) {}
  int64_t before, after;
};

// f(place in the window of i) for places 0..n - 1 of a row.
template <class F>
void in_window(const Window& w, int64_t i, int64_t n, F f) {
  for (int64_t j = std::max<int64_t>(0, i - w.before); j <= std::min(n - 1, i + w.after); ++j) f(j);
}

// What a local normalisation sees: f(at) for each value in the window of the value at `at`, or, for
// gradients, of each whose window that value is in.
struct Neighbours {
  explicit Neighbours(Call& c)
      : window(c.attrs().integer("size")),
        space(c.attrs().text("across", "space") == "space"),
        shape(c.x_shape(0)),
        channels(shape.back()) {
    const auto size = static_cast<double>(c.attrs().integer("size"));
    divisor = space ? size * size : size;
  }
  template <class F>
  void visit(int64_t at, bool reverse, F f) const {
    Window w = window;
    if (reverse) std::swap(w.before, w.after);
    const int64_t k = at % channels;
    if (!space) return in_window(w, k, channels, [&](int64_t q) { f(at - k + q); });
    const int64_t height = shape[1], width = shape[2], pixel = at / channels,
                  image = pixel / (height * width) * height * width;
    in_window(w, pixel / width % height, height, [&](int64_t i) {
      in_window(w, pixel % width, width,
                [&](int64_t j) { f((image + i * width + j) * channels + k); });
    });
  }
  Window window;
  bool space;
  const Shape& shape;
  int64_t channels;
  double divisor;
};

}  // namespace

void group_norm(Call& c) {
  const Groups g(c);
  each(g.sets, 4 * g.pixels * g.width, [&](int64_t s) {
    normalize(
        c, s, g.pixels * g.width, [&](int64_t i) { return g.at(s, i); },
        [&](int64_t i) { return g.channel(s, i); });
  });
}

void group_norm_gradient(Call& c) {
  const Groups g(c);
  if (c.gx(0) != nullptr)
    each(g.sets, 4 * g.pixels * g.width, [&](int64_t s) {
      normalize_gradient(
          c, s, g.pixels * g.width, [&](int64_t i) { return g.at(s, i); },
          [&](int64_t i) { return g.channel(s, i); });
    });
  weight_gradients(
      c, g.channels, g.sets / g.groups * g.pixels,
      [&](int64_t k, int64_t i) { return i * g.channels + k; },
      [&](int64_t k, int64_t i) { return i / g.pixels * g.groups + k / g.width; });
}

namespace {

// Of a row: the product of the last `axes` axes.
int64_t row_size(Call& c) {
  int64_t n = 1;
  const Shape& x = c.x_shape(0);
  for (int64_t i = 0; i < c.attrs().integer("axes"); ++i)
    n *= x[x.size() - 1 - static_cast<std::size_t>(i)];
  return n;
}

}  // namespace

void layer_norm(Call& c) {
  const int64_t n = row_size(c), rows = count(c.x_shape(0)) / n;
  each(rows, 4 * n, [&](int64_t r) {
    normalize(c, r, n, [&](int64_t i) { return r * n + i; }, [](int64_t i) { return i; });
  });
}

void layer_norm_gradient(Call& c) {
  const int64_t n = row_size(c), rows = count(c.x_shape(0)) / n;
  if (c.gx(0) != nullptr)
    each(rows, 4 * n, [&](int64_t r) {
      normalize_gradient(
          c, r, n, [&](int64_t i) { return r * n + i; }, [](int64_t i) { return i; });
    });
  weight_gradients(
      c, n, rows, [&](int64_t k, int64_t i) { return i * n + k; },
      [](int64_t, int64_t i) { return i; });
}

void local_response_norm(Call& c) {
  const Neighbours near(c);
  const double alpha = c.attrs().number("alpha"), beta = c.attrs().number("beta"),
               k = c.attrs().number("k");
  const double* x = c.x(0);
  each(count(near.shape), 50, [&](int64_t at) {
    double squares = 0;
    near.visit(at, false, [&](int64_t q) { squares += x[q] * x[q]; });
    c.y(0)[at] = x[at] * std::pow(k + alpha * squares / near.divisor, -beta);
  });
}

void local_response_norm_gradient(Call& c) {
  const Neighbours near(c);
  const double alpha = c.attrs().number("alpha"), beta = c.attrs().number("beta"),
               k = c.attrs().number("k");
  const double *x = c.x(0), *gy = c.gy(0);
  const auto scale = [&](int64_t at) {
    double squares = 0;
    near.visit(at, false, [&](int64_t q) { squares += x[q] * x[q]; });
    return k + alpha * squares / near.divisor;
  };
  each(count(near.shape), 500, [&](int64_t at) {
    double sum = 0;
    near.visit(at, true, [&](int64_t q) { sum += gy[q] * x[q] * std::pow(scale(q), -beta - 1); });
    c.gx(0)[at] =
        gy[at] * std::pow(scale(at), -beta) - 2 * alpha * beta / near.divisor * x[at] * sum;
  });
}

namespace {

struct Contrast {
  explicit Contrast(Call& c)
      : near(c),
        x(c.x(0)),
        alpha(c.attrs().number("alpha")),
        beta(c.attrs().number("beta")),
        delta(c.attrs().number("delta")),
        p0(c.attrs().number("p0")),
        pm(c.attrs().number("pm")),
        ps(c.attrs().number("ps")) {}
  // {mean, delta + alpha variance} of the window of the value at `at`.
  std::pair<double, double> statistics(int64_t at) const {
    double sum = 0, squares = 0;
    near.visit(at, false, [&](int64_t q) { sum += x[q], squares += x[q] * x[q]; });
    const double mean = sum / near.divisor;
    return {mean, delta + alpha * (squares / near.divisor - mean * mean)};
  }
  Neighbours near;
  const double* x;
  double alpha, beta, delta, p0, pm, ps;
};

}  // namespace

void local_contrast_norm(Call& c) {
  const Contrast s(c);
  each(count(s.near.shape), 50, [&](int64_t at) {
    const auto [mean, scale] = s.statistics(at);
    c.y(0)[at] = s.pm + s.ps * (s.x[at] - s.p0 * mean) * std::pow(scale, -s.beta);
  });
}

void local_contrast_norm_gradient(Call& c) {
  const Contrast s(c);
  const double* gy = c.gy(0);
  each(count(s.near.shape), 500, [&](int64_t at) {
    double sum = s.ps * gy[at] * std::pow(s.statistics(at).second, -s.beta);
    s.near.visit(at, true, [&](int64_t q) {
      const auto [mean, scale] = s.statistics(q);
      const double direct = s.ps * gy[q] * std::pow(scale, -s.beta);
      const double through = -s.beta * s.alpha * direct * (s.x[q] - s.p0 * mean) / scale;
      sum += (-s.p0 * direct + through * 2 * (s.x[at] - mean)) / s.near.divisor;
    });
    c.gx(0)[at] = sum;
  });
}

}  // namespace mpsnn::backend::reference
