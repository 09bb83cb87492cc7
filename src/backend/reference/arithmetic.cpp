// Sums, differences, products and quotients of broadcast operands.
#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

namespace {

template <class F>
void binary(Call& c, F f) {
  const Place a(c.x_shape(0), c.y_shape()), b(c.x_shape(1), c.y_shape());
  const double *x0 = c.x(0), *x1 = c.x(1);
  double* y = c.y(0);
  each(count(c.y_shape()), 1, [&](int64_t i) { y[i] = f(x0[a(i)], x1[b(i)]); });
}

// The gradient by operand k, if wanted: every output adds gy * slope(output) where it was read.
template <class F>
void gradient(Call& c, int k, F slope) {
  double* gx = c.gx(k);
  if (gx == nullptr) return;
  const Place place(c.x_shape(k), c.y_shape());
  const int64_t n = count(c.y_shape());
  for (int64_t i = 0; i < n; ++i) gx[place(i)] += c.gy(0)[i] * slope(i);
}

}  // namespace

void add(Call& c) {
  const Epilogue epilogue(c.attrs());
  binary(c, [&](double a, double b) { return epilogue.apply(a + b); });
}
void add_gradient(Call& c) {
  for (int k = 0; k < 2; ++k) gradient(c, k, [](int64_t) { return 1; });
}

void add_n(Call& c) {
  double* y = c.y(0);
  each(count(c.y_shape()), c.node().nx, [&](int64_t i) {
    y[i] = 0;
    for (int k = 0; k < c.node().nx; ++k) y[i] += c.x(k)[i];
  });
}

void subtract(Call& c) {
  binary(c, [](double a, double b) { return a - b; });
}
void subtract_gradient(Call& c) {
  gradient(c, 0, [](int64_t) { return 1; });
  gradient(c, 1, [](int64_t) { return -1; });
}

void multiply(Call& c) {
  binary(c, [](double a, double b) { return a * b; });
}
void multiply_gradient(Call& c) {
  const Place a(c.x_shape(0), c.y_shape()), b(c.x_shape(1), c.y_shape());
  gradient(c, 0, [&](int64_t i) { return c.x(1)[b(i)]; });
  gradient(c, 1, [&](int64_t i) { return c.x(0)[a(i)]; });
}

void divide(Call& c) {
  binary(c, [](double a, double b) { return a / b; });
}
void divide_gradient(Call& c) {
  const Place a(c.x_shape(0), c.y_shape()), b(c.x_shape(1), c.y_shape());
  gradient(c, 0, [&](int64_t i) { return 1 / c.x(1)[b(i)]; });
  gradient(c, 1, [&](int64_t i) {
    const double divisor = c.x(1)[b(i)];
    return -c.x(0)[a(i)] / divisor / divisor;
  });
}

}  // namespace mpsnn::backend::reference
