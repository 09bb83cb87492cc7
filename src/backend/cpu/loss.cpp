// Losses: sum(w l) / sum(w), sum(w l) or every w l; and the first two over each image. Sums are in
// double; images, and parts of them where they are few, are split over the threads.
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
        mean(node.attrs.text("reduction") == "mean"),
        none(node.attrs.text("reduction") == "none"),
        normalize(node.attrs.flag("normalize")) {
    if (unit) units_a_weight = images * each / count(b.shape(node.x(weights + 1)));
    if (node.gradient) {
      by_loss = b.in(node.gy(0));
      by_losses = b.in(node.gy(1));
      gx = b.out(node.gx(0));
      return;
    }
    loss = b.out(node.y(0));
    losses = b.raw(node.y(1));
    const int64_t team = threads::team();
    parts = std::max<int64_t>(1, std::min((2 * team + images - 1) / images, each / 8192));
    partial = b.scratch(static_cast<std::size_t>(images * parts) * 2 * sizeof(double));
  }
  static runtime::Ref operand(Builder& b, const Node& node, int i) {
    return i < node.nx && node.x(i) != kNone ? b.in(node.x(i)) : runtime::Ref();
  }

  float image_weight(int64_t n) const { return image ? image.get<float>()[n] : 1.0f; }
  float unit_weight(int64_t u) const { return unit ? unit.get<float>()[u / units_a_weight] : 1.0f; }

  // f(first, last, sum of w l, sum of w) over units of one image, without the image's weight; in an
  // unreduced loss it also writes each w l.
  template <class F>
  void reduce(int64_t cost, F f) const {
    auto* pair = partial.get<double>();
    const int64_t grain = 1 + 8192 * parts / std::max<int64_t>(1, each * cost);
    threads::parallel_for(images * parts, grain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t n = p / parts, part = p % parts, start = n * each;
        const int64_t first = start + each * part / parts, last = start + each * (part + 1) / parts;
        double &sum = pair[2 * p], &weight = pair[2 * p + 1];
        sum = weight = 0;
        const auto by = static_cast<double>(image_weight(n));
        if (by != 0) {
          f(first, last, sum, weight);
          sum *= by;
          weight *= by;
        }
        for (int64_t u = first; none && by != 1 && u < last; ++u)
          loss.get<float>()[u] = by == 0 ? 0.0f : loss.get<float>()[u] * static_cast<float>(by);
      }
    });
    double l = 0, w = 0;
    for (int64_t n = 0; n < images; ++n) {
      double image_loss = 0, image_sum = 0;
      for (int64_t p = n * parts; p < (n + 1) * parts; ++p) {
        image_loss += pair[2 * p];
        image_sum += pair[2 * p + 1];
      }
      losses.get<float>()[n] = quotient(image_loss, image_sum, mean);
      sums.get<float>()[n] = static_cast<float>(image_sum);
      l += image_loss;
      w += image_sum;
    }
    if (!none) loss.get<float>()[0] = quotient(l, w, mean);
    total.get<float>()[0] = static_cast<float>(w);
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
    const float w = image_weight(n);
    return none && by_loss && w != 0.0f ? w * by_loss.get<float>()[u] : 0.0f;
  }

  runtime::Ref x, image, unit, total, sums, by_loss, by_losses, gx, loss, losses, partial;
  int64_t images, each, units_a_weight = 1, parts = 1;
  bool mean, none, normalize;
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

}  // namespace

KernelPtr make_softmax_cross_entropy(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, positions_an_image(shape));
  const Labels labels(b, node);
  const int64_t classes = shape.back();
  constexpr int64_t kChunk = 64;
  if (!node.gradient) {
    return kernel([=](const runtime::StepContext&) {
      l.reduce(classes, [&](int64_t first, int64_t last, double& sum, double& weight) {
        float log_sums[kChunk];
        for (int64_t at = first; at < last; ++at) {
          const int64_t place = (at - first) % kChunk;
          if (place == 0)
            select().log_sums(l.x.get<float>() + at * classes, std::min(kChunk, last - at), classes,
                              log_sums);
          if (l.none) l.loss.get<float>()[at] = 0.0f;
          const float by = l.unit_weight(at);
          if (labels.ignored(at) || by == 0.0f) continue;
          const float *x = l.x.get<float>() + at * classes, *row = labels.row(at);
          const int64_t label = labels.label(at);
          const float log_total = log_sums[place];
          double loss = 0;
          if (labels.plain()) {
            loss = static_cast<double>(labels.class_weight(label)) *
                   static_cast<double>(log_total - x[label]);
          } else {
            for (int64_t k = 0; k < classes; ++k)
              loss += static_cast<double>(labels.coefficient(row, label, k)) *
                      static_cast<double>(log_total - x[k]);
          }
          loss *= static_cast<double>(by);
          if (l.none) l.loss.get<float>()[at] = static_cast<float>(loss);
          sum += loss;
          weight += static_cast<double>(by) *
                    (labels.soft ? 1.0 : static_cast<double>(labels.class_weight(label)));
        }
      });
    });
  }
  return kernel([=](const runtime::StepContext&) {
    const int64_t chunks = (l.each + kChunk - 1) / kChunk, grain = 1 + 8192 / (classes * kChunk);
    threads::parallel_for(l.images * chunks, grain, [&](int64_t begin, int64_t end) {
      float factors[kChunk], shares[kChunk];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / chunks, first = n * l.each + i % chunks * kChunk,
                      size = std::min(kChunk, (n + 1) * l.each - first);
        const float by_image = l.factor(n);
        for (int64_t j = 0; j < size; ++j) {
          const int64_t at = first + j, label = labels.label(at);
          const float by = l.unit_weight(at);
          const bool counts = by != 0.0f && !labels.ignored(at);
          factors[j] = counts ? by * (by_image + l.own_factor(n, at)) : 0.0f;
          float sum = 0.0f;
          if (labels.plain())
            sum = counts ? labels.class_weight(label) : 0.0f;
          else
            for (int64_t k = 0; k < classes; ++k)
              sum += labels.coefficient(labels.row(at), label, k);
          shares[j] = factors[j] * sum;
        }
        float* gx = l.gx.get<float>() + first * classes;
        select().scaled_softmax(l.x.get<float>() + first * classes, shares, gx, size, classes);
        for (int64_t j = 0; j < size; ++j, gx += classes) {
          const int64_t at = first + j, label = labels.label(at);
          if (factors[j] == 0.0f)
            for (int64_t k = 0; k < classes; ++k) gx[k] = 0.0f;  // also where x is not finite
          else if (labels.plain())
            gx[label] -= factors[j] * labels.class_weight(label);
          else
            for (int64_t k = 0; k < classes; ++k)
              gx[k] -= factors[j] * labels.coefficient(labels.row(at), label, k);
        }
      }
    });
  });
}

KernelPtr make_element_loss(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, count(shape) / shape[0]);
  const Elements elements(b, node);
  constexpr int64_t kChunk = Elements::kChunk;
  if (!node.gradient) {
    return kernel([=](const runtime::StepContext&) {
      l.reduce(1, [&](int64_t first, int64_t last, double& sum, double& weight) {
        float target[kChunk], weights[kChunk], values[kChunk];
        for (int64_t at = first; at < last; at += kChunk) {
          const int64_t n = std::min(kChunk, last - at);
          const float* w = elements.weights(l, at, n, weights);
          sum += select().element_loss(elements.params, l.x.get<float>() + at,
                                       elements.targets(at, n, target), w,
                                       l.none ? l.loss.get<float>() + at : values, n);
          if (w == nullptr) weight += static_cast<double>(n);
          for (int64_t i = 0; w != nullptr && i < n; ++i) weight += static_cast<double>(w[i]);
        }
      });
    });
  }
  return kernel([=](const runtime::StepContext&) {
    const int64_t chunks = (l.each + kChunk - 1) / kChunk;
    threads::parallel_for(l.images * chunks, 8, [&](int64_t begin, int64_t end) {
      float target[kChunk], weights[kChunk];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / chunks, at = n * l.each + i % chunks * kChunk,
                      size = std::min(kChunk, (n + 1) * l.each - at);
        float factor = l.factor(n);
        const float* w = elements.weights(l, at, size, weights);
        if (l.none && l.by_loss) {
          for (int64_t k = 0; k < size; ++k)
            weights[k] = (w == nullptr ? 1.0f : w[k]) * (factor + l.own_factor(n, at + k));
          w = weights;
          factor = 1.0f;
        }
        if (factor == 0.0f)
          std::memset(l.gx.get<float>() + at, 0, static_cast<std::size_t>(size) * sizeof(float));
        else
          select().element_loss_gradient(elements.params, l.x.get<float>() + at,
                                         elements.targets(at, size, target), w, factor,
                                         l.gx.get<float>() + at, size);
      }
    });
  });
}

KernelPtr make_cosine_distance(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, positions_an_image(shape));
  const auto target = b.in(node.x(1));
  const int64_t c = shape.back();
  if (!node.gradient) {
    return kernel([=](const runtime::StepContext&) {
      l.reduce(c, [&](int64_t first, int64_t last, double& sum, double& weight) {
        for (int64_t at = first; at < last; ++at) {
          const float *x = l.x.get<float>() + at * c, *t = target.get<float>() + at * c;
          const auto w = static_cast<double>(l.unit_weight(at));
          double dot = 0;
          select().reduce(Reduce::dot, {1, c, {0, 0, 0}, {1, 1, 0}}, x, t, &dot);
          const double loss = w == 0 ? 0 : w * (1 - dot);
          if (l.none) l.loss.get<float>()[at] = static_cast<float>(loss);
          sum += loss;
          weight += w;
        }
      });
    });
  }
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(l.images * l.each, 1 + 8192 / c, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t n = at / l.each;
        const float w = l.unit_weight(at);
        const float factor = w == 0.0f ? 0.0f : -w * (l.factor(n) + l.own_factor(n, at));
        const float* t = target.get<float>() + at * c;
        float* gx = l.gx.get<float>() + at * c;
        for (int64_t k = 0; k < c; ++k) gx[k] = factor == 0.0f ? 0.0f : factor * t[k];
      }
    });
  });
}

KernelPtr make_yolo_loss(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.x(0));
  const LossNode l(b, node, 1);
  const auto target = b.in(node.x(1));
  const auto anchors = node.attrs.numbers("anchors");
  const int64_t c = shape[3], cells = positions_an_image(shape), size = cells * c;
  const bool gradient = node.gradient;
  const Attrs& attrs = node.attrs;
  return kernel([=, spec = ir::YoloSpec(attrs, nullptr, attrs.integer("count"))](
                    const runtime::StepContext&) mutable {
    spec.anchors = anchors.data();
    const auto one = [&](int64_t n, float factor, float* gx) {
      return ir::yolo_loss<float>(spec, l.x.get<float>() + n * size, target.get<float>() + n * size,
                                  cells, c, static_cast<double>(factor), gx);
    };
    if (!gradient)
      return l.reduce(size, [&](int64_t n, int64_t, double& sum, double& weight) {
        sum = one(n, 0.0f, nullptr);
        weight = 1;
        if (l.none) l.loss.get<float>()[n] = static_cast<float>(sum);
      });
    threads::parallel_for(l.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        float* gx = l.gx.get<float>() + n * size;
        const float factor = l.factor(n) + l.own_factor(n, n);
        if (factor == 0.0f)
          std::memset(gx, 0, static_cast<std::size_t>(size) * sizeof(float));
        else
          one(n, factor, gx);
      }
    });
  });
}

KernelPtr make_given_loss(Builder& b, const Node& node) {
  const LossNode l(b, node, 1, 1);
  const bool gradient = node.gradient;
  return kernel([=](const runtime::StepContext&) {
    if (!gradient)
      return l.reduce(1, [&](int64_t n, int64_t, double& sum, double& weight) {
        sum = static_cast<double>(l.x.get<float>()[n]);
        weight = 1;
        if (l.none) l.loss.get<float>()[n] = l.x.get<float>()[n];
      });
    for (int64_t n = 0; n < l.images; ++n) l.gx.get<float>()[n] = l.factor(n) + l.own_factor(n, n);
  });
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
