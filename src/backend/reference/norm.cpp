// batch_norm over all axes but the last; states: the batch's mean and biased variance.
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void batch_norm(Call& c) {
  const int64_t channels = c.x_shape(0).back(), rows = count(c.x_shape(0)) / channels;
  const double *x = c.x(0), *weight = c.x(1), *bias = c.x(2), epsilon = c.attrs().number("epsilon");
  const Epilogue epilogue(c.attrs());
  double* y = c.y(0);
  const bool training = c.attrs().flag("training");
  const double *running_mean = training ? nullptr : c.x(3),
               *running_variance = training ? nullptr : c.x(4);
  double *means = c.state(0), *variances = c.state(1);
  const auto n = static_cast<double>(rows);
  each(channels, rows, [&](int64_t k) {
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
      mean = running_mean[k];
      variance = running_variance[k];
    }
    means[k] = mean;
    variances[k] = variance;
    const double scale = weight[k] / std::sqrt(variance + epsilon);
    for (int64_t r = 0; r < rows; ++r)
      y[r * channels + k] = epilogue.apply((x[r * channels + k] - mean) * scale + bias[k]);
  });
}

void batch_norm_gradient(Call& c) {
  const int64_t channels = c.y_shape().back(), rows = count(c.y_shape()) / channels;
  const bool training = c.attrs().flag("training");
  const double *x = c.x(0), *weight = c.x(1), *gy = c.gy(0), *mean = training ? c.state(0) : c.x(3),
               *variance = training ? c.state(1) : c.x(4), epsilon = c.attrs().number("epsilon");
  const Epilogue epilogue(c.attrs());
  const double* bias = c.x(2);
  double *gx = c.gx(0), *gw = c.gx(1), *gb = c.gx(2);
  const auto n = static_cast<double>(rows);
  each(channels, rows, [&](int64_t k) {
    const double inverse = 1 / std::sqrt(variance[k] + epsilon);
    // The gradient behind a fused neuron, whose output is computed again.
    const auto inside = [&](int64_t at) {
      if (epilogue.spec.kind == ir::Neuron::none) return gy[at];
      const double z = (x[at] - mean[k]) * (weight[k] * inverse) + bias[k];
      return gy[at] * epilogue.slope(epilogue.apply(z));
    };
    double sum = 0, dot = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * channels + k;
      sum += inside(at);
      dot += inside(at) * (x[at] - mean[k]) * inverse;
    }
    if (gw != nullptr) gw[k] = dot;
    if (gb != nullptr) gb[k] = sum;
    if (gx == nullptr) return;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * channels + k;
      const double normal = (x[at] - mean[k]) * inverse;
      const double centred = training ? inside(at) - sum / n - normal * dot / n : inside(at);
      gx[at] = centred * weight[k] * inverse;
    }
  });
}

}  // namespace mpsnn::backend::reference
