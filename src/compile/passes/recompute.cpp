#include "compile/passes/passes.h"

namespace mpsnn::compile {
namespace {

// Nodes are copied into a new list; in front of the first gradient that reads it, a cheap value is
// made once more.
class Recompute {
 public:
  Recompute(ir::Plan& plan, const runtime::Backend& backend)
      : plan_(plan), backend_(backend), uses_(plan, {}), again_(plan.values.size(), kNone) {
    while (boundary_ < static_cast<int>(plan.nodes.size()) && !node(boundary_).gradient)
      ++boundary_;
  }

  void run() {
    std::vector<int> now;
    for (int i = 0; i < static_cast<int>(plan_.nodes.size()); ++i) {
      Node copy = node(i);
      if (i >= boundary_)
        for (ValueId& v : copy.inputs) v = remade(v);
      if (copy.gradient) copy.forward = now[static_cast<std::size_t>(copy.forward)];
      now.push_back(static_cast<int>(made_.size()));
      made_.push_back(std::move(copy));
    }
    plan_.nodes = std::move(made_);
  }

 private:
  const Node& node(int i) const { return plan_.nodes[static_cast<std::size_t>(i)]; }

  // A batch-norm has its input and statistics at hand; a concatenation of such, its parts.
  bool cheap(ValueId v) const {
    if (v == kNone || static_cast<std::size_t>(v) >= uses_.producer.size()) return false;
    const int at = uses_.producer[static_cast<std::size_t>(v)];
    if (at < 0 || at >= boundary_) return false;
    const Node& maker = node(at);
    if (!backend_.fuses(runtime::Pattern::recompute, maker, maker, plan_.training)) return false;
    if (maker.op == Op::batch_norm) return true;
    if (maker.op != Op::concat) return false;
    for (const ValueId part : maker.inputs)
      if (!cheap(part)) return false;
    return true;
  }

  ValueId remade(ValueId v) {
    if (!cheap(v)) return v;
    const auto at = static_cast<std::size_t>(v);
    if (again_[at] != kNone) return again_[at];
    Node copy = node(uses_.producer[at]);
    for (ValueId& x : copy.inputs) x = remade(x);
    if (copy.op == Op::batch_norm && copy.attrs.flag("training")) {
      if (copy.attrs.flag("pooled", false)) {  // of the values that were chosen
        copy.inputs[0] = copy.states[3];
        copy.states.resize(2);
        copy.ns = 2;
        copy.attrs.set("pooled", false);
      }
      copy.inputs.resize(3);
      copy.inputs.insert(copy.inputs.end(), copy.states.begin(), copy.states.end());
      copy.nx = 5;
      copy.attrs.set("training", false);
    }
    for (auto* list : {&copy.outputs, &copy.states})
      for (ValueId& made : *list) {
        plan_.values.push_back(Value(plan_.values[static_cast<std::size_t>(made)]));
        made = static_cast<ValueId>(plan_.values.size()) - 1;
      }
    again_[at] = copy.outputs[0];
    plan_.notes.push_back("computed again for gradients: [" + copy.layer + "]");
    made_.push_back(std::move(copy));
    return again_[at];
  }

  ir::Plan& plan_;
  const runtime::Backend& backend_;
  Uses uses_;
  std::vector<ValueId> again_;
  std::vector<Node> made_;
  int boundary_ = 0;
};

}  // namespace

void recompute(ir::Plan& plan, const runtime::Backend& backend) { Recompute(plan, backend).run(); }

}  // namespace mpsnn::compile
