#include <algorithm>

#include "compile/passes/passes.h"

namespace mpsnn::compile {
namespace {

class Losses {
 public:
  Losses(ir::Plan& plan, const runtime::Backend& backend) : plan_(plan), backend_(backend) {}

  void run() {
    for (int g = 0; g < static_cast<int>(plan_.nodes.size()); ++g)
      if (joins(g)) {
        join(node(g).forward, g);
        --g;
      }
  }

 private:
  Node& node(int i) { return plan_.nodes[static_cast<std::size_t>(i)]; }

  static bool makes(const Node& node, ValueId v) {
    const auto has = [v](const std::vector<ValueId>& list) {
      return std::find(list.begin(), list.end(), v) != list.end();
    };
    return v != kNone && (has(node.outputs) || has(node.states));
  }

  bool joins(int at) {
    const Node& g = node(at);
    if (!g.gradient || !ir::rule(g.op).loss || g.op == Op::total_loss || g.gx(0) == kNone)
      return false;
    const Node& loss = node(g.forward);
    if (loss.outputs.size() != static_cast<std::size_t>(loss.ny) || loss.x(0) != g.x(0) ||
        loss.attrs.text("reduction") == "none" ||
        !backend_.fuses(runtime::Pattern::loss_gradient, loss, g, plan_.training))
      return false;
    for (int i = 0; i < static_cast<int>(plan_.nodes.size()); ++i)
      if (i != at && node(i).gradient && node(i).forward == g.forward) return false;
    find_late(g.forward, at);
    for (int i = 0; i < g.ny; ++i)
      if (depends(g.gy(i), g.forward, at)) return false;
    return true;
  }

  // Nodes between the two that need the loss: they run after its gradient.
  void find_late(int first, int last) {
    late_.assign(plan_.nodes.size(), false);
    for (int i = first + 1; i < last; ++i)
      for (const ValueId v : node(i).inputs)
        if (depends(v, first, i)) late_[static_cast<std::size_t>(i)] = true;
  }
  bool depends(ValueId v, int first, int last) {
    for (int i = first; i < last; ++i)
      if ((i == first || late_[static_cast<std::size_t>(i)]) && makes(node(i), v)) return true;
    return false;
  }

  void join(int first, int last) {
    std::vector<int> order, now(plan_.nodes.size());
    const int end = static_cast<int>(plan_.nodes.size());
    for (int i = 0; i < last; ++i)
      if (i != first && !late_[static_cast<std::size_t>(i)]) order.push_back(i);
    order.push_back(first);
    for (int i = first + 1; i < end; ++i)
      if (i > last || late_[static_cast<std::size_t>(i)]) order.push_back(i);

    Node& loss = node(first);
    const Node& g = node(last);
    for (int i = 0; i < g.ny; ++i) loss.inputs.push_back(g.gy(i));
    loss.outputs.push_back(g.gx(0));
    loss.attrs = g.attrs;  // of a gradient that is a result, though others are accumulated
    plan_.notes.push_back("fused the gradient of [" + loss.layer + "] into it");

    std::vector<Node> nodes;
    for (const int i : order) {
      now[static_cast<std::size_t>(i)] = static_cast<int>(nodes.size());
      nodes.push_back(std::move(node(i)));
    }
    now[static_cast<std::size_t>(last)] = now[static_cast<std::size_t>(first)];
    for (Node& moved : nodes)
      if (moved.gradient) moved.forward = now[static_cast<std::size_t>(moved.forward)];
    plan_.nodes = std::move(nodes);
  }

  ir::Plan& plan_;
  const runtime::Backend& backend_;
  std::vector<bool> late_;
};

}  // namespace

void fuse_losses(ir::Plan& plan, const runtime::Backend& backend) { Losses(plan, backend).run(); }

}  // namespace mpsnn::compile
