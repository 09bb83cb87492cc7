// Graph: values and nodes are only ever appended, so ids are stable and nodes are in a valid order.
#include "mpsnn/graph.h"

#include <algorithm>
#include <unordered_map>

#include "ir/op.h"
#include "mpsnn/error.h"

namespace mpsnn {

Graph::Graph(DType dtype) : dtype_(dtype) {
  if (!is_floating(dtype))
    throw DTypeError(std::string("a graph computes in a floating type, not ") + name_of(dtype));
}

ValueId Graph::add_value(Value value) {
  values_.push_back(std::move(value));
  return static_cast<ValueId>(values_.size()) - 1;
}

const Value& Graph::value(ValueId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= values_.size())
    throw ValueError("value " + std::to_string(id) + " is not of this graph");
  return values_[static_cast<std::size_t>(id)];
}

ValueId Graph::add_input(std::string name, Shape shape, DType dtype, InputSpec spec) {
  for (const int64_t size : shape)
    if (size < 1)
      throw ShapeError("[input " + name + "] every size must be at least 1, got " +
                       to_string(shape));
  if (spec.batched && shape.empty())
    throw ShapeError("[input " + name + "] a batched input needs a batch axis");
  if (spec.batched && batch() != 0 && shape[0] != batch())
    throw ShapeError("[input " + name + "] expected a batch of " + std::to_string(batch()) +
                     ", got " + std::to_string(shape[0]));
  Value value;
  value.shape = std::move(shape);
  value.dtype = dtype;
  value.kind = ValueKind::input;
  value.name = std::move(name);
  value.input = spec;
  const ValueId id = add_value(std::move(value));
  inputs_.push_back(id);
  return id;
}

void Graph::make_indices(ValueId input, int64_t classes) {
  Value& v = values_[static_cast<std::size_t>(input)];
  if (v.kind != ValueKind::input) throw ValueError("only an input of a graph is of indices");
  if (v.dtype == DType::int32) {
    v.input.classes = std::min(v.input.classes, classes);
    return;
  }
  for (const Node& node : nodes_)
    for (const ValueId read : node.inputs)
      if (read == input)
        throw ValueError("[input " + v.name + "] is read as values and as indices");
  v.dtype = DType::int32;
  v.input.classes = classes;
}

ValueId Graph::add_parameter(std::string name, std::shared_ptr<Parameter> parameter) {
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (values_[i].parameter == parameter) return static_cast<ValueId>(i);
  Value value;
  value.shape = parameter->shape();
  value.dtype = master_dtype(dtype_);
  value.kind = ValueKind::persistent;
  value.name = std::move(name);
  value.parameter = std::move(parameter);
  return add_value(std::move(value));
}

std::vector<ValueId> Graph::add(std::string_view op_name, std::vector<ValueId> operands,
                                Attrs attrs, std::string layer) {
  Node node;
  node.op = parse_op(op_name);
  const ir::OpInfo& info = ir::info(node.op);
  const int given = static_cast<int>(operands.size());
  if (given < info.inputs || given > info.inputs + info.optional_inputs)
    throw ValueError("[" + layer + "] " + info.name + " takes " + std::to_string(info.inputs) +
                     " to " + std::to_string(info.inputs + info.optional_inputs) +
                     " operands, got " + std::to_string(given));
  for (int i = 0; i < given; ++i) {
    const ValueId id = operands[static_cast<std::size_t>(i)];
    if (id == kNone && i >= info.inputs) continue;
    value(id);
  }
  node.inputs = std::move(operands);
  node.attrs = std::move(attrs);
  node.layer = std::move(layer);
  const std::size_t values_before = values_.size();
  try {
    ir::Infer infer(*this, node);
    ir::rule(node.op).infer(infer);
  } catch (...) {
    values_.resize(values_before);
    throw;
  }
  node.nx = given;
  node.ny = static_cast<int>(node.outputs.size());
  node.ns = static_cast<int>(node.states.size());
  std::vector<ValueId> outputs = node.outputs;
  nodes_.push_back(std::move(node));
  return outputs;
}

std::vector<ValueId> Graph::add_gradient(ValueId y, const std::vector<ValueId>& gy) {
  std::size_t at = nodes_.size();
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    for (const ValueId v : nodes_[i].outputs)
      if (v == y && !nodes_[i].gradient) at = i;
  if (at == nodes_.size()) throw ValueError("only the output of a layer or loss has a gradient");
  const Node forward = nodes_[at];
  const ir::Rule& rule = ir::rule(forward.op);
  if (gy.size() != forward.outputs.size())
    throw ValueError("[" + forward.layer + "] the gradient needs " +
                     std::to_string(forward.outputs.size()) + " gradients of outputs, got " +
                     std::to_string(gy.size()));
  bool any = rule.loss && value(y).shape == Shape{1};  // a scalar's gradient is one unless given
  for (std::size_t i = 0; i < gy.size(); ++i) {
    if (gy[i] == kNone) continue;
    any = true;
    const Value &given = value(gy[i]), &output = value(forward.outputs[i]);
    if (given.shape != output.shape)
      throw ShapeError("[" + forward.layer + "] the gradient must be " + to_string(output.shape) +
                       ", got " + to_string(given.shape));
  }
  if (!any) throw ValueError("[" + forward.layer + "] the gradient of its output is missing");
  std::vector<ValueId> by(forward.inputs.size(), kNone);
  const auto differentiable = [&](std::size_t i) {
    return ((rule.differentiable >> i) & 1) != 0 && forward.inputs[i] != kNone;
  };
  nodes_[at].differentiated = true;
  bool computed = false;
  for (std::size_t i = 0; i < by.size(); ++i) {
    if (!differentiable(i)) continue;
    const bool passes = ir::passes_gradient(rule, static_cast<int>(i), value(forward.inputs[i]),
                                            value(forward.outputs[0]));
    if (passes) by[i] = gy[0];
    computed |= !passes;
  }
  if (!computed) return by;
  Node g = forward;
  g.gradient = true;
  g.differentiated = false;
  g.forward = static_cast<int>(at);
  g.inputs = gy;
  const auto offer = [&](const std::vector<ValueId>& from, uint32_t mask) {
    for (std::size_t i = 0; i < from.size(); ++i)
      g.inputs.push_back(i < 32 && ((mask >> i) & 1) != 0 ? from[i] : kNone);
  };
  offer(forward.inputs, rule.offers.x);
  offer(forward.outputs, rule.offers.y);
  offer(forward.states, rule.offers.state);
  g.outputs.clear();
  g.states.clear();
  for (std::size_t i = 0; i < by.size(); ++i) {
    g.outputs.push_back(kNone);
    if (!differentiable(i) || by[i] != kNone) continue;
    Value made;
    made.shape = value(forward.inputs[i]).shape;
    made.dtype = value(forward.inputs[i]).dtype;
    g.outputs[i] = by[i] = add_value(std::move(made));
  }
  nodes_.push_back(std::move(g));
  return by;
}

int64_t Graph::batch() const {
  for (const ValueId id : inputs_) {
    const Value& v = values_[static_cast<std::size_t>(id)];
    if (v.input.batched) return v.shape[0];
  }
  return 0;
}

Graph Graph::with_batch(int64_t batch) const {
  // Nodes and inputs are replayed in the order of their values, so every id stays the same.
  Graph graph(dtype_);
  std::size_t next_node = 0;
  while (graph.values_.size() < values_.size()) {
    const Value& v = values_[graph.values_.size()];
    if (v.kind == ValueKind::input) {
      Shape shape = v.shape;
      if (v.input.batched) shape[0] = batch;
      graph.add_input(v.name, std::move(shape), v.dtype, v.input);
    } else if (v.kind == ValueKind::persistent) {
      graph.add_parameter(v.name, v.parameter);
    } else {
      const Node& n = nodes_[next_node++];
      if (n.gradient)
        graph.add_gradient(nodes_[static_cast<std::size_t>(n.forward)].outputs[0],
                           {n.inputs.begin(), n.inputs.begin() + n.ny});
      else
        graph.add(name_of(n.op), n.inputs, n.attrs, n.layer);
    }
  }
  return graph;
}

}  // namespace mpsnn
