#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void add(Call& c) {
  const int64_t n = count(c.y_shape());
  const double *a = c.x(0), *b = c.x(1);
  const Epilogue epilogue(c.attrs());
  double* y = c.y(0);
  each(n, 1, [&](int64_t i) { y[i] = epilogue.apply(a[i] + b[i]); });
}

void add_n(Call& c) {
  double* y = c.y(0);
  each(count(c.y_shape()), c.node().nx, [&](int64_t i) {
    y[i] = 0;
    for (int k = 0; k < c.node().nx; ++k) y[i] += c.x(k)[i];
  });
}

void subtract(Call& c) {
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) c.y(0)[i] = c.x(0)[i] - c.x(1)[i];
}
void subtract_gradient(Call& c) {
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) {
    if (c.gx(0) != nullptr) c.gx(0)[i] = c.gy(0)[i];
    if (c.gx(1) != nullptr) c.gx(1)[i] = -c.gy(0)[i];
  }
}

void multiply(Call& c) {
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) c.y(0)[i] = c.x(0)[i] * c.x(1)[i];
}
void multiply_gradient(Call& c) {
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) {
    if (c.gx(0) != nullptr) c.gx(0)[i] = c.gy(0)[i] * c.x(1)[i];
    if (c.gx(1) != nullptr) c.gx(1)[i] = c.gy(0)[i] * c.x(0)[i];
  }
}

void image_mean(Call& c) {
  const int64_t images = c.x_shape(0)[0], size = count(c.x_shape(0)) / images;
  for (int64_t n = 0; n < images; ++n) {
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += c.x(0)[n * size + i];
    c.y(0)[n] = sum / static_cast<double>(size);
  }
}
void image_mean_gradient(Call& c) {
  const int64_t images = c.x_shape(0)[0], size = count(c.x_shape(0)) / images;
  for (int64_t i = 0; i < images * size; ++i)
    c.gx(0)[i] = c.gy(0)[i / size] / static_cast<double>(size);
}

}  // namespace mpsnn::backend::reference
