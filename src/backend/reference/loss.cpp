// Losses: sum(w l) / sum(w), sum(w l) or every w l; and the first two over each image. An l whose w
// is 0 does not count, whatever it is.
#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/reference/reference.h"
#include "ir/loss.h"
#include "ir/yolo.h"

namespace mpsnn::backend::reference {
namespace {

double quotient(double sum, double weight, bool divide) {
  if (!divide) return sum;
  return weight == 0 ? 0 : sum / weight;
}

// The units that a loss is summed over, `each` of them an image: elements, positions or images.
class Units {
 public:
  Units(Call& c, int64_t each, int weights = 2)
      : images(c.x_shape(0)[0]),
        each(each),
        c_(c),
        image_(c.has_x(weights) ? c.x(weights) : nullptr),
        unit_(c.has_x(weights + 1) ? c.x(weights + 1) : nullptr),
        units_a_weight_(unit_ == nullptr ? 1 : images * each / count(c.x_shape(weights + 1))),
        mean_(c.attrs().text("reduction") == "mean"),
        none_(c.attrs().text("reduction") == "none") {}

  // Image weight times unit weight.
  double weight(int64_t unit) const {
    return (image_ == nullptr ? 1 : image_[unit / each]) *
           (unit_ == nullptr ? 1 : unit_[unit / units_a_weight_]);
  }

  // loss(unit) gives l, with the class's weight in it, and the class's weight.
  template <class F>
  void forward(F loss) {
    double *total = c_.y(0), *losses = c_.y(1), *weight_sum = c_.state(0), *sums = c_.state(1);
    reference::each(images, 50 * each, [&](int64_t n) {
      for (int64_t u = n * each; u < (n + 1) * each; ++u) {
        const double w = weight(u);
        const auto [l, by_class] = loss(u);
        const double weighted = w == 0 || by_class == 0 ? 0 : w * l;
        if (none_) total[u] = weighted;
        losses[n] += weighted;
        sums[n] += w * by_class;
      }
    });
    double sum = 0;
    for (int64_t n = 0; n < images; ++n) {
      sum += losses[n];
      weight_sum[0] += sums[n];
      losses[n] = quotient(losses[n], sums[n], mean_);
    }
    if (!none_) total[0] = quotient(sum, weight_sum[0], mean_);
  }

  // The derivative by the unit's l, of whichever outputs have a gradient.
  double factor(int64_t unit) const {
    const double w = weight(unit), *by_loss = c_.gy(0), *by_losses = c_.gy(1);
    if (w == 0) return 0;
    double sum = 0;
    if (by_loss != nullptr)
      sum += none_ ? by_loss[unit]
                   : quotient(by_loss[0], c_.state(0)[0], mean_ && c_.attrs().flag("normalize"));
    if (by_losses != nullptr)
      sum += quotient(by_losses[unit / each], c_.state(1)[unit / each], mean_);
    return w * sum;
  }

  int64_t images, each;

 private:
  Call& c_;
  const double *image_, *unit_;
  int64_t units_a_weight_;
  bool mean_, none_;
};

// Labels of softmax_cross_entropy: the coefficient of each -log p at a position, and its weight.
struct Labels {
  explicit Labels(Call& c)
      : target(c.x(1)),
        classes(c.x_shape(0).back()),
        soft(is_floating(c.x_dtype(1))),
        smoothing(c.attrs().number("label_smoothing")),
        ignore(static_cast<double>(c.attrs().integer("ignore_index"))),
        weights(c.scratch(0)) {
    weighted = c.attrs().has("weight") && c.attrs().read_numbers("weight", weights, classes);
  }
  bool ignored(int64_t at) const { return !soft && target[at] == ignore; }
  double class_weight(int64_t k) const { return weighted ? weights[k] : 1; }
  double coefficient(int64_t at, int64_t k) const {
    if (ignored(at)) return 0;
    const double one = soft ? target[at * classes + k] : target[at] == static_cast<double>(k);
    return class_weight(k) * (one * (1 - smoothing) + smoothing / static_cast<double>(classes));
  }
  double weight(int64_t at) const {
    if (ignored(at)) return 0;
    return soft ? 1 : class_weight(static_cast<int64_t>(target[at]));
  }
  const double* target;
  int64_t classes;
  bool soft;
  double smoothing, ignore;
  double* weights;  // a class
  bool weighted;
};

double log_sum_exp(const double* x, int64_t n) {
  const double most = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t k = 0; k < n; ++k) sum += std::exp(x[k] - most);
  return most + std::log(sum);
}

// Targets and class weights of element losses; class indices count as one-hot.
struct Targets {
  explicit Targets(Call& c)
      : target(c.x(1)),
        classes(c.x_shape(0).back()),
        indices(!is_floating(c.x_dtype(1))),
        ignore(static_cast<double>(c.attrs().integer("ignore_index"))),
        smoothing(c.attrs().number("label_smoothing")),
        weights(c.scratch(0)) {
    weighted = c.attrs().has("weight") && c.attrs().read_numbers("weight", weights, classes);
  }
  double wanted(int64_t at) const {
    const double t =
        indices ? (target[at / classes] == static_cast<double>(at % classes)) : target[at];
    return t * (1 - smoothing) + 0.5 * smoothing;
  }
  double weight(int64_t at) const {
    if (indices && target[at / classes] == ignore) return 0;
    return weighted ? weights[at % classes] : 1;
  }
  const double* target;
  int64_t classes;
  bool indices;
  double ignore, smoothing;
  double* weights;
  bool weighted;
};

ir::YoloSpec yolo_spec(Call& c) {
  const int64_t count = c.attrs().integer("count");
  c.attrs().read_numbers("anchors", c.scratch(0), 2 * count);  // fewer than channels
  return {c.attrs(), c.scratch(0), count};
}

int64_t elements(Call& c) { return count(c.x_shape(0)) / c.x_shape(0)[0]; }
int64_t positions(Call& c) { return elements(c) / c.x_shape(0).back(); }

}  // namespace

void softmax_cross_entropy(Call& c) {
  const Labels labels(c);
  Units(c, positions(c)).forward([&](int64_t at) {
    const double* x = c.x(0) + at * labels.classes;
    const double total = log_sum_exp(x, labels.classes);
    double loss = 0;
    for (int64_t k = 0; k < labels.classes; ++k) {
      const double a = labels.coefficient(at, k);
      if (a != 0) loss += a * (total - x[k]);
    }
    return std::pair{loss, labels.weight(at)};
  });
}

void softmax_cross_entropy_gradient(Call& c) {
  const Labels labels(c);
  const Units units(c, positions(c));
  each(units.images * units.each, 20 * labels.classes, [&](int64_t at) {
    const double factor = units.factor(at);
    if (factor == 0 || labels.ignored(at)) return;
    const double* x = c.x(0) + at * labels.classes;
    const double total = log_sum_exp(x, labels.classes);
    double sum = 0;
    for (int64_t k = 0; k < labels.classes; ++k) sum += labels.coefficient(at, k);
    for (int64_t k = 0; k < labels.classes; ++k)
      c.gx(0)[at * labels.classes + k] =
          factor * (sum * std::exp(x[k] - total) - labels.coefficient(at, k));
  });
}

void element_loss(Call& c) {
  const ir::LossSpec spec = ir::loss_of(c.attrs());
  const Targets targets(c);
  Units(c, elements(c)).forward([&](int64_t at) {
    const double w = targets.weight(at);
    return std::pair{w * ir::element_loss(spec, c.x(0)[at], targets.wanted(at)), w};
  });
}

void element_loss_gradient(Call& c) {
  const ir::LossSpec spec = ir::loss_of(c.attrs());
  const Targets targets(c);
  const Units units(c, elements(c));
  each(units.images * units.each, 10, [&](int64_t at) {
    const double factor = targets.weight(at) * units.factor(at);
    c.gx(0)[at] =
        factor == 0 ? 0 : factor * ir::element_loss_slope(spec, c.x(0)[at], targets.wanted(at));
  });
}

void cosine_distance(Call& c) {
  const int64_t channels = c.x_shape(0).back();
  Units(c, positions(c)).forward([&](int64_t at) {
    double dot = 0;
    for (int64_t k = at * channels; k < (at + 1) * channels; ++k) dot += c.x(0)[k] * c.x(1)[k];
    return std::pair{1 - dot, 1.0};
  });
}

void cosine_distance_gradient(Call& c) {
  const Units units(c, positions(c));
  const int64_t channels = c.x_shape(0).back();
  each(units.images * units.each * channels, 10, [&](int64_t at) {
    const double factor = units.factor(at / channels);
    c.gx(0)[at] = factor == 0 ? 0 : -factor * c.x(1)[at];
  });
}

void yolo_loss(Call& c) {
  const ir::YoloSpec spec = yolo_spec(c);
  const int64_t channels = c.x_shape(0)[3], cells = positions(c);
  Units(c, 1).forward([&](int64_t n) {
    const int64_t at = n * cells * channels;
    const double loss =
        ir::yolo_loss<double>(spec, c.x(0) + at, c.x(1) + at, cells, channels, 0, nullptr);
    return std::pair{loss, 1.0};
  });
}

void yolo_loss_gradient(Call& c) {
  const ir::YoloSpec spec = yolo_spec(c);
  const int64_t channels = c.x_shape(0)[3], cells = positions(c);
  const Units units(c, 1);
  for (int64_t n = 0; n < units.images; ++n) {
    const int64_t at = n * cells * channels;
    const double factor = units.factor(n);
    if (factor != 0)
      ir::yolo_loss<double>(spec, c.x(0) + at, c.x(1) + at, cells, channels, factor, c.gx(0) + at);
  }
}

void given_loss(Call& c) {
  Units(c, 1, 1).forward([&](int64_t n) { return std::pair{c.x(0)[n], 1.0}; });
}

void given_loss_gradient(Call& c) {
  const Units units(c, 1, 1);
  for (int64_t n = 0; n < units.images; ++n) c.gx(0)[n] = units.factor(n);
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
