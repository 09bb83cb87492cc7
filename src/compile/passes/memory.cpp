#include <algorithm>

#include "compile/passes/passes.h"
#include "ir/op.h"

namespace mpsnn::compile {
namespace {

std::size_t bytes_of(const Value& value) {
  return value.opaque_bytes != 0
             ? value.opaque_bytes
             : static_cast<std::size_t>(count(value.shape)) * size_of(value.dtype);
}

bool is_stack(Op op) { return op == Op::stack || op == Op::unstack; }

// Parts of concatenations and stacks that are written (gradients: read) where the whole is.
class InPlace {
 public:
  InPlace(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend)
      : plan_(plan),
        backend_(backend),
        uses_(plan, kept),
        reader_(plan.values.size(), -1),
        root_(plan.values.size(), false) {
    for (std::size_t i = 0; i < plan.nodes.size(); ++i)
      for (const ValueId v : plan.nodes[i].inputs)
        if (v != kNone) reader_[static_cast<std::size_t>(v)] = static_cast<int>(i);
  }

  // Something else has a part in this memory: it stays where it is.
  void hold(ValueId memory) { root_[static_cast<std::size_t>(memory)] = true; }

  // Of a stack or an unstack, whose parts are blocks of the whole; true if nothing is left to copy.
  bool blocks(const Node& node) {
    const bool stack = node.op == Op::stack;
    const ValueId whole =
        stack ? (node.gradient ? node.gy(0) : node.y(0)) : (node.gradient ? node.gx(0) : node.x(0));
    const auto part = [&](int i) {
      if (stack) return node.gradient ? node.gx(i) : node.x(i);
      return node.gradient ? node.gy(i) : node.y(i);
    };
    const bool joins = stack != node.gradient;
    const int parts = stack ? node.nx : node.ny;
    for (int i = 0; i < parts; ++i)
      if (part(i) != kNone && value(part(i)).dtype != value(whole).dtype) return false;
    if (plan_.slices[static_cast<std::size_t>(whole)].pitch != 0) return false;
    const ValueId memory = plan_.alias[static_cast<std::size_t>(whole)];
    if (joins && memory != whole) return false;
    bool all = true;
    for (int i = 0; i < parts; ++i) {
      const ValueId v = part(i);
      const bool here = v != kNone && (!joins || is_made_alone(v));
      all = all && (here || (v == kNone && !joins));
      if (!here) continue;
      const Shape& shape = value(v).shape;
      plan_.alias[static_cast<std::size_t>(v)] = memory;
      plan_.slices[static_cast<std::size_t>(v)] = {i * count(shape),
                                                   shape.empty() ? 1 : shape.back()};
      root_[static_cast<std::size_t>(memory)] = true;
    }
    return all;
  }

  // Makes slices of the parts of `node` that can be; true if there is nothing left to copy.
  bool slice(const Node& node) {
    const ValueId whole = node.gradient ? node.gy(0) : node.y(0);
    const Shape& shape = plan_.values[static_cast<std::size_t>(whole)].shape;
    if (plan_.alias[static_cast<std::size_t>(whole)] != whole) return false;
    if (node.attrs.integer("dim") + 1 != static_cast<int64_t>(shape.size())) return false;
    const int64_t pitch = shape.back();
    const auto& sizes = node.attrs.integers("sizes");
    bool all = true;
    int64_t offset = 0;
    for (int i = 0; i < node.nx; ++i) {
      const ValueId part = node.gradient ? node.gx(i) : node.x(i);
      if (part != kNone && fits(node, part)) {
        plan_.alias[static_cast<std::size_t>(part)] = whole;
        plan_.slices[static_cast<std::size_t>(part)] = {offset, pitch};
        root_[static_cast<std::size_t>(whole)] = true;
      } else if (part != kNone) {
        all = false;
      }
      offset += sizes[static_cast<std::size_t>(i)];
    }
    return all;
  }

 private:
  const Value& value(ValueId v) const { return plan_.values[static_cast<std::size_t>(v)]; }

  // By a node, in memory that nothing else has a part in.
  bool is_made_alone(ValueId v) const {
    const auto at = static_cast<std::size_t>(v);
    return uses_.producer[at] >= 0 && plan_.alias[at] == v && !root_[at];
  }

  bool fits(const Node& concat, ValueId part) const {
    const auto at = static_cast<std::size_t>(part);
    if (uses_.reads[at] != 1 || plan_.alias[at] != part || root_[at]) return false;
    const int at_other = concat.gradient ? reader_[at] : uses_.producer[at];
    if (at_other < 0) return false;
    const Node& other = plan_.nodes[static_cast<std::size_t>(at_other)];
    if (other.gradient != concat.gradient) return false;
    const ValueId slot = concat.gradient ? other.gy(0) : other.y(0);
    return slot == part && backend_.takes_slice(plan_, other);
  }

  ir::Plan& plan_;
  const runtime::Backend& backend_;
  Uses uses_;
  std::vector<int> reader_;
  std::vector<bool> root_;  // of slices and views
};

// Outputs that take the memory of an input which is read for the last time.
class Overwrite {
 public:
  Overwrite(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend)
      : plan_(plan), backend_(backend), last_(plan.values.size(), -1) {
    for (std::size_t i = 0; i < plan.nodes.size(); ++i)
      for (const auto* list : {&plan.nodes[i].inputs, &plan.nodes[i].outputs})
        for (const ValueId v : *list) use(v, static_cast<int>(i));
    for (const ValueId v : kept) use(v, static_cast<int>(plan.nodes.size()));
  }

  void run() {
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const Node& node = plan_.nodes[i];
      const uint64_t offers = backend_.overwrites(plan_, node);
      for (std::size_t k = 0; k < node.inputs.size(); ++k)
        if (offered(offers, k) && alone(node, offers, node.inputs[k]) &&
            take(node.inputs[k], node.outputs[0], static_cast<int>(i)))
          break;
    }
  }

 private:
  ValueId& root(ValueId v) { return plan_.alias[static_cast<std::size_t>(v)]; }
  int& last(ValueId root) { return last_[static_cast<std::size_t>(root)]; }
  const Value& value(ValueId v) const { return plan_.values[static_cast<std::size_t>(v)]; }
  bool whole(ValueId v) const { return plan_.slices[static_cast<std::size_t>(v)].pitch == 0; }
  void use(ValueId v, int at) {
    if (v != kNone) last(root(v)) = std::max(last(root(v)), at);
  }

  static bool offered(uint64_t offers, std::size_t k) { return k < 64 && ((offers >> k) & 1) != 0; }
  // Whether the node reads that memory element for element only.
  bool alone(const Node& node, uint64_t offers, ValueId in) {
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId other = node.inputs[k];
      if (other != kNone && in != kNone && root(other) == root(in) &&
          !(offered(offers, k) && whole(other)))
        return false;
    }
    return true;
  }

  bool take(ValueId in, ValueId out, int at) {
    if (in == kNone || out == kNone || root(out) != out || !whole(in)) return false;
    const ValueId memory = root(in);
    if (value(memory).kind != ValueKind::temporary || last(memory) != at ||
        bytes_of(value(memory)) != bytes_of(value(out)))
      return false;
    last(memory) = last(out);
    for (ValueId& alias : plan_.alias)
      if (alias == out) alias = memory;
    return true;
  }

  ir::Plan& plan_;
  const runtime::Backend& backend_;
  std::vector<int> last_;  // use of each root
};

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
  plan.slices.assign(plan.values.size(), {});

  if (alias) {
    InPlace in_place(plan, kept, backend);
    std::vector<bool> gone(plan.nodes.size(), false);
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
      const Node& node = plan.nodes[i];
      if (ir::rule(node.op).view && backend.can_alias(plan, node) &&
          plan.slices[static_cast<std::size_t>(node.inputs[0])].pitch == 0) {
        // Nodes are in order, so the source's root is final.
        const ValueId from = node.inputs[0], to = node.outputs[0];
        plan.alias[static_cast<std::size_t>(to)] = plan.alias[static_cast<std::size_t>(from)];
        in_place.hold(plan.alias[static_cast<std::size_t>(to)]);
        gone[i] = true;
      }
      if (node.op == Op::concat) gone[i] = in_place.slice(node);
      if (is_stack(node.op) && backend.can_alias(plan, node)) gone[i] = in_place.blocks(node);
      const bool joins = node.op == Op::concat || node.op == Op::stack;
      if (gone[i] && !node.gradient)
        plan.notes.push_back("elided [" + node.layer +
                             "]: " + (joins ? "written in place" : "a view"));
    }
    drop(plan, gone);
    Overwrite(plan, kept, backend).run();
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
