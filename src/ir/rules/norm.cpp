// Normalisations. batch_norm over all axes but the last: the compiler sets `training`; until then
// both forms check. Positions past its lengths, along the last axis but one, are padding: they give
// zero and do not count. group_norm over groups of channels of an image, layer_norm over the last
// axes, the local ones over windows.
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_batch_norm(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.size() < 2) n.shape_error("input must have at least 2 axes, got " + to_string(x));
  const Shape channels{x.back()};
  n.need_shape(1, channels, "weight");
  n.need_shape(2, channels, "bias");
  n.need_shape(3, channels, "running_mean");
  n.need_shape(4, channels, "running_var");
  if (n.has(3) != n.has(4)) n.value_error("running_mean and running_var come together");
  if (n.has(5)) {
    if (x.size() < 3) n.shape_error("lengths are of sequences or images, got " + to_string(x));
    n.need_shape(5, {x[0]}, "lengths");
    if (n.value(5).dtype != DType::int32)
      n.dtype_error(std::string("lengths must be int32, got ") + name_of(n.value(5).dtype));
  }
  const double epsilon = n.attrs().number("epsilon", 1e-5);
  const double momentum = n.attrs().number("momentum", 0.1);
  if (!(epsilon > 0)) n.value_error("epsilon must be positive, got " + std::to_string(epsilon));
  if (!(momentum >= 0 && momentum <= 1))
    n.value_error("momentum must be in 0..1, got " + std::to_string(momentum));
  n.attrs().set("epsilon", epsilon);
  n.attrs().set("momentum", momentum);
  const bool training = n.attrs().flag("training", false);
  n.attrs().set("training", training);
  if (training && count(x) / x.back() < 2)
    n.shape_error("training needs more than one value a channel, got input " + to_string(x));
  if (!training && !n.has(3)) n.value_error("inference needs running statistics");
  n.output(x);
  n.state(channels, master_dtype(n.dtype()));
  n.state(channels, master_dtype(n.dtype()));
  if (n.has(5)) n.state({1}, master_dtype(n.dtype()));
}

void read_epsilon(Infer& n) {
  const double epsilon = n.attrs().number("epsilon", 1e-5);
  if (!(epsilon > 0)) n.value_error("epsilon must be positive, got " + std::to_string(epsilon));
  n.attrs().set("epsilon", epsilon);
}

void infer_group_norm(Infer& n) {
  const Shape x = n.shape(0);  // adding values moves the graph's
  if (x.size() < 2) n.shape_error("input needs batch and channel axes, got " + to_string(x));
  const int64_t groups = n.attrs().integer("groups");
  if (groups < 1 || x.back() % groups != 0)
    n.shape_error("groups " + std::to_string(groups) + " must divide the " +
                  std::to_string(x.back()) + " channels");
  n.need_shape(1, {x.back()}, "weight");
  n.need_shape(2, {x.back()}, "bias");
  read_epsilon(n);
  n.output(x);
  n.state({x[0], groups}, master_dtype(n.dtype()));
  n.state({x[0], groups}, master_dtype(n.dtype()));
}

void infer_layer_norm(Infer& n) {
  const Shape& x = n.shape(0);
  const int64_t axes = n.attrs().integer("axes");
  if (axes < 1 || axes >= static_cast<int64_t>(x.size()))
    n.shape_error("input must have more than " + std::to_string(axes) + " axes, got " +
                  to_string(x));
  const Shape rows(x.begin(), x.end() - axes), row(x.end() - axes, x.end());
  n.need_shape(1, row, "weight");
  n.need_shape(2, row, "bias");
  read_epsilon(n);
  n.output(x);
  n.state({count(rows)}, master_dtype(n.dtype()));
  n.state({count(rows)}, master_dtype(n.dtype()));
}

// y = x / (k + alpha * mean of squares in a window)^beta.
void infer_local_response_norm(Infer& n) {
  const std::string across = n.attrs().text("across", "channels");
  if (across != "channels" && across != "space")
    n.value_error("across must be \"channels\" or \"space\", got \"" + across + "\"");
  if (across == "space")
    n.need_rank(0, 4, "image");
  else if (n.shape(0).size() < 2)
    n.shape_error("input needs batch and channel axes, got " + to_string(n.shape(0)));
  const int64_t size = n.attrs().integer("size");
  if (size < 1) n.value_error("size must be at least 1, got " + std::to_string(size));
  n.attrs().set("across", across);
  for (const char* name : {"alpha", "beta", "k"}) n.attrs().set(name, n.attrs().number(name));
  n.output(n.shape(0));
}

// y = pm + ps (x - p0 mean) / (delta + alpha variance)^beta, of a window.
void infer_local_contrast_norm(Infer& n) {
  n.need_rank(0, 4, "image");
  const int64_t size = n.attrs().integer("size");
  if (size < 1) n.value_error("size must be at least 1, got " + std::to_string(size));
  for (const char* name : {"alpha", "beta", "delta", "p0", "pm", "ps"})
    n.attrs().set(name, n.attrs().number(name));
  n.output(n.shape(0));
}

}  // namespace

void register_norm(Rule* rules) {
  rules[static_cast<int>(Op::batch_norm)] = {infer_batch_norm, 0b111, {0b111111, 0b1, 0b1111}};
  rules[static_cast<int>(Op::group_norm)] = {infer_group_norm, 0b111, {0b11, 0, 0b11}};
  rules[static_cast<int>(Op::layer_norm)] = {infer_layer_norm, 0b111, {0b11, 0, 0b11}};
  rules[static_cast<int>(Op::local_response_norm)] = {infer_local_response_norm, 0b1, {0b1, 0, 0}};
  rules[static_cast<int>(Op::local_contrast_norm)] = {infer_local_contrast_norm, 0b1, {0b1, 0, 0}};
}

}  // namespace mpsnn::ir
