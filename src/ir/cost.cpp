#include "ir/cost.h"

#include "mpsnn/layouts.h"

namespace mpsnn::ir {
namespace {

const Shape& shape_of(const Plan& plan, ValueId v) {
  return plan.values[static_cast<std::size_t>(v)].shape;
}

}  // namespace

double operations(const Plan& plan, const Node& node) {
  if (node.op != Op::conv2d && node.op != Op::linear) return 0;
  const Shape& y = shape_of(plan, node.gradient ? node.gy(0) : node.outputs[0]);
  const Shape& w = shape_of(plan, node.x(1) != kNone ? node.x(1) : node.gx(1));
  const double product =
      2 * static_cast<double>(count(y)) * static_cast<double>(count(w) / w[conv_weight::out]);
  if (!node.gradient) return product;
  return product * ((node.gx(0) != kNone ? 1 : 0) + (node.gx(1) != kNone ? 1 : 0));
}

double bytes_moved(const Plan& plan, const Node& node) {
  double bytes = 0;
  for (const auto* list : {&node.inputs, &node.outputs, &node.states})
    for (const ValueId v : *list) {
      if (v == kNone) continue;
      const Value& value = plan.values[static_cast<std::size_t>(v)];
      bytes += value.opaque_bytes != 0 ? static_cast<double>(value.opaque_bytes)
                                       : static_cast<double>(count(value.shape)) *
                                             static_cast<double>(size_of(value.dtype));
    }
  return bytes;
}

}  // namespace mpsnn::ir
