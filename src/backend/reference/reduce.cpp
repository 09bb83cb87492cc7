// Sums, means and extremes over axes of each image.
#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

// f(element, its result) for every element.
template <class F>
void elements(Call& c, F f) {
  const Shape& x = c.x_shape(0);
  const auto& dims = c.attrs().integers("dims");
  const int64_t n = count(x);
  for (int64_t i = 0; i < n; ++i) {
    int64_t to = 0, stride = 1, rest = i;
    for (std::size_t axis = x.size(); axis-- > 0; rest /= x[axis]) {
      if (std::find(dims.begin(), dims.end(), static_cast<int64_t>(axis)) != dims.end()) continue;
      to += rest % x[axis] * stride;
      stride *= x[axis];
    }
    f(i, to);
  }
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

// Elements that share an extreme share its gradient. Extremes make room for their numbers.
void extreme_gradient(Call& c) {
  double *x = c.x(0), *y = c.y(0), *gx = c.gx(0);
  elements(c, [&](int64_t i, int64_t to) { gx[i] = x[i] == y[to] ? 1.0 : 0.0; });
  std::fill_n(y, count(c.y_shape()), 0.0);
  elements(c, [&](int64_t i, int64_t to) { y[to] += gx[i]; });
  elements(c, [&](int64_t i, int64_t to) { gx[i] *= c.gy(0)[to] / y[to]; });
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
