// Losses: (prediction, target, [weight per image], [weight per element or position]) -> the loss,
// which is one number or, unreduced, one of each element or position; and one loss an image.
// given_loss: the same of losses that other ops have computed; total_loss: a weighted sum.
#include "ir/loss.h"

#include <cmath>

#include "ir/op.h"

namespace mpsnn::ir {
namespace {

// Outputs and states; `units` is the shape of what is reduced, `weight` the operand of image
// weights.
void finish(Infer& n, const Shape& units, int weight = 2) {
  const std::string reduction = n.attrs().text("reduction", "mean");
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    n.value_error("reduction must be \"mean\", \"sum\" or \"none\", got \"" + reduction + "\"");
  n.attrs().set("reduction", reduction);
  n.attrs().set("normalize", n.attrs().flag("normalize", true));
  const int64_t images = n.shape(0)[0];
  n.need_shape(weight, {images}, "image weights");
  const DType master = master_dtype(n.dtype());
  if (reduction == "none")
    n.output(units);
  else
    n.output({1}, master);
  n.output({images}, master);
  n.state({1}, master);
  n.state({images}, master);
}

// Batch and spatial axes, with and without those of size 1: (N, 1, 1, C) is (N, C).
struct Positions {
  explicit Positions(const Shape& x) : full(x.begin(), x.end() - 1), squeezed{x[0]} {
    for (std::size_t i = 1; i + 1 < x.size(); ++i)
      if (x[i] != 1) squeezed.push_back(x[i]);
  }
  bool fits(const Shape& shape) const { return shape == full || shape == squeezed; }
  Shape full, squeezed;
};

Positions positions_of(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.size() < 2) n.shape_error("prediction needs batch and class axes, got " + to_string(x));
  return Positions(x);
}

void check_positions_weight(Infer& n, const Positions& positions) {
  if (n.has(3) && !positions.fits(n.shape(3)))
    n.shape_error("weights must be " + to_string(positions.squeezed) + ", got " +
                  to_string(n.shape(3)));
}

void check_class_weights(Infer& n, int64_t classes) {
  if (!n.attrs().has("weight")) return;
  const auto weight = n.attrs().numbers("weight");
  if (!weight.empty() && static_cast<int64_t>(weight.size()) != classes)
    n.shape_error("class weights must be (" + std::to_string(classes) + ",), got (" +
                  std::to_string(weight.size()) + ",)");
  for (const double w : weight)
    if (!(w >= 0)) n.value_error("class weights must not be negative or NaN");
}

void check_indices(Infer& n, const Positions& positions) {
  if (!positions.fits(n.shape(1)))
    n.shape_error("class indices must be " + to_string(positions.squeezed) + ", got " +
                  to_string(n.shape(1)));
}

void read_label_options(Infer& n) {
  const double smoothing = n.attrs().number("label_smoothing", 0.0);
  if (!(smoothing >= 0 && smoothing <= 1))
    n.value_error("label_smoothing must be in 0..1, got " + std::to_string(smoothing));
  n.attrs().set("label_smoothing", smoothing);
  n.attrs().set("ignore_index", n.attrs().integer("ignore_index", -100));
}

void check_same_target(Infer& n) {
  if (!is_floating(n.value(1).dtype))
    n.dtype_error(std::string("target must be floating, got ") + name_of(n.value(1).dtype));
  if (n.shape(0) != n.shape(1))
    n.shape_error("target must match the prediction's " + to_string(n.shape(0)) + ", got " +
                  to_string(n.shape(1)));
}

void infer_softmax_cross_entropy(Infer& n) {
  const Positions positions = positions_of(n);
  const Shape& x = n.shape(0);
  Shape soft = positions.squeezed;
  soft.push_back(x.back());
  const Value& target = n.value(1);
  if (target.dtype == DType::int32) {
    check_indices(n, positions);
  } else if (is_floating(target.dtype)) {
    if (target.shape != x && target.shape != soft)
      n.shape_error("soft labels must be " + to_string(x) + ", got " + to_string(target.shape));
  } else {
    n.dtype_error(std::string("labels must be class indices or soft labels, got ") +
                  name_of(target.dtype));
  }
  read_label_options(n);
  check_class_weights(n, x.back());
  check_positions_weight(n, positions);
  finish(n, positions.squeezed);
}

void infer_element_loss(Infer& n) {
  const LossSpec spec = loss_of(n.attrs());
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("prediction needs a batch axis");
  if (n.value(1).dtype == DType::int32 && classifies(spec.kind))
    check_indices(n, positions_of(n));
  else
    check_same_target(n);
  const bool positive = spec.kind == Loss::huber || spec.kind == Loss::log;
  if (positive && !(spec.a > 0 && std::isfinite(spec.a)))
    n.value_error("a must be positive, got " + std::to_string(spec.a));
  n.attrs().set("a", spec.a);
  read_label_options(n);
  if (n.attrs().number("label_smoothing") != 0 && spec.kind != Loss::sigmoid_cross_entropy)
    n.value_error("label_smoothing is for cross-entropies");
  check_class_weights(n, x.back());
  if (n.has(3) && n.shape(3) != x && !Positions(x).fits(n.shape(3)))
    n.shape_error("weights must be " + to_string(x) + " or " + to_string(Positions(x).squeezed) +
                  ", got " + to_string(n.shape(3)));
  finish(n, x);
}

void infer_cosine_distance(Infer& n) {
  const Positions positions = positions_of(n);
  check_same_target(n);
  check_positions_weight(n, positions);
  finish(n, positions.squeezed);
}

void infer_yolo_loss(Infer& n) {
  n.need_rank(0, 4, "prediction");
  check_same_target(n);
  const auto anchors = n.attrs().numbers("anchors");
  const auto count = static_cast<int64_t>(anchors.size() / 2);
  if (anchors.empty() || anchors.size() % 2 != 0)
    n.value_error("anchors must be pairs of width and height");
  for (const double size : anchors)
    if (!(size > 0 && std::isfinite(size))) n.value_error("anchors must have positive sizes");
  const int64_t channels = n.shape(0)[3];
  if (channels % count != 0 || channels / count < 5)
    n.shape_error("prediction needs at least 5 channels for each of " + std::to_string(count) +
                  " anchors, got " + std::to_string(channels));
  n.attrs().set("count", count);
  n.attrs().set("rescore", n.attrs().flag("rescore", true));
  for (const auto& [name, otherwise] :
       {std::pair{"scale_xy", 10.0}, std::pair{"scale_wh", 10.0}, std::pair{"scale_no_object", 5.0},
        std::pair{"scale_object", 100.0}, std::pair{"scale_class", 2.0}, std::pair{"presence", 0.7},
        std::pair{"absence", 0.3}}) {
    const double given = n.attrs().number(name, otherwise);
    if (!(given >= 0 && std::isfinite(given)))
      n.value_error(std::string(name) + " must not be negative, got " + std::to_string(given));
    n.attrs().set(name, given);
  }
  finish(n, {n.shape(0)[0]});
}

void infer_given_loss(Infer& n) {
  if (n.shape(0).size() != 1)
    n.shape_error("expected one loss an image, (N,), got " + to_string(n.shape(0)));
  finish(n, n.shape(0), 1);
}

void infer_total_loss(Infer& n) {
  const DType master = master_dtype(n.dtype());
  for (int i = 0; i < n.operands(); ++i) {
    n.need_shape(i, {1}, "a loss");
    if (n.value(i).dtype != master)
      n.dtype_error(std::string("a loss must be ") + name_of(master) + ", got " +
                    name_of(n.value(i).dtype));
  }
  const auto weights = n.attrs().numbers("weights");
  if (static_cast<int>(weights.size()) != n.operands())
    n.value_error("expected " + std::to_string(n.operands()) + " weights, got " +
                  std::to_string(weights.size()));
  n.output({1}, master);
}

}  // namespace

void register_loss(Rule* rules) {
  Rule loss;
  loss.differentiable = 0b1;
  loss.offers = {0b1111, 0, 0b11};
  loss.loss = true;
  const auto add = [&](Op op, void (*infer)(Infer&)) {
    loss.infer = infer;
    rules[static_cast<int>(op)] = loss;
  };
  add(Op::softmax_cross_entropy, infer_softmax_cross_entropy);
  add(Op::element_loss, infer_element_loss);
  add(Op::cosine_distance, infer_cosine_distance);
  add(Op::yolo_loss, infer_yolo_loss);
  add(Op::given_loss, infer_given_loss);
  loss.differentiable = ~uint64_t{0};
  loss.offers = {};
  add(Op::total_loss, infer_total_loss);
}

}  // namespace mpsnn::ir
