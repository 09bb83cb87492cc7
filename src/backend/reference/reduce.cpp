// Sums, means and extremes over axes of each image.
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

// f(element, its result) for every element.
template <class F>
void elements(Call& c, F f) {
  const Shape& x = c.x_shape(0);
  const Shape kept = ir::reduced(x, c.attrs().integers("dims"));
  const Place place(kept, x);
  const int64_t n = count(x);
  for (int64_t i = 0; i < n; ++i) f(i, place(i));
}

double terms(Call& c) {
  return static_cast<double>(count(c.x_shape(0))) / static_cast<double>(count(c.y_shape()));
}

// NaN wins, as in PyTorch.
template <class Better>
void extreme(Call& c, double start, Better better) {
  const double* x = c.x(0);
  double* y = c.y(0);
  std::fill_n(y, count(c.y_shape()), start);
  elements(c, [&](int64_t i, int64_t to) {
    if (better(x[i], y[to]) || x[i] != x[i]) y[to] = x[i];
  });
}

void extreme_gradient(Call& c) {
  const double *x = c.x(0), *y = c.y(0);
  std::vector<double> ties(static_cast<std::size_t>(count(c.y_shape())), 0.0);
  elements(c, [&](int64_t i, int64_t to) { ties[static_cast<std::size_t>(to)] += x[i] == y[to]; });
  elements(c, [&](int64_t i, int64_t to) {
    const double share = c.gy(0)[to] / ties[static_cast<std::size_t>(to)];
    c.gx(0)[i] = (x[i] == y[to] ? 1.0 : 0.0) * share;
  });
}

}  // namespace

void reduce_sum(Call& c) {
  elements(c, [&](int64_t i, int64_t to) { c.y(0)[to] += c.x(0)[i]; });
}
void reduce_sum_gradient(Call& c) {
  elements(c, [&](int64_t i, int64_t to) { c.gx(0)[i] = c.gy(0)[to]; });
}

void reduce_mean(Call& c) {
  reduce_sum(c);
  const double n = terms(c);
  for (int64_t i = 0; i < count(c.y_shape()); ++i) c.y(0)[i] /= n;
}
void reduce_mean_gradient(Call& c) {
  const double n = terms(c);
  elements(c, [&](int64_t i, int64_t to) { c.gx(0)[i] = c.gy(0)[to] / n; });
}

void reduce_max(Call& c) {
  extreme(c, -HUGE_VAL, [](double a, double b) { return a > b; });
}
void reduce_max_gradient(Call& c) { extreme_gradient(c); }

void reduce_min(Call& c) {
  extreme(c, HUGE_VAL, [](double a, double b) { return a < b; });
}
void reduce_min_gradient(Call& c) { extreme_gradient(c); }

}  // namespace mpsnn::backend::reference
