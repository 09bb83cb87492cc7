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

bool has_dilation(const Node& pool) {
  return pool.attrs.integers("dilation") != std::vector<int64_t>{1, 1};
}

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

void fuse_pools(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend) {
  const Uses uses(plan, kept);
  const auto keeps_order = [](const ir::NeuronSpec& s) {
    return s.kind == ir::Neuron::none || s.kind == ir::Neuron::relu ||
           (s.kind == ir::Neuron::leaky_relu && s.a >= 0);
  };
  std::vector<bool> gone(plan.nodes.size(), false);
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& pool = plan.nodes[i];
    if (pool.op != Op::max_pool2d || pool.gradient || pool.differentiated || has_dilation(pool))
      continue;
    const auto between = static_cast<std::size_t>(pool.x(0));
    const int first = uses.producer[between];
    if (first < 0 || uses.reads[between] != 1) continue;
    Node& norm = plan.nodes[static_cast<std::size_t>(first)];
    if (norm.op != Op::batch_norm || norm.gradient || norm.differentiated || norm.nx > 5 ||
        !norm.attrs.flag("training") || (norm.attrs.has("neuron") && pool.attrs.has("neuron")) ||
        !keeps_order(ir::epilogue_of(norm.attrs)) || !keeps_order(ir::epilogue_of(pool.attrs)) ||
        !backend.fuses(runtime::Pattern::pooled_norm, norm, pool, plan.training))
      continue;
    for (const char* name : {"kernel", "stride", "pads", "dilation"})
      norm.attrs.set(name, pool.attrs.integers(name));
    if (pool.attrs.has("neuron")) {
      norm.attrs.set("neuron", pool.attrs.text("neuron"));
      for (const char* name : {"neuron_a", "neuron_b", "neuron_c"})
        norm.attrs.set(name, pool.attrs.number(name));
    }
    norm.attrs.set("pooled", true);
    norm.outputs[0] = pool.outputs[0];
    Value chosen = plan.values[static_cast<std::size_t>(pool.outputs[0])];
    norm.states.push_back(pool.states[0]);
    norm.states.push_back(static_cast<ValueId>(plan.values.size()));
    norm.ns = static_cast<int>(norm.states.size());
    plan.values.push_back(std::move(chosen));
    gone[i] = true;
    plan.notes.push_back("fused [" + pool.layer + "] into [" + norm.layer + "]");
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

void add_to_gradients(ir::Plan& plan, const std::vector<ValueId>& kept,
                      const runtime::Backend& backend) {
  const Uses uses(plan, kept);
  std::vector<bool> gone(plan.nodes.size(), false);
  for (Node& sum : plan.nodes) {
    if ((sum.op != Op::add && sum.op != Op::add_n) || sum.gradient || sum.differentiated ||
        sum.attrs.has("neuron") || !is_dense_sum(plan, sum))
      continue;
    for (std::size_t i = 0; i < sum.inputs.size(); ++i) {
      const auto term = static_cast<std::size_t>(sum.inputs[i]);
      const int first = uses.producer[term];
      if (first < 0 || uses.reads[term] != 1) continue;
      const Node& node = plan.nodes[static_cast<std::size_t>(first)];
      if (!node.gradient || node.nx != 1 ||
          !backend.fuses(runtime::Pattern::added_gradient, node, sum, plan.training))
        continue;
      Node whole = node;
      for (std::size_t k = 0; k < sum.inputs.size(); ++k)
        if (k != i) whole.inputs.push_back(sum.inputs[k]);
      whole.outputs[0] = sum.outputs[0];
      gone[static_cast<std::size_t>(first)] = true;
      sum = std::move(whole);
      break;
    }
  }
  drop(plan, gone);
}

}  // namespace mpsnn::compile
