// The graph that layers append to: values, nodes, and shape inference as they are added.
//
// A gradient node is the same op with `gradient` set. Its operands have fixed places, so that one
// rule serves all ops: gradients of the outputs, then what the forward node read, made and kept
// (absent ones are kNone). Which of them are there is the backend's choice (`saves`).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mpsnn/attrs.h"
#include "mpsnn/dtype.h"
#include "mpsnn/parameter.h"
#include "mpsnn/shape.h"

namespace mpsnn {

using ValueId = int32_t;
constexpr ValueId kNone = -1;

enum class Op : uint16_t {
#define OP(name, ...) name,
#include "mpsnn/ops.def"
#undef OP
};

const char* name_of(Op op);
Op parse_op(std::string_view name);  // ValueError

enum class ValueKind : uint8_t {
  input,       // staged from the host at each step
  persistent,  // lives between steps: a parameter, a moment, a counter
  temporary,   // made and read within a step
};

// What encode checks and fills in an input.
struct InputSpec {
  bool batched = true;  // the leading axis is the batch
  int64_t classes = 0;  // > 0: class indices in 0..classes-1 or ignore_index
  int64_t ignore_index = -100;
  bool optional = false;  // filled with ones when absent
};

struct Value {
  Shape shape;
  DType dtype = DType::float32;
  ValueKind kind = ValueKind::temporary;
  std::string name;                      // inputs and parameters
  std::shared_ptr<Parameter> parameter;  // persistent values that are a model's
  InputSpec input;
  std::size_t opaque_bytes = 0;  // a state whose contents only the backend knows
};

struct Node {
  Op op{};
  bool gradient = false;
  Attrs attrs;
  std::string layer;                             // path, for messages and for random streams
  std::vector<ValueId> inputs, outputs, states;  // a gradient node has no states of its own
  int forward = kNone;                           // the node it is the gradient of
  bool differentiated = false;  // add_gradient has made a gradient node of this one
  int nx = 0, ny = 0, ns = 0;   // counts of the forward node

  ValueId x(int i) const { return inputs[static_cast<std::size_t>(gradient ? ny + i : i)]; }
  ValueId y(int i) const {
    return gradient ? inputs[static_cast<std::size_t>(ny + nx + i)]
                    : outputs[static_cast<std::size_t>(i)];
  }
  ValueId state(int i) const {
    return gradient ? inputs[static_cast<std::size_t>(2 * ny + nx + i)]
                    : states[static_cast<std::size_t>(i)];
  }
  ValueId gy(int i) const { return inputs[static_cast<std::size_t>(i)]; }
  ValueId gx(int i) const { return outputs[static_cast<std::size_t>(i)]; }
  // Inputs of a gradient node from here on are added to the gradient by operand 0.
  int addends() const { return 2 * ny + nx + ns; }
};

class Graph {
 public:
  explicit Graph(DType dtype = DType::float32);

  DType dtype() const { return dtype_; }
  ValueId add_input(std::string name, Shape shape, DType dtype, InputSpec spec = {});
  // Makes an input that no node has read yet one of indices 0..classes-1, or confirms it.
  // ValueError.
  void make_indices(ValueId input, int64_t classes);
  ValueId add_parameter(std::string name, std::shared_ptr<Parameter> parameter);  // once each

  // Appends one forward node and infers its outputs. ShapeError, DTypeError, ValueError name
  // `layer`.
  std::vector<ValueId> add(std::string_view op, std::vector<ValueId> operands, Attrs attrs,
                           std::string layer);

  // Appends the gradient node of the node that makes `y`, given the gradients of its outputs (kNone
  // where there is none; the gradient of a loss is one unless given). Returns the gradient by each
  // operand, kNone where there is none. ValueError if `y` is no node's output.
  std::vector<ValueId> add_gradient(ValueId y, const std::vector<ValueId>& gy);

  // The same graph for another batch: every rule runs again.
  Graph with_batch(int64_t batch) const;
  int64_t batch() const;  // leading size of the batched inputs; 0 without any

  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const Value& value(ValueId id) const;  // ValueError for an id that is not of this graph
  ValueId add_value(Value value);        // for the compiler

 private:
  DType dtype_;
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> inputs_;
};

}  // namespace mpsnn
