// Reverse mode over the plan's forward nodes. Contributions to one value are summed by add nodes.
#include "compile/passes/passes.h"
#include "ir/neuron.h"
#include "mpsnn/error.h"

namespace mpsnn::compile {
namespace {

class Reverse {
 public:
  Reverse(ir::Plan& plan, const std::vector<bool>& wanted, int forward_nodes,
          const std::vector<bool>& closed, const runtime::Backend& backend)
      : plan_(plan),
        backend_(backend),
        closed_(closed),
        gradient_(plan.values.size(), kNone),
        needed_(wanted) {
    needed_.resize(plan.values.size(), false);
    for (int n = 0; n < forward_nodes; ++n) {
      const Node& node = plan.nodes[static_cast<std::size_t>(n)];
      if (is_closed(n)) continue;
      const uint64_t mask = ir::rule(node.op).differentiable;
      for (int i = 0; i < node.nx; ++i)
        if (((mask >> i) & 1) && needed(node.x(i)))
          for (const ValueId y : node.outputs) needed_[static_cast<std::size_t>(y)] = true;
    }
  }

  void contribute(ValueId to, ValueId gradient, const std::string& layer) {
    const ValueId so_far = gradient_[static_cast<std::size_t>(to)];
    ValueId sum = gradient;
    if (so_far != kNone) {
      Node add;
      add.op = Op::add;
      add.layer = layer;
      add.inputs = {so_far, gradient};
      add.outputs = {sum = new_value(to)};
      add.nx = 2;
      add.ny = 1;
      plan_.nodes.push_back(std::move(add));
    }
    gradient_[static_cast<std::size_t>(to)] = sum;  // after new_value, which moves the vector
  }

  void visit(int index) {
    if (is_closed(index)) return;
    const Node node = plan_.nodes[static_cast<std::size_t>(index)];  // the vector grows below
    const ir::Rule& rule = ir::rule(node.op);
    bool reached = false, wanted = false;
    for (const ValueId y : node.outputs) reached |= gradient_[static_cast<std::size_t>(y)] != kNone;
    for (int i = 0; i < node.nx; ++i) wanted |= differentiates(rule, node, i);
    if (!reached || !wanted) return;

    // The fuse pass makes no such node; a graph may come with one.
    if (!ir::gradient_from_output(ir::epilogue_of(node.attrs)))
      throw UnsupportedError("[" + node.layer + "] a fused " + node.attrs.text("neuron") +
                             " with these parameters has no gradient from its output alone");
    std::vector<ValueId> by_outputs;
    for (const ValueId y : node.outputs)
      by_outputs.push_back(gradient_[static_cast<std::size_t>(y)]);
    if (rule.identity_gradient != 0 && node.attrs.has("neuron"))
      by_outputs[0] = through_neuron(node, index, by_outputs[0]);

    bool computed = false;
    for (int i = 0; i < node.nx; ++i) {
      if (!differentiates(rule, node, i)) continue;
      if (passes(rule, node, i))
        contribute(node.x(i), by_outputs[0], node.layer);
      else
        computed = true;
    }
    if (!computed) return;

    const ir::Reads reads = backend_.saves(plan_, node, rule.offers);
    Node g;
    g.op = node.op;
    g.gradient = true;
    g.attrs = node.attrs;
    g.layer = node.layer;
    g.forward = index;
    g.nx = node.nx;
    g.ny = node.ny;
    g.ns = node.ns;
    g.inputs = by_outputs;
    append(g, node.inputs, reads.x & rule.offers.x);
    append(g, node.outputs, reads.y & rule.offers.y);
    append(g, node.states, reads.state & rule.offers.state);
    for (int i = 0; i < node.nx; ++i)
      g.outputs.push_back(
          differentiates(rule, node, i) && !passes(rule, node, i) ? new_value(node.x(i)) : kNone);
    plan_.nodes.push_back(g);
    for (int i = 0; i < node.nx; ++i)
      if (g.outputs[static_cast<std::size_t>(i)] != kNone)
        contribute(node.x(i), g.outputs[static_cast<std::size_t>(i)], node.layer);
  }

  // The gradient by what a neuron took that is fused into a node without a gradient of its own.
  ValueId through_neuron(const Node& node, int index, ValueId gy) {
    Node g;
    g.op = Op::neuron;
    g.gradient = true;
    g.attrs.set("kind", node.attrs.text("neuron"));
    for (const char* parameter : {"a", "b", "c"})
      g.attrs.set(parameter, node.attrs.number(std::string("neuron_") + parameter));
    g.layer = node.layer;
    g.forward = index;
    g.nx = g.ny = 1;
    const ValueId y = node.y(0), gx = new_value(y);
    g.inputs = {gy, kNone, y};
    g.outputs = {gx};
    plan_.nodes.push_back(std::move(g));
    return gx;
  }

  std::vector<ValueId> take() { return std::move(gradient_); }

 private:
  bool is_closed(int node) const {
    return static_cast<std::size_t>(node) < closed_.size() &&
           closed_[static_cast<std::size_t>(node)];
  }
  bool needed(ValueId v) const { return v != kNone && needed_[static_cast<std::size_t>(v)]; }
  bool differentiates(const ir::Rule& rule, const Node& node, int i) const {
    return ((rule.differentiable >> i) & 1) && needed(node.x(i));
  }
  bool passes(const ir::Rule& rule, const Node& node, int i) const {
    return ir::passes_gradient(rule, i, plan_.values[static_cast<std::size_t>(node.x(i))],
                               plan_.values[static_cast<std::size_t>(node.y(0))]);
  }
  ValueId new_value(ValueId like) {
    Value value;
    value.shape = plan_.values[static_cast<std::size_t>(like)].shape;
    value.dtype = plan_.values[static_cast<std::size_t>(like)].dtype;
    plan_.values.push_back(std::move(value));
    gradient_.push_back(kNone);
    needed_.push_back(false);
    return static_cast<ValueId>(plan_.values.size()) - 1;
  }
  static void append(Node& g, const std::vector<ValueId>& from, uint32_t mask) {
    for (std::size_t i = 0; i < from.size(); ++i)
      g.inputs.push_back((i < 32 && ((mask >> i) & 1)) ? from[i] : kNone);
  }

  ir::Plan& plan_;
  const runtime::Backend& backend_;
  const std::vector<bool>& closed_;
  std::vector<ValueId> gradient_;
  std::vector<bool> needed_;
};

}  // namespace

Gradients autodiff(ir::Plan& plan, const std::vector<Seed>& seeds, const std::vector<bool>& wanted,
                   const runtime::Backend& backend, const std::vector<bool>& closed) {
  // Gradient nodes, and the sums among them, come after all forward nodes.
  int forward_nodes = 0;
  while (static_cast<std::size_t>(forward_nodes) < plan.nodes.size() &&
         !plan.nodes[static_cast<std::size_t>(forward_nodes)].gradient)
    ++forward_nodes;
  Reverse reverse(plan, wanted, forward_nodes, closed, backend);
  for (const Seed& seed : seeds) {
    if (seed.cotangent == kNone) {
      bool is_loss = false;
      for (int i = 0; i < forward_nodes; ++i) {
        const Node& node = plan.nodes[static_cast<std::size_t>(i)];
        is_loss |= ir::rule(node.op).loss && node.outputs[0] == seed.value &&
                   plan.values[static_cast<std::size_t>(seed.value)].shape == Shape{1};
      }
      if (!is_loss)
        throw ValueError(
            "only the scalar output of a loss can be differentiated "
            "without a cotangent");
      reverse.contribute(seed.value, plan.loss_scale, "loss");
    } else {
      reverse.contribute(seed.value, seed.cotangent, "cotangent");
    }
  }
  for (int i = forward_nodes; i-- > 0;) reverse.visit(i);
  return {reverse.take()};
}

}  // namespace mpsnn::compile
