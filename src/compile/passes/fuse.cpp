#include "compile/passes/passes.h"
#include "ir/neuron.h"

namespace mpsnn::compile {

void fuse(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend) {
  std::vector<int> reads(plan.values.size(), 0), producer(plan.values.size(), -1);
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    for (const ValueId v : plan.nodes[i].inputs)
      if (v != kNone) ++reads[static_cast<std::size_t>(v)];
    for (const ValueId v : plan.nodes[i].outputs)
      if (v != kNone) producer[static_cast<std::size_t>(v)] = static_cast<int>(i);
  }
  for (const ValueId v : kept) ++reads[static_cast<std::size_t>(v)];

  std::vector<bool> gone(plan.nodes.size(), false);
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& next = plan.nodes[i];
    if (next.op != Op::neuron || next.gradient || next.differentiated) continue;
    const auto between = static_cast<std::size_t>(next.x(0));
    const int first = producer[between];
    if (first < 0 || reads[between] != 1) continue;
    Node& node = plan.nodes[static_cast<std::size_t>(first)];
    const bool takes = node.op == Op::conv2d || node.op == Op::linear || node.op == Op::max_pool2d;
    if (!takes || node.attrs.has("neuron")) continue;
    if (node.gradient || node.differentiated) continue;
    if (plan.training && !ir::gradient_from_output(ir::neuron_of(next.attrs))) continue;
    if (!backend.fuses(runtime::Pattern::neuron_epilogue, node, next, plan.training)) continue;
    node.attrs.set("neuron", next.attrs.text("kind"));
    for (const char* parameter : {"a", "b", "c"})
      node.attrs.set(std::string("neuron_") + parameter, next.attrs.number(parameter));
    node.outputs[0] = next.outputs[0];
    producer[static_cast<std::size_t>(next.outputs[0])] = first;
    gone[i] = true;
    plan.notes.push_back("fused [" + next.layer + "] into [" + node.layer + "]");
  }
  std::vector<Node> left;
  for (std::size_t i = 0; i < plan.nodes.size(); ++i)
    if (!gone[i]) left.push_back(std::move(plan.nodes[i]));
  plan.nodes = std::move(left);
}

}  // namespace mpsnn::compile
