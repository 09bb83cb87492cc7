// Losses as PyTorch's: loss = sum(w l) / sum(w) or sum(w l); losses the same over each image.
#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

bool divides(const Call& c) { return c.attrs().text("reduction") == "mean"; }

double quotient(double sum, double weight, bool divide) {
  if (!divide) return sum;
  return weight == 0 ? 0 : sum / weight;
}

double image_weight(Call& c, int64_t image, int operand = 2) {
  return c.has_x(operand) ? c.x(operand)[image] : 1;
}

// What the gradient of sum(w l) is multiplied with.
double gradient_scale(Call& c) {
  const double weight = c.state(0)[0];
  const bool divide = divides(c) && c.attrs().flag("normalize");
  if (divide && weight == 0) return 0;
  return c.gy(0)[0] / (divide ? weight : 1);
}

// Stores loss, losses and the sum of weights from element(image, i) -> {w l, w}.
template <class F>
void reduce(Call& c, int64_t images, int64_t per_image, F element) {
  double loss = 0, weight = 0;
  for (int64_t n = 0; n < images; ++n) {
    double image_loss = 0, image_sum = 0;
    for (int64_t i = 0; i < per_image; ++i) {
      const auto [l, w] = element(n, i);
      image_loss += l;
      image_sum += w;
    }
    c.y(1)[n] = quotient(image_loss, image_sum, divides(c));
    loss += image_loss;
    weight += image_sum;
  }
  c.y(0)[0] = quotient(loss, weight, divides(c));
  c.state(0)[0] = weight;
}

struct Labels {
  explicit Labels(Call& c)
      : classes(c.x_shape(0).back()),
        images(c.x_shape(0)[0]),
        positions(count(c.x_shape(0)) / classes / images),
        soft(is_floating(c.x_dtype(1))),
        smoothing(c.attrs().number("label_smoothing")),
        ignore(static_cast<double>(c.attrs().integer("ignore_index"))),
        coefficients(c.scratch(0)),
        weighted(c.attrs().has("weight")),
        weights(c.scratch(1)) {
    if (weighted) weighted = c.attrs().read_numbers("weight", weights, classes);
  }
  // Sets the coefficient of each -log p at a position; returns the position's weight.
  double read(const double* target, int64_t at) {
    const auto n = static_cast<double>(classes);
    std::fill(coefficients, coefficients + classes, 0.0);
    if (soft) {
      for (int64_t k = 0; k < classes; ++k)
        coefficients[k] = (weighted ? weights[k] : 1) *
                          (target[at * classes + k] * (1 - smoothing) + smoothing / n);
      return 1;
    }
    if (target[at] == ignore) return 0;
    const auto label = static_cast<int64_t>(target[at]);
    for (int64_t k = 0; k < classes; ++k)
      coefficients[k] =
          (weighted ? weights[k] : 1) * (smoothing / n + (k == label ? 1 - smoothing : 0));
    return weighted ? weights[label] : 1;
  }
  int64_t classes, images, positions;
  bool soft;
  double smoothing, ignore;
  double* coefficients;
  bool weighted;
  double* weights;  // a class
};

double log_sum_exp(const double* x, int64_t n) {
  const double most = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t k = 0; k < n; ++k) sum += std::exp(x[k] - most);
  return most + std::log(sum);
}

}  // namespace

void softmax_cross_entropy(Call& c) {
  Labels labels(c);
  reduce(c, labels.images, labels.positions, [&](int64_t n, int64_t i) {
    const int64_t at = n * labels.positions + i;
    const double weight = labels.read(c.x(1), at) * image_weight(c, n);
    const double* x = c.x(0) + at * labels.classes;
    const double total = log_sum_exp(x, labels.classes);
    double loss = 0;
    for (int64_t k = 0; k < labels.classes; ++k) {
      const double a = labels.coefficients[k];
      if (a != 0) loss += a * (total - x[k]);
    }
    return std::pair{loss * image_weight(c, n), weight};
  });
}

void softmax_cross_entropy_gradient(Call& c) {
  Labels labels(c);
  const double scale = gradient_scale(c);
  for (int64_t at = 0; at < labels.images * labels.positions; ++at) {
    labels.read(c.x(1), at);
    const double* x = c.x(0) + at * labels.classes;
    const double total = log_sum_exp(x, labels.classes),
                 factor = scale * image_weight(c, at / labels.positions);
    double sum = 0;
    for (int64_t k = 0; k < labels.classes; ++k) sum += labels.coefficients[k];
    for (int64_t k = 0; k < labels.classes; ++k)
      c.gx(0)[at * labels.classes + k] =
          factor == 0 ? 0 : factor * (sum * std::exp(x[k] - total) - labels.coefficients[k]);
  }
}

void mse(Call& c) {
  const int64_t images = c.x_shape(0)[0], size = count(c.x_shape(0)) / images;
  reduce(c, images, size, [&](int64_t n, int64_t i) {
    const double d = c.x(0)[n * size + i] - c.x(1)[n * size + i], w = image_weight(c, n);
    return std::pair{w * d * d, w};
  });
}

void mse_gradient(Call& c) {
  const int64_t images = c.x_shape(0)[0], size = count(c.x_shape(0)) / images;
  const double scale = gradient_scale(c);
  for (int64_t i = 0; i < images * size; ++i)
    c.gx(0)[i] = 2 * scale * image_weight(c, i / size) * (c.x(0)[i] - c.x(1)[i]);
}

void given_loss(Call& c) {
  reduce(c, c.x_shape(0)[0], 1, [&](int64_t n, int64_t) {
    const double w = image_weight(c, n, 1);
    return std::pair{w * c.x(0)[n], w};
  });
}

void given_loss_gradient(Call& c) {
  const double scale = gradient_scale(c);
  for (int64_t n = 0; n < c.x_shape(0)[0]; ++n) c.gx(0)[n] = scale * image_weight(c, n, 1);
}

void total_loss(Call& c) {
  double weights[64];  // as many operands as the op table allows
  c.attrs().read_numbers("weights", weights, c.node().nx);
  for (int i = 0; i < c.node().nx; ++i) c.y(0)[0] += weights[i] * c.x(i)[0];
}

void total_loss_gradient(Call& c) {
  double weights[64];  // as many operands as the op table allows
  c.attrs().read_numbers("weights", weights, c.node().nx);
  for (int i = 0; i < c.node().nx; ++i)
    if (c.gx(i) != nullptr) c.gx(i)[0] = weights[i] * c.gy(0)[0];
}

}  // namespace mpsnn::backend::reference
