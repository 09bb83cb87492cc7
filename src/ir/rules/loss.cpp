// softmax_cross_entropy and mse: (prediction, target, [image weight]) -> loss (1), losses (N);
// given_loss: the same of losses that were computed by other ops; total_loss: a weighted sum.
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void finish(Infer& n, int weight = 2) {
  const std::string reduction = n.attrs().text("reduction", "mean");
  if (reduction != "mean" && reduction != "sum")
    n.value_error("reduction must be \"mean\" or \"sum\", got \"" + reduction + "\"");
  n.attrs().set("reduction", reduction);
  n.attrs().set("normalize", n.attrs().flag("normalize", true));
  const int64_t images = n.shape(0)[0];
  n.need_shape(weight, {images}, "image weights");
  const DType master = master_dtype(n.dtype());
  n.output({1}, master);
  n.output({images}, master);
  n.state({1}, master);
}

void infer_softmax_cross_entropy(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.size() < 2) n.shape_error("prediction needs batch and class axes, got " + to_string(x));
  const int64_t classes = x.back();
  // Singleton spatial axes are dropped: (N, 1, 1, C) is (N, C).
  Shape positions{x[0]};
  for (std::size_t i = 1; i + 1 < x.size(); ++i)
    if (x[i] != 1) positions.push_back(x[i]);
  Shape soft = positions;
  soft.push_back(classes);
  const Value& target = n.value(1);
  if (target.dtype == DType::int32) {
    Shape full(x.begin(), x.end() - 1);
    if (target.shape != positions && target.shape != full)
      n.shape_error("class indices must be " + to_string(positions) + ", got " +
                    to_string(target.shape));
  } else if (is_floating(target.dtype)) {
    if (target.shape != x && target.shape != soft)
      n.shape_error("soft labels must be " + to_string(x) + ", got " + to_string(target.shape));
  } else {
    n.dtype_error(std::string("labels must be class indices or soft labels, got ") +
                  name_of(target.dtype));
  }
  const double smoothing = n.attrs().number("label_smoothing", 0.0);
  if (!(smoothing >= 0 && smoothing <= 1))
    n.value_error("label_smoothing must be in 0..1, got " + std::to_string(smoothing));
  n.attrs().set("label_smoothing", smoothing);
  n.attrs().set("ignore_index", n.attrs().integer("ignore_index", -100));
  if (n.attrs().has("weight")) {
    const auto weight = n.attrs().numbers("weight");
    if (!weight.empty() && static_cast<int64_t>(weight.size()) != classes)
      n.shape_error("class weights must be (" + std::to_string(classes) + ",), got (" +
                    std::to_string(weight.size()) + ",)");
    for (const double w : weight)
      if (!(w >= 0)) n.value_error("class weights must not be negative or NaN");
  }
  finish(n);
}

void infer_mse(Infer& n) {
  if (n.shape(0).empty()) n.shape_error("prediction needs a batch axis");
  if (n.shape(0) != n.shape(1))
    n.shape_error("target must match the prediction's " + to_string(n.shape(0)) + ", got " +
                  to_string(n.shape(1)));
  if (!is_floating(n.value(1).dtype))
    n.dtype_error(std::string("target must be floating, got ") + name_of(n.value(1).dtype));
  finish(n);
}

void infer_given_loss(Infer& n) {
  if (n.shape(0).size() != 1)
    n.shape_error("expected one loss an image, (N,), got " + to_string(n.shape(0)));
  finish(n, 1);
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
  loss.offers = {0b111, 0, 0b1};
  loss.loss = true;
  loss.infer = infer_softmax_cross_entropy;
  rules[static_cast<int>(Op::softmax_cross_entropy)] = loss;
  loss.infer = infer_mse;
  rules[static_cast<int>(Op::mse)] = loss;
  loss.offers = {0b11, 0, 0b1};
  loss.infer = infer_given_loss;
  rules[static_cast<int>(Op::given_loss)] = loss;
  loss.differentiable = ~uint64_t{0};
  loss.offers = {};
  loss.infer = infer_total_loss;
  rules[static_cast<int>(Op::total_loss)] = loss;
}

}  // namespace mpsnn::ir
