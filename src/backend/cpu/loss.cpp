// Losses: sum(w l) / sum(w), sum(w l) or every w l; and the first two over each image. Sums are in
// double; images, and parts of them where they are few, are split over the threads. Where the
// gradient is the same node's (Pattern::loss_gradient), it is computed from what the loss has just
// read, and the sums of weights, which it is divided by, come first.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/lambda.h"
#include "ir/loss.h"
#include "ir/yolo.h"

namespace mpsnn::backend::cpu {
namespace {

float quotient(double sum, double weight, bool divide) {
  if (!divide) return static_cast<float>(sum);
  return weight == 0 ? 0.0f : static_cast<float>(sum / weight);
}

// A loss and the weights it is summed by.
struct Weighed {
  double loss = 0, weight = 0;
};

template <class Formula>
Weighed both(const Formula& f, int64_t image, int64_t first, int64_t size) {
  const Weighed sums = f.forward(first, size);
  f.backward(image, first, size);
  return sums;
}

// What a loss node does whatever its formula. Its units, `each` of them an image, are elements,
// positions or images.
struct LossNode {
  LossNode(Builder& b, const Node& node, int64_t units_an_image, int weights = 2)
      : x(b.in(node.x(0))),
        image(operand(b, node, weights)),
        unit(operand(b, node, weights + 1)),
        total(b.raw(node.state(0))),
        sums(b.raw(node.state(1))),
        images(b.shape(node.x(0))[0]),
        each(units_an_image),
        forward(!node.gradient),
        backward(node.gradient || node.outputs.size() > static_cast<std::size_t>(node.ny)),
        mean(node.attrs.text("reduction") == "mean"),
        none(node.attrs.text("reduction") == "none"),
        normalize(node.attrs.flag("normalize")) {
    if (unit) units_a_weight = images * each / count(b.shape(node.x(weights + 1)));
    if (backward) {
      const auto first = static_cast<std::size_t>(forward ? node.nx : 0);
      by_loss = b.in(node.inputs[first]);
      by_losses = b.in(node.inputs[first + 1]);
      gx = b.out(forward ? node.outputs.back() : node.gx(0));
    }
    const int64_t team = threads::team();
    parts = std::max<int64_t>(1, std::min((2 * team + images - 1) / images, each / 8192));
    if (!forward) return;
    loss = b.out(node.y(0));
    losses = b.raw(node.y(1));
    partial = b.scratch(static_cast<std::size_t>(images * parts) * sizeof(Weighed));
  }
  static runtime::Ref operand(Builder& b, const Node& node, int i) {
    return i < node.nx && node.x(i) != kNone ? b.in(node.x(i)) : runtime::Ref();
  }

  float image_weight(int64_t n) const { return image ? image.get<float>()[n] : 1.0f; }
  float unit_weight(int64_t u) const { return unit ? unit.get<float>()[u / units_a_weight] : 1.0f; }

  // `formula` has, of some units of one image and without the image's weight,
  //   weigh(first, size): the sum of w,
  //   forward(first, size): the sums of w l and w; in an unreduced loss it also writes each w l,
  //   backward(image, first, size): writes gx;
  // and both(formula, image, first, size) may do the last two at once.
  template <class Formula>
  KernelPtr kernel_of(Formula formula, int64_t cost_a_unit, int64_t chunk) const {
    return kernel([l = *this, formula = std::move(formula), cost_a_unit,
                   chunk](const runtime::StepContext&) { l.run(formula, cost_a_unit, chunk); });
  }

  // The derivative by the l of an image's units, but for their own weights; and what an unreduced
  // loss has to add to it for each unit.
  float factor(int64_t n) const {
    const float w = image_weight(n);
    float sum = 0.0f;
    if (by_loss && !none)
      sum += quotient(static_cast<double>(by_loss.get<float>()[0]),
                      static_cast<double>(total.get<float>()[0]), mean && normalize);
    if (by_losses)
      sum += quotient(static_cast<double>(by_losses.get<float>()[n]),
                      static_cast<double>(sums.get<float>()[n]), mean);
    return w == 0.0f ? 0.0f : w * sum;
  }
  float own_factor(int64_t n, int64_t u) const {
    if (!none || !by_loss) return 0.0f;
    const float w = image_weight(n);
    return w != 0.0f ? w * by_loss.get<float>()[u] : 0.0f;
  }

  runtime::Ref x, image, unit, total, sums, by_loss, by_losses, gx, loss, losses, partial;
  int64_t images, each, units_a_weight = 1, parts = 1;
  bool forward, backward, mean, none, normalize;

 private:
  template <class Formula>
  void run(const Formula& f, int64_t cost_a_unit, int64_t chunk) const {
    const auto chunks = [chunk](int64_t first, int64_t last, auto g) {
      for (int64_t at = first; at < last; at += chunk) g(at, std::min(chunk, last - at));
    };
    if (forward && backward && mean) {
      each_part(1, [&](int64_t n, int64_t first, int64_t last, Weighed& all) {
        if (image_weight(n) == 0.0f) return;
        chunks(first, last, [&](int64_t at, int64_t size) { all.weight += f.weigh(at, size); });
      });
      add_up();
    }
    each_part(cost_a_unit, [&](int64_t n, int64_t first, int64_t last, Weighed& all) {
      const bool counts = image_weight(n) != 0.0f;
      chunks(first, last, [&](int64_t at, int64_t size) {
        if (forward && counts) {
          const Weighed one = backward ? both(f, n, at, size) : f.forward(at, size);
          all.loss += one.loss;
          all.weight += one.weight;
        } else if (backward) {
          f.backward(n, at, size);
        }
      });
    });
    if (forward) add_up();
  }

  // f(image, first unit, last, sums of the part), the latter without the image's weight.
  template <class F>
  void each_part(int64_t cost_a_unit, F f) const {
    const int64_t grain = 1 + 8192 * parts / std::max<int64_t>(1, each * cost_a_unit);
    threads::parallel_for(images * parts, grain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t n = p / parts, part = p % parts, start = n * each,
                      first = start + each * part / parts, last = start + each * (part + 1) / parts;
        Weighed sum;
        f(n, first, last, sum);
        if (!forward) continue;
        const float by = image_weight(n);
        sum.loss *= static_cast<double>(by);
        sum.weight *= static_cast<double>(by);
        partial.get<Weighed>()[p] = sum;
        for (int64_t u = first; none && by != 1.0f && u < last; ++u)
          loss.get<float>()[u] = by == 0.0f ? 0.0f : loss.get<float>()[u] * by;
      }
    });
  }

  void add_up() const {
    Weighed all;
    for (int64_t n = 0; n < images; ++n) {
      Weighed own;
      for (int64_t p = n * parts; p < (n + 1) * parts; ++p) {
        own.loss += partial.get<Weighed>()[p].loss;
        own.weight += partial.get<Weighed>()[p].weight;
      }
      losses.get<float>()[n] = quotient(own.loss, own.weight, mean);
      sums.get<float>()[n] = static_cast<float>(own.weight);
      all.loss += own.loss;
      all.weight += own.weight;
    }
    if (!none) loss.get<float>()[0] = quotient(all.loss, all.weight, mean);
    total.get<float>()[0] = static_cast<float>(all.weight);
  }
};

int64_t positions_an_image(const Shape& x) { return count(x) / x[0] / x.back(); }

// The coefficient of each -log p at a position: class weight x smoothed label.
struct Labels {
  Labels(Builder& b, const Node& node)
      : target(b.in(node.x(1))),
        classes(b.shape(node.x(0)).back()),
        soft(is_floating(b.plan().values[static_cast<std::size_t>(node.x(1))].dtype)),
        smoothing(static_cast<float>(node.attrs.number("label_smoothing"))),
        ignore(node.attrs.integer("ignore_index")) {
    if (node.attrs.has("weight"))
      for (const double w : node.attrs.numbers("weight")) weights.push_back(static_cast<float>(w));
  }
  const float* row(int64_t at) const { return soft ? target.get<float>() + at * classes : nullptr; }
  int64_t label(int64_t at) const { return soft ? -1 : target.get<int32_t>()[at]; }
  bool ignored(int64_t at) const { return !soft && label(at) == ignore; }
  float class_weight(int64_t k) const {
    return weights.empty() ? 1.0f : weights[static_cast<std::size_t>(k)];
  }
  bool plain() const { return !soft && smoothing == 0.0f; }
  float coefficient(const float* row, int64_t label, int64_t k) const {
    const float one = soft ? row[k] : (k == label ? 1.0f : 0.0f);
    return class_weight(k) * (one * (1.0f - smoothing) + smoothing / static_cast<float>(classes));
  }
  runtime::Ref target;
  int64_t classes;
  bool soft;
  float smoothing;
  int64_t ignore;
  std::vector<float> weights;
};

// Targets and weights of element losses, in chunks.
struct Elements {
  static constexpr int64_t kChunk = 1024;

  Elements(Builder& b, const Node& node)
      : labels(b, node),
        indices(!labels.soft),
        weighted(indices || !labels.weights.empty() || (node.nx > 3 && node.x(3) != kNone)) {
    const ir::LossSpec spec = ir::loss_of(node.attrs);
    params = {static_cast<int>(spec.kind), static_cast<float>(spec.a), 1.0f - labels.smoothing,
              0.5f * labels.smoothing};
  }
  // Of elements first..first + n: targets, and weights (null where they are 1), maybe in buffers.
  const float* targets(int64_t first, int64_t n, float* buffer) const {
    if (!indices) return labels.target.get<float>() + first;
    const int64_t c = labels.classes;
    for (int64_t i = 0; i < n; ++i)
      buffer[i] = labels.label((first + i) / c) == (first + i) % c ? 1.0f : 0.0f;
    return buffer;
  }
  const float* weights(const LossNode& l, int64_t first, int64_t n, float* buffer) const {
    if (!weighted) return nullptr;
    const int64_t c = labels.classes;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = first + i;
      const bool counts = !indices || !labels.ignored(at / c);
      buffer[i] = counts ? l.unit_weight(at) * labels.class_weight(at % c) : 0.0f;
    }
    return buffer;
  }
  Labels labels;
  bool indices, weighted;
  LossParams params;
};

struct SoftmaxCrossEntropy {
  static constexpr int64_t kChunk = 64;
  LossNode l;
  Labels labels;
  int64_t classes;

  // What weighs a position, read without detours.
  struct Weights {
    explicit Weights(const SoftmaxCrossEntropy& f)
        : label(f.labels.soft ? nullptr : f.labels.target.get<int32_t>()),
          by_unit(f.l.unit ? f.l.unit.get<float>() : nullptr),
          by_class(f.labels.weights.empty() ? nullptr : f.labels.weights.data()),
          units(f.l.units_a_weight),
          ignore(f.labels.ignore) {}
    float of(int64_t at) const {
      if (label != nullptr && label[at] == ignore) return 0.0f;
      return by_unit == nullptr ? 1.0f : by_unit[at / units];
    }
    float of_label(int64_t at) const {
      return label == nullptr || by_class == nullptr ? 1.0f : by_class[label[at]];
    }
    const int32_t* label;
    const float *by_unit, *by_class;
    int64_t units, ignore;
  };

  double weigh(int64_t first, int64_t size) const {
    const Weights weights(*this);
    double sum = 0;
    for (int64_t at = first; at < first + size; ++at) {
      const float by = weights.of(at);
      if (by != 0.0f) sum += static_cast<double>(by) * static_cast<double>(weights.of_label(at));
    }
    return sum;
  }
  Weighed forward(int64_t first, int64_t size) const {
    float log_sums[kChunk];
    select().log_sums(l.x.get<float>() + first * classes, size, classes, log_sums);
    return sum(first, size, log_sums);
  }
  Weighed sum(int64_t first, int64_t size, const float* log_sums) const {
    const Weights weights(*this);
    const bool plain = labels.plain();
    float* each = l.none ? l.loss.get<float>() : nullptr;
    const float* x = l.x.get<float>() + first * classes;
    Weighed all;
    for (int64_t at = first; at < first + size; ++at, x += classes) {
      if (each != nullptr) each[at] = 0.0f;
      const float by = weights.of(at);
      if (by == 0.0f) continue;
      const auto of_label = static_cast<double>(weights.of_label(at));
      const float log_total = log_sums[at - first];
      double loss = 0;
      if (plain) {
        loss = of_label * static_cast<double>(log_total - x[weights.label[at]]);
      } else {
        const float* row = labels.row(at);
        const int64_t label = labels.label(at);
        for (int64_t k = 0; k < classes; ++k)
          loss += static_cast<double>(labels.coefficient(row, label, k)) *
                  static_cast<double>(log_total - x[k]);
      }
      loss *= static_cast<double>(by);
      if (each != nullptr) each[at] = static_cast<float>(loss);
      all.loss += loss;
      all.weight += static_cast<double>(by) * of_label;
    }
    return all;
  }
  // Also writes the logarithms that `sum` takes, if they are asked for.
  void backward(int64_t n, int64_t first, int64_t size, float* log_sums = nullptr) const {
    const Weights weights(*this);
    const bool plain = labels.plain();
    float factors[kChunk], shares[kChunk];
    const float by_image = l.factor(n);
    for (int64_t j = 0; j < size; ++j) {
      const int64_t at = first + j;
      const float by = weights.of(at);
      factors[j] = by != 0.0f ? by * (by_image + l.own_factor(n, at)) : 0.0f;
      float all = 0.0f;
      if (plain)
        all = by != 0.0f ? weights.of_label(at) : 0.0f;
      else
        for (int64_t k = 0; k < classes; ++k)
          all += labels.coefficient(labels.row(at), labels.label(at), k);
      shares[j] = factors[j] * all;
    }
    float* gx = l.gx.get<float>() + first * classes;
    select().scaled_softmax(l.x.get<float>() + first * classes, shares, gx, log_sums, size,
                            classes);
    for (int64_t j = 0; j < size; ++j, gx += classes) {
      const int64_t at = first + j;
      if (factors[j] == 0.0f)
        for (int64_t k = 0; k < classes; ++k) gx[k] = 0.0f;  // also where x is not finite
      else if (plain)
        gx[weights.label[at]] -= factors[j] * weights.of_label(at);
      else
        for (int64_t k = 0; k < classes; ++k)
          gx[k] -= factors[j] * labels.coefficient(labels.row(at), labels.label(at), k);
    }
  }
};

Weighed both(const SoftmaxCrossEntropy& f, int64_t image, int64_t first, int64_t size) {
  float log_sums[SoftmaxCrossEntropy::kChunk];
  f.backward(image, first, size, log_sums);
  return f.sum(first, size, log_sums);
}

struct ElementLoss {
  static constexpr int64_t kChunk = Elements::kChunk;
  LossNode l;
  Elements elements;

  static double sum(const float* w, int64_t n) {
    if (w == nullptr) return static_cast<double>(n);
    double all = 0;
    for (int64_t i = 0; i < n; ++i) all += static_cast<double>(w[i]);
    return all;
  }
  double weigh(int64_t first, int64_t size) const {
    float weights[kChunk];
    return sum(elements.weights(l, first, size, weights), size);
  }
  Weighed forward(int64_t first, int64_t size) const {
    float target[kChunk], weights[kChunk], values[kChunk];
    const float* w = elements.weights(l, first, size, weights);
    const double loss = select().element_loss(elements.params, l.x.get<float>() + first,
                                              elements.targets(first, size, target), w,
                                              l.none ? l.loss.get<float>() + first : values, size);
    return {loss, sum(w, size)};
  }
  void backward(int64_t n, int64_t first, int64_t size) const {
    float target[kChunk], weights[kChunk];
    float factor = l.factor(n);
    const float* w = elements.weights(l, first, size, weights);
    if (l.none && l.by_loss) {
      for (int64_t k = 0; k < size; ++k)
        weights[k] = (w == nullptr ? 1.0f : w[k]) * (factor + l.own_factor(n, first + k));
      w = weights;
      factor = 1.0f;
    }
    float* gx = l.gx.get<float>() + first;
    if (factor == 0.0f)
      std::memset(gx, 0, static_cast<std::size_t>(size) * sizeof(float));
    else
      select().element_loss_gradient(elements.params, l.x.get<float>() + first,
                                     elements.targets(first, size, target), w, factor, gx, size);
  }
};

struct CosineDistance {
  static constexpr int64_t kChunk = 16;
  LossNode l;
  runtime::Ref target;
  int64_t c;

  double weigh(int64_t first, int64_t size) const {
    double sum = 0;
    for (int64_t at = first; at < first + size; ++at) sum += static_cast<double>(l.unit_weight(at));
    return sum;
  }
  Weighed forward(int64_t first, int64_t size) const {
    double dots[kChunk] = {};
    select().reduce(Reduce::dot, {size, c, {c, c, 1}, {1, 1, 0}}, l.x.get<float>() + first * c,
                    target.get<float>() + first * c, dots);
    Weighed all;
    for (int64_t k = 0; k < size; ++k) {
      const auto w = static_cast<double>(l.unit_weight(first + k));
      const double loss = w == 0 ? 0 : w * (1 - dots[k]);
      if (l.none) l.loss.get<float>()[first + k] = static_cast<float>(loss);
      all.loss += loss;
      all.weight += w;
    }
    return all;
  }
  void backward(int64_t n, int64_t first, int64_t size) const {
    const float by_image = l.factor(n);
    float factors[kChunk];
    for (int64_t k = 0; k < size; ++k) {
      const float w = l.unit_weight(first + k);
      factors[k] = w == 0.0f ? 0.0f : -w * (by_image + l.own_factor(n, first + k));
    }
    float* gx = l.gx.get<float>() + first * c;
    select().binary(Binary::multiply, {size, c, {c, 1, c}, {1, 0, 1}},
                    target.get<float>() + first * c, factors, gx);
    for (int64_t k = 0; k < size; ++k)  // where the target is not finite, too
      if (factors[k] == 0.0f)
        std::memset(gx + k * c, 0, static_cast<std::size_t>(c) * sizeof(float));
  }
};

// A unit is an image.
struct YoloLoss {
  LossNode l;
  runtime::Ref target;
  int64_t cells, c;
  std::vector<double> anchors;
  ir::YoloSpec spec;

  double one(int64_t n, float factor, float* gx) const {
    ir::YoloSpec own = spec;
    own.anchors = anchors.data();
    const int64_t at = n * cells * c;
    return ir::yolo_loss<float>(own, l.x.get<float>() + at, target.get<float>() + at, cells, c,
                                static_cast<double>(factor), gx);
  }
  double weigh(int64_t, int64_t size) const { return static_cast<double>(size); }
  Weighed forward(int64_t n, int64_t) const {
    const double loss = one(n, 0.0f, nullptr);
    if (l.none) l.loss.get<float>()[n] = static_cast<float>(loss);
    return {loss, 1};
  }
  void backward(int64_t n, int64_t, int64_t) const {
    float* gx = l.gx.get<float>() + n * cells * c;
    const float factor = l.factor(n) + l.own_factor(n, n);
    if (factor == 0.0f)
      std::memset(gx, 0, static_cast<std::size_t>(cells * c) * sizeof(float));
    else
      one(n, factor, gx);
  }
};

struct GivenLoss {
  LossNode l;

  double weigh(int64_t, int64_t size) const { return static_cast<double>(size); }
  Weighed forward(int64_t n, int64_t) const {
    if (l.none) l.loss.get<float>()[n] = l.x.get<float>()[n];
    return {static_cast<double>(l.x.get<float>()[n]), 1};
  }
  void backward(int64_t n, int64_t, int64_t) const {
    l.gx.get<float>()[n] = l.factor(n) + l.own_factor(n, n);
  }
};

}  // namespace

KernelPtr make_softmax_cross_entropy(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, positions_an_image(shape));
  return l.kernel_of(SoftmaxCrossEntropy{l, Labels(b, node), shape.back()}, shape.back(),
                     SoftmaxCrossEntropy::kChunk);
}

KernelPtr make_element_loss(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, count(shape) / shape[0]);
  return l.kernel_of(ElementLoss{l, Elements(b, node)}, 1, ElementLoss::kChunk);
}

KernelPtr make_cosine_distance(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, positions_an_image(shape));
  const int64_t c = shape.back();
  return l.kernel_of(CosineDistance{l, b.in(node.x(1)), c}, c, CosineDistance::kChunk);
}

KernelPtr make_yolo_loss(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, 1);
  const int64_t cells = positions_an_image(shape);
  const ir::YoloSpec spec(node.attrs, nullptr, node.attrs.integer("count"));
  return l.kernel_of(
      YoloLoss{l, b.in(node.x(1)), cells, shape[3], node.attrs.numbers("anchors"), spec},
      cells * shape[3], 1);
}

KernelPtr make_given_loss(Builder& b, const Node& node) {
  const LossNode l(b, node, 1, 1);
  return l.kernel_of(GivenLoss{l}, 1, 1);
}

KernelPtr make_total_loss(Builder& b, const Node& node) {
  const auto weights = node.attrs.numbers("weights");
  std::vector<runtime::Ref> parts;
  for (int i = 0; i < node.nx; ++i) parts.push_back(b.raw(node.gradient ? node.gx(i) : node.x(i)));
  const auto whole = b.raw(node.gradient ? node.gy(0) : node.y(0));
  const bool gradient = node.gradient;
  return kernel([=](const runtime::StepContext&) {
    double total = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (gradient && parts[i])
        parts[i].get<float>()[0] = static_cast<float>(weights[i]) * whole.get<float>()[0];
      if (!gradient) total += weights[i] * static_cast<double>(parts[i].get<float>()[0]);
    }
    if (!gradient) whole.get<float>()[0] = static_cast<float>(total);
  });
}

}  // namespace mpsnn::backend::cpu
