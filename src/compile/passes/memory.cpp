#include "compile/passes/passes.h"
#include "ir/op.h"

namespace mpsnn::compile {
namespace {

std::size_t bytes_of(const Value& value) {
  return value.opaque_bytes != 0
             ? value.opaque_bytes
             : static_cast<std::size_t>(count(value.shape)) * size_of(value.dtype);
}

}  // namespace

std::size_t naive_bytes(const ir::Plan& plan) {
  std::vector<bool> used(plan.values.size(), false);
  for (const Node& node : plan.nodes)
    for (const auto* list : {&node.inputs, &node.outputs, &node.states})
      for (const ValueId v : *list)
        if (v != kNone) used[static_cast<std::size_t>(v)] = true;
  std::size_t total = 0;
  for (std::size_t i = 0; i < plan.values.size(); ++i)
    if (used[i] && plan.values[i].kind != ValueKind::persistent) total += bytes_of(plan.values[i]);
  return total;
}

void memory(ir::Plan& plan, bool alias, const std::vector<ValueId>& kept,
            const runtime::Backend& backend) {
  plan.alias.resize(plan.values.size());
  for (std::size_t i = 0; i < plan.alias.size(); ++i) plan.alias[i] = static_cast<ValueId>(i);

  if (alias) {
    std::vector<Node> left;
    std::vector<int> now;  // where a node has gone, for the gradients that name it
    for (Node& node : plan.nodes) {
      now.push_back(static_cast<int>(left.size()));
      if (node.gradient) node.forward = now[static_cast<std::size_t>(node.forward)];
      if (ir::rule(node.op).view && backend.can_alias(plan, node)) {
        // Nodes are in order, so the source's root is final.
        const ValueId from = node.inputs[0], to = node.outputs[0];
        plan.alias[static_cast<std::size_t>(to)] = plan.alias[static_cast<std::size_t>(from)];
        if (!node.gradient) plan.notes.push_back("elided [" + node.layer + "]: a view");
        continue;
      }
      left.push_back(std::move(node));
    }
    plan.nodes = std::move(left);
  }

  const int end = static_cast<int>(plan.nodes.size());
  plan.readers.assign(plan.values.size(), {});
  plan.lifetimes.assign(plan.values.size(), {});
  const auto touch = [&](ValueId v, int at) {
    if (v == kNone) return;
    ir::Lifetime& life =
        plan.lifetimes[static_cast<std::size_t>(plan.alias[static_cast<std::size_t>(v)])];
    if (life.first < 0) life.first = at;
    life.last = at;
  };
  for (int i = 0; i < end; ++i) {
    const Node& node = plan.nodes[static_cast<std::size_t>(i)];
    for (const ValueId v : node.inputs) {
      touch(v, i);
      if (v != kNone) plan.readers[static_cast<std::size_t>(v)].push_back(i);
    }
    for (const ValueId v : node.outputs) touch(v, i);
    for (const ValueId v : node.states) touch(v, i);
  }
  for (const ValueId v : kept) touch(v, end);
}

}  // namespace mpsnn::compile
