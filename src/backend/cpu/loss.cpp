// Losses as PyTorch's: loss = sum(w l) / sum(w) or sum(w l); losses the same over each image. Sums
// are in double, images split over the threads.
#include <cmath>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {
namespace {

float quotient(double sum, double weight, bool divide) {
  if (!divide) return static_cast<float>(sum);
  return weight == 0 ? 0.0f : static_cast<float>(sum / weight);
}

// The parts of a loss node that do not depend on its formula.
struct LossNode {
  LossNode(Builder& b, const Node& node)
      : x(b.in(node.x(0))),
        target(b.in(node.x(1))),
        weight(node.nx > 2 ? b.in(node.x(2)) : runtime::Ref()),
        sum(b.raw(node.state(0))),
        images(b.shape(node.x(0))[0]),
        divide(node.attrs.text("reduction") == "mean"),
        normalize(node.attrs.flag("normalize")) {
    if (node.gradient) {
      seed = b.raw(node.gy(0));
      gx = b.out(node.gx(0));
    } else {
      loss = b.raw(node.y(0));
      losses = b.raw(node.y(1));
      parts = b.scratch(static_cast<std::size_t>(images) * 2 * sizeof(double));
    }
  }
  float image_weight(int64_t n) const { return weight ? weight.get<float>()[n] : 1.0f; }
  // What the gradient of sum(w l) is multiplied with.
  float gradient_scale() const {
    const float total = sum.get<float>()[0];
    const bool by_weight = divide && normalize;
    if (by_weight && total == 0.0f) return 0.0f;
    return seed.get<float>()[0] / (by_weight ? total : 1.0f);
  }
  // From element(image) -> {sum of w l, sum of w}.
  template <class F>
  void reduce(int64_t per_image, F element) const {
    auto* pair = parts.get<double>();
    threads::parallel_for(images, 1 + 8192 / per_image, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        element(n, pair[2 * n], pair[2 * n + 1]);
        losses.get<float>()[n] = quotient(pair[2 * n], pair[2 * n + 1], divide);
      }
    });
    double l = 0, w = 0;
    for (int64_t n = 0; n < images; ++n) {
      l += pair[2 * n];
      w += pair[2 * n + 1];
    }
    loss.get<float>()[0] = quotient(l, w, divide);
    sum.get<float>()[0] = static_cast<float>(w);
  }
  runtime::Ref x, target, weight, sum, seed, gx, loss, losses, parts;
  int64_t images;
  bool divide, normalize;
};

// The coefficient of each -log p at a position: class weight x smoothed label.
struct Labels {
  Labels(Builder& b, const Node& node)
      : soft(is_floating(b.plan().values[static_cast<std::size_t>(node.x(1))].dtype)),
        smoothing(static_cast<float>(node.attrs.number("label_smoothing"))),
        ignore(node.attrs.integer("ignore_index")) {
    if (node.attrs.has("weight"))
      for (const double w : node.attrs.numbers("weight")) weights.push_back(static_cast<float>(w));
  }
  float class_weight(int64_t k) const {
    return weights.empty() ? 1.0f : weights[static_cast<std::size_t>(k)];
  }
  bool plain() const { return !soft && smoothing == 0.0f; }
  float coefficient(const float* row, int64_t label, int64_t k, int64_t classes) const {
    const float one = soft ? row[k] : (k == label ? 1.0f : 0.0f);
    return class_weight(k) * (one * (1.0f - smoothing) + smoothing / static_cast<float>(classes));
  }
  bool soft;
  float smoothing;
  int64_t ignore;
  std::vector<float> weights;
};

}  // namespace

KernelPtr make_softmax_cross_entropy(Builder& b, const Node& node) {
  const LossNode l(b, node);
  const Labels labels(b, node);
  const Shape& shape = b.shape(node.x(0));
  const int64_t classes = shape.back(), positions = count(shape) / classes / l.images;
  const auto rows = static_cast<std::size_t>(l.images * positions * classes);
  if (!node.gradient) {
    const auto exps = b.workspace(rows);
    return kernel([=](const runtime::StepContext&) {
      l.reduce(positions * classes, [&](int64_t n, double& sum, double& weight) {
        sum = weight = 0;
        for (int64_t at = n * positions; at < (n + 1) * positions; ++at) {
          const float* x = l.x.get<float>() + at * classes;
          const float* row = labels.soft ? l.target.get<float>() + at * classes : nullptr;
          const int64_t label = labels.soft ? -1 : l.target.get<int32_t>()[at];
          if (!labels.soft && label == labels.ignore) continue;
          float most;
          const float total = select().exp_row(x, exps.get<float>() + at * classes, classes, &most);
          const float log_total = most + std::log(total);
          double loss = 0;
          if (labels.plain()) {
            loss = static_cast<double>(labels.class_weight(label)) *
                   static_cast<double>(log_total - x[label]);
          } else {
            for (int64_t k = 0; k < classes; ++k)
              loss += static_cast<double>(labels.coefficient(row, label, k, classes)) *
                      static_cast<double>(log_total - x[k]);
          }
          sum += loss * static_cast<double>(l.image_weight(n));
          weight += static_cast<double>(l.image_weight(n)) *
                    (labels.soft ? 1.0 : static_cast<double>(labels.class_weight(label)));
        }
      });
    });
  }
  return kernel([=](const runtime::StepContext&) {
    const float scale = l.gradient_scale();
    threads::parallel_for(l.images, 1 + 8192 / (positions * classes), [&](int64_t i, int64_t e) {
      for (int64_t at = i * positions; at < e * positions; ++at) {
        float* gx = l.gx.get<float>() + at * classes;
        const float* x = l.x.get<float>() + at * classes;
        const float* row = labels.soft ? l.target.get<float>() + at * classes : nullptr;
        const int64_t label = labels.soft ? -1 : l.target.get<int32_t>()[at];
        const float factor = scale * l.image_weight(at / positions);
        if ((!labels.soft && label == labels.ignore) || factor == 0.0f) {
          for (int64_t k = 0; k < classes; ++k) gx[k] = 0.0f;
          continue;
        }
        float most;
        const float total = select().exp_row(x, gx, classes, &most);
        float sum = 0.0f;
        if (labels.plain())
          sum = labels.class_weight(label);
        else
          for (int64_t k = 0; k < classes; ++k) sum += labels.coefficient(row, label, k, classes);
        const float share = factor * sum / total;
        for (int64_t k = 0; k < classes; ++k) gx[k] *= share;
        if (labels.plain()) {
          gx[label] -= factor * labels.class_weight(label);
        } else {
          for (int64_t k = 0; k < classes; ++k)
            gx[k] -= factor * labels.coefficient(row, label, k, classes);
        }
      }
    });
  });
}

KernelPtr make_mse(Builder& b, const Node& node) {
  const LossNode l(b, node);
  const int64_t size = count(b.shape(node.x(0))) / l.images;
  if (!node.gradient) {
    return kernel([=](const runtime::StepContext&) {
      l.reduce(size, [&](int64_t n, double& sum, double& weight) {
        double squares = 0;
        for (int64_t i = n * size; i < (n + 1) * size; ++i) {
          const double d = static_cast<double>(l.x.get<float>()[i] - l.target.get<float>()[i]);
          squares += d * d;
        }
        const auto w = static_cast<double>(l.image_weight(n));
        sum = w * squares;
        weight = w * static_cast<double>(size);
      });
    });
  }
  return kernel([=](const runtime::StepContext&) {
    const float scale = 2.0f * l.gradient_scale();
    threads::parallel_for(l.images, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const float factor = scale * l.image_weight(n);
        for (int64_t i = n * size; i < (n + 1) * size; ++i)
          l.gx.get<float>()[i] = factor * (l.x.get<float>()[i] - l.target.get<float>()[i]);
      }
    });
  });
}

KernelPtr make_given_loss(Builder& b, const Node& node) {
  const int64_t images = b.shape(node.gradient ? node.gx(0) : node.x(0))[0];
  const auto weight = node.nx > 1 && node.x(1) != kNone ? b.in(node.x(1)) : runtime::Ref();
  const auto sum = b.raw(node.state(0));
  const bool divide = node.attrs.text("reduction") == "mean";
  if (node.gradient) {
    const auto seed = b.raw(node.gy(0)), gx = b.out(node.gx(0));
    const bool by_weight = divide && node.attrs.flag("normalize");
    return kernel([=](const runtime::StepContext&) {
      const float total = by_weight ? sum.get<float>()[0] : 1.0f;
      const float scale = total == 0.0f ? 0.0f : seed.get<float>()[0] / total;
      for (int64_t n = 0; n < images; ++n)
        gx.get<float>()[n] = scale * (weight ? weight.get<float>()[n] : 1.0f);
    });
  }
  const auto x = b.in(node.x(0));
  const auto loss = b.raw(node.y(0)), losses = b.raw(node.y(1));
  return kernel([=](const runtime::StepContext&) {
    double l = 0, w = 0;
    for (int64_t n = 0; n < images; ++n) {
      const auto one = static_cast<double>(weight ? weight.get<float>()[n] : 1.0f);
      const double weighted = one * static_cast<double>(x.get<float>()[n]);
      losses.get<float>()[n] = quotient(weighted, one, divide);
      l += weighted;
      w += one;
    }
    loss.get<float>()[0] = quotient(l, w, divide);
    sum.get<float>()[0] = static_cast<float>(w);
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
