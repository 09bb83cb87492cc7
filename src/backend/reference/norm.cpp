// batch_norm over all axes but the last; states: the batch's mean and biased variance.
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void batch_norm(Call& c) {
  const int64_t channels = c.x_shape(0).back(), rows = count(c.x_shape(0)) / channels;
  const double *x = c.x(0), *weight = c.x(1), *bias = c.x(2), epsilon = c.attrs().number("epsilon");
  double* y = c.y(0);
  const bool training = c.attrs().flag("training");
  const auto n = static_cast<double>(rows);
  for (int64_t k = 0; k < channels; ++k) {
    double mean = 0, variance = 0;
    if (training) {
      for (int64_t r = 0; r < rows; ++r) mean += x[r * channels + k];
      mean /= n;
      for (int64_t r = 0; r < rows; ++r) {
        const double d = x[r * channels + k] - mean;
        variance += d * d;
      }
      variance /= n;
    } else {
      mean = c.x(3)[k];
      variance = c.x(4)[k];
    }
    c.state(0)[k] = mean;
    c.state(1)[k] = variance;
    const double scale = weight[k] / std::sqrt(variance + epsilon);
    for (int64_t r = 0; r < rows; ++r)
      y[r * channels + k] = (x[r * channels + k] - mean) * scale + bias[k];
  }
}

void batch_norm_gradient(Call& c) {
  const int64_t channels = c.y_shape().back(), rows = count(c.y_shape()) / channels;
  const bool training = c.attrs().flag("training");
  const double *x = c.x(0), *weight = c.x(1), *gy = c.gy(0), *mean = training ? c.state(0) : c.x(3),
               *variance = training ? c.state(1) : c.x(4), epsilon = c.attrs().number("epsilon");
  const auto n = static_cast<double>(rows);
  for (int64_t k = 0; k < channels; ++k) {
    const double inverse = 1 / std::sqrt(variance[k] + epsilon);
    double sum = 0, dot = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * channels + k;
      sum += gy[at];
      dot += gy[at] * (x[at] - mean[k]) * inverse;
    }
    if (c.gx(1) != nullptr) c.gx(1)[k] = dot;
    if (c.gx(2) != nullptr) c.gx(2)[k] = sum;
    if (c.gx(0) == nullptr) continue;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * channels + k;
      const double normal = (x[at] - mean[k]) * inverse;
      const double centred = training ? gy[at] - sum / n - normal * dot / n : gy[at];
      c.gx(0)[at] = centred * weight[k] * inverse;
    }
  }
}

}  // namespace mpsnn::backend::reference
