#include "compile/passes/passes.h"
#include "ir/neuron.h"

namespace mpsnn::compile {
namespace {

// A broadcast sum's gradients are sums of their own; passes that see images added leave it alone.
bool is_dense_sum(const ir::Plan& plan, const Node& node) {
  for (const ValueId v : node.inputs)
    if (plan.values[static_cast<std::size_t>(v)].shape !=
        plan.values[static_cast<std::size_t>(node.y(0))].shape)
      return false;
  return true;
}

bool takes_neuron(const ir::Plan& plan, const Node& node) {
  switch (node.op) {
    case Op::conv2d:
    case Op::conv_transpose2d:
    case Op::linear:
    case Op::max_pool2d:
    case Op::batch_norm:
      return true;
    case Op::add:
      return is_dense_sum(plan, node);
    default:
      return false;
  }
}

}  // namespace

Uses::Uses(const ir::Plan& plan, const std::vector<ValueId>& kept)
    : reads(plan.values.size(), 0), producer(plan.values.size(), -1) {
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    for (const ValueId v : plan.nodes[i].inputs)
      if (v != kNone) ++reads[static_cast<std::size_t>(v)];
    for (const ValueId v : plan.nodes[i].outputs)
      if (v != kNone) producer[static_cast<std::size_t>(v)] = static_cast<int>(i);
  }
  for (const ValueId v : kept)
    if (v != kNone) ++reads[static_cast<std::size_t>(v)];
}

void fuse(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend) {
  auto [reads, producer] = Uses(plan, kept);
  std::vector<bool> gone(plan.nodes.size(), false);
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& next = plan.nodes[i];
    if (next.op != Op::neuron || next.gradient || next.differentiated) continue;
    const auto between = static_cast<std::size_t>(next.x(0));
    const int first = producer[between];
    if (first < 0 || reads[between] != 1) continue;
    Node& node = plan.nodes[static_cast<std::size_t>(first)];
    if (!takes_neuron(plan, node) || node.attrs.has("neuron")) continue;
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
  drop(plan, gone);
}

void fold(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend) {
  const Uses uses(plan, kept);
  std::vector<bool> gone(plan.nodes.size(), false);
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& norm = plan.nodes[i];
    if (norm.op != Op::batch_norm || norm.attrs.flag("training") || norm.nx > 5) continue;
    const auto between = static_cast<std::size_t>(norm.x(0));
    const int first = uses.producer[between];
    if (first < 0 || uses.reads[between] != 1) continue;
    Node& node = plan.nodes[static_cast<std::size_t>(first)];
    if (node.op != Op::conv2d || node.nx > 3) continue;
    if (!backend.fuses(runtime::Pattern::folded_norm, node, norm, plan.training)) continue;
    node.inputs.resize(3, kNone);
    node.inputs.insert(node.inputs.end(), norm.inputs.begin() + 1, norm.inputs.end());
    node.nx = static_cast<int>(node.inputs.size());
    node.attrs.set("epsilon", norm.attrs.number("epsilon"));
    node.outputs[0] = norm.outputs[0];
    gone[i] = true;
    plan.notes.push_back("folded [" + norm.layer + "] into [" + node.layer + "]");
  }
  drop(plan, gone);
}

void gather(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend) {
  const Uses uses(plan, kept);
  std::vector<bool> gone(plan.nodes.size(), false);
  const auto is_sum = [&](const Node& node) {
    return (node.op == Op::add || node.op == Op::add_n) && !node.gradient && !node.differentiated &&
           !node.attrs.has("neuron") && is_dense_sum(plan, node);
  };
  for (Node& sum : plan.nodes) {
    if (!is_sum(sum)) continue;
    std::vector<ValueId> terms;
    for (const ValueId v : sum.inputs) {
      const int first = uses.producer[static_cast<std::size_t>(v)];
      const Node* inner = first < 0 ? nullptr : &plan.nodes[static_cast<std::size_t>(first)];
      const bool joins = inner != nullptr && is_sum(*inner) &&
                         uses.reads[static_cast<std::size_t>(v)] == 1 &&
                         backend.fuses(runtime::Pattern::gradient_sum, *inner, sum, plan.training);
      if (joins) {
        terms.insert(terms.end(), inner->inputs.begin(), inner->inputs.end());
        gone[static_cast<std::size_t>(first)] = true;
      } else {
        terms.push_back(v);
      }
    }
    if (terms.size() == sum.inputs.size()) continue;
    sum.op = Op::add_n;
    sum.nx = static_cast<int>(terms.size());
    sum.inputs = std::move(terms);
  }
  drop(plan, gone);
}

}  // namespace mpsnn::compile
