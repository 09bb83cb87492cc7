#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void softmax(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  for (int64_t r = 0; r < rows; ++r) {
    const double* x = c.x(0) + r * classes;
    double* y = c.y(0) + r * classes;
    const double most = *std::max_element(x, x + classes);
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += y[k] = std::exp(x[k] - most);
    for (int64_t k = 0; k < classes; ++k) y[k] /= sum;
  }
}

void softmax_gradient(Call& c) {
  const int64_t classes = c.y_shape().back(), rows = count(c.y_shape()) / classes;
  for (int64_t r = 0; r < rows; ++r) {
    const double *y = c.y(0) + r * classes, *gy = c.gy(0) + r * classes;
    double dot = 0;
    for (int64_t k = 0; k < classes; ++k) dot += y[k] * gy[k];
    for (int64_t k = 0; k < classes; ++k) c.gx(0)[r * classes + k] = y[k] * (gy[k] - dot);
  }
}

}  // namespace mpsnn::backend::reference
