#include "compile/passes/passes.h"

namespace mpsnn::compile {

void drop(ir::Plan& plan, const std::vector<bool>& gone) {
  std::vector<int> now;  // where a node has gone, for the gradients that name it
  int left = 0;
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    now.push_back(left);
    if (!gone[i]) ++left;
  }
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    Node& node = plan.nodes[i];
    if (node.gradient) node.forward = now[static_cast<std::size_t>(node.forward)];
    if (!gone[i]) nodes.push_back(std::move(node));
  }
  plan.nodes = std::move(nodes);
}

void elide_identities(ir::Plan& plan) {
  if (plan.training) return;
  std::vector<ValueId> now(plan.values.size());
  for (std::size_t i = 0; i < now.size(); ++i) now[i] = static_cast<ValueId>(i);
  const auto renamed = [&](ValueId v) { return v == kNone ? v : now[static_cast<std::size_t>(v)]; };

  std::vector<Node> left;
  for (Node& node : plan.nodes) {
    for (ValueId& v : node.inputs) v = renamed(v);
    if (node.op == Op::dropout) {
      now[static_cast<std::size_t>(node.outputs[0])] = node.inputs[0];
      plan.notes.push_back("elided [" + node.layer + "]: no dropout outside training");
      continue;
    }
    left.push_back(std::move(node));
  }
  plan.nodes = std::move(left);
  for (ResultSpec& result : plan.results) result.value = renamed(result.value);
}

void elide_dead(ir::Plan& plan, const std::vector<ValueId>& kept) {
  std::vector<bool> live(plan.values.size(), false);
  for (const ValueId v : kept) live[static_cast<std::size_t>(v)] = true;
  std::vector<bool> keep(plan.nodes.size(), false);
  for (std::size_t i = plan.nodes.size(); i-- > 0;) {
    const Node& node = plan.nodes[i];
    for (const auto* list : {&node.outputs, &node.states})
      for (const ValueId v : *list)
        if (v != kNone && live[static_cast<std::size_t>(v)]) keep[i] = true;
    if (!keep[i]) {
      plan.notes.push_back("elided [" + node.layer + "]: nothing depends on it");
      continue;
    }
    for (const ValueId v : node.inputs)
      if (v != kNone) live[static_cast<std::size_t>(v)] = true;
  }
  std::vector<Node> left;
  for (std::size_t i = 0; i < plan.nodes.size(); ++i)
    if (keep[i]) left.push_back(std::move(plan.nodes[i]));
  plan.nodes = std::move(left);
}

}  // namespace mpsnn::compile
