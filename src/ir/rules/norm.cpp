// batch_norm over all axes but the last. The compiler sets `training`; until then both forms check.
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
}

}  // namespace

void register_norm(Rule* rules) {
  rules[static_cast<int>(Op::batch_norm)] = {infer_batch_norm, 0b111, {0b11111, 0b1, 0b11}};
}

}  // namespace mpsnn::ir
