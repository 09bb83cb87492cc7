// batch_norm over all axes but the last; states: the batch's mean and biased variance, and where
// padding does not count, the number of rows that do.
#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

// The rows of x (rows, channels) that are no padding.
struct Rows {
  explicit Rows(Call& c)
      : lengths(c.has_x(5) ? c.x(5) : nullptr),
        rows(count(c.x_shape(0)) / c.x_shape(0).back()),
        width(c.x_shape(0)[c.x_shape(0).size() - 2]),
        image(rows / c.x_shape(0)[0]) {}
  bool counts(int64_t r) const {
    return lengths == nullptr || r % width < static_cast<int64_t>(lengths[r / image]);
  }
  double number() const {
    int64_t n = 0;
    for (int64_t r = 0; r < rows; ++r) n += counts(r) ? 1 : 0;
    return static_cast<double>(n);
  }
  const double* lengths;
  int64_t rows, width, image;
};

}  // namespace

void batch_norm(Call& c) {
  const Rows rows(c);
  const int64_t channels = c.x_shape(0).back();
  const double *x = c.x(0), *weight = c.x(1), *bias = c.x(2), epsilon = c.attrs().number("epsilon");
  const Epilogue epilogue(c.attrs());
  double* y = c.y(0);
  const bool training = c.attrs().flag("training");
  const double *running_mean = training ? nullptr : c.x(3),
               *running_variance = training ? nullptr : c.x(4);
  double *means = c.state(0), *variances = c.state(1);
  const double number = rows.number(), n = std::max(number, 1.0);
  if (rows.lengths != nullptr) c.state(2)[0] = number;
  each(channels, rows.rows, [&](int64_t k) {
    double mean = 0, variance = 0;
    if (training) {
      for (int64_t r = 0; r < rows.rows; ++r)
        if (rows.counts(r)) mean += x[r * channels + k];
      mean /= n;
      for (int64_t r = 0; r < rows.rows; ++r) {
        if (!rows.counts(r)) continue;
        const double d = x[r * channels + k] - mean;
        variance += d * d;
      }
      variance /= n;
    } else {
      mean = running_mean[k];
      variance = running_variance[k];
    }
    means[k] = mean;
    variances[k] = variance;
    const double scale = weight[k] / std::sqrt(variance + epsilon);
    for (int64_t r = 0; r < rows.rows; ++r) {
      const int64_t at = r * channels + k;
      y[at] = epilogue.apply(rows.counts(r) ? (x[at] - mean) * scale + bias[k] : 0);
    }
  });
}

void batch_norm_gradient(Call& c) {
  const Rows rows(c);
  const int64_t channels = c.y_shape().back();
  const bool training = c.attrs().flag("training");
  const double *x = c.x(0), *weight = c.x(1), *gy = c.gy(0), *mean = training ? c.state(0) : c.x(3),
               *variance = training ? c.state(1) : c.x(4), epsilon = c.attrs().number("epsilon");
  const Epilogue epilogue(c.attrs());
  const double* bias = c.x(2);
  double *gx = c.gx(0), *gw = c.gx(1), *gb = c.gx(2);
  const double n = std::max(rows.number(), 1.0);
  each(channels, rows.rows, [&](int64_t k) {
    const double inverse = 1 / std::sqrt(variance[k] + epsilon);
    // The gradient behind a fused neuron, whose output is computed again.
    const auto inside = [&](int64_t at) {
      if (epilogue.spec.kind == ir::Neuron::none) return gy[at];
      const double z = (x[at] - mean[k]) * (weight[k] * inverse) + bias[k];
      return gy[at] * epilogue.slope(epilogue.apply(z));
    };
    double sum = 0, dot = 0;
    for (int64_t r = 0; r < rows.rows; ++r) {
      if (!rows.counts(r)) continue;
      const int64_t at = r * channels + k;
      sum += inside(at);
      dot += inside(at) * (x[at] - mean[k]) * inverse;
    }
    if (gw != nullptr) gw[k] = dot;
    if (gb != nullptr) gb[k] = sum;
    if (gx == nullptr) return;
    for (int64_t r = 0; r < rows.rows; ++r) {
      const int64_t at = r * channels + k;
      const double normal = (x[at] - mean[k]) * inverse;
      const double centred = training ? inside(at) - sum / n - normal * dot / n : inside(at);
      gx[at] = rows.counts(r) ? centred * weight[k] * inverse : 0;
    }
  });
}

}  // namespace mpsnn::backend::reference
