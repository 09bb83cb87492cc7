// softmax and log_softmax over the last axis.
#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void softmax(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  const double* images = c.x(0);
  double* outputs = c.y(0);
  each(rows, classes, [&](int64_t r) {
    const double* x = images + r * classes;
    double* y = outputs + r * classes;
    const double most = *std::max_element(x, x + classes);
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += y[k] = std::exp(x[k] - most);
    for (int64_t k = 0; k < classes; ++k) y[k] /= sum;
  });
}

void softmax_gradient(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  const double *outputs = c.y(0), *cotangents = c.gy(0);
  double* gx = c.gx(0);
  each(rows, classes, [&](int64_t r) {
    const double *y = outputs + r * classes, *gy = cotangents + r * classes;
    double dot = 0;
    for (int64_t k = 0; k < classes; ++k) dot += y[k] * gy[k];
    for (int64_t k = 0; k < classes; ++k) gx[r * classes + k] = y[k] * (gy[k] - dot);
  });
}

void log_softmax(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  const double* images = c.x(0);
  double* outputs = c.y(0);
  each(rows, classes, [&](int64_t r) {
    const double* x = images + r * classes;
    const double most = *std::max_element(x, x + classes);
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(x[k] - most);
    const double log_sum = std::log(sum);
    for (int64_t k = 0; k < classes; ++k) outputs[r * classes + k] = x[k] - most - log_sum;
  });
}

void log_softmax_gradient(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  const double *outputs = c.y(0), *cotangents = c.gy(0);
  double* gx = c.gx(0);
  each(rows, classes, [&](int64_t r) {
    const double *y = outputs + r * classes, *gy = cotangents + r * classes;
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += gy[k];
    for (int64_t k = 0; k < classes; ++k) gx[r * classes + k] = gy[k] - std::exp(y[k]) * sum;
  });
}

}  // namespace mpsnn::backend::reference
