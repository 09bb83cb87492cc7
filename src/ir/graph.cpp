// Graph: values and nodes are only ever appended, so ids are stable and nodes are in a valid order.
#include "mpsnn/graph.h"

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

ValueId Graph::add_parameter(std::string name, std::shared_ptr<Parameter> parameter) {
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (values_[i].parameter == parameter) return static_cast<ValueId>(i);
  if (parameter->dtype() != master_dtype(dtype_))
    throw DTypeError("[parameter " + name + "] a " + name_of(dtype_) + " graph takes " +
                     name_of(master_dtype(dtype_)) + " weights, got " +
                     name_of(parameter->dtype()));
  Value value;
  value.shape = parameter->shape();
  value.dtype = parameter->dtype();
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
      graph.add(name_of(n.op), n.inputs, n.attrs, n.layer);
    }
  }
  return graph;
}

}  // namespace mpsnn
