// What the op table and the rules say of each op.
#pragma once

#include <string>

#include "mpsnn/graph.h"

namespace mpsnn::ir {

struct OpInfo {
  const char* name;
  int inputs, optional_inputs, outputs, states;
  bool per_image_states;
};
const OpInfo& info(Op op);

// What a rule sees while a node is added: its operands' shapes, and setters for what it makes.
class Infer {
 public:
  Infer(Graph& graph, Node& node) : graph_(graph), node_(node) {}

  const std::string& layer() const { return node_.layer; }
  int operands() const { return static_cast<int>(node_.inputs.size()); }
  bool has(int i) const { return i < operands() && node_.inputs[static_cast<std::size_t>(i)] >= 0; }
  const Shape& shape(int i) const { return value(i).shape; }
  const Value& value(int i) const;
  Attrs& attrs() { return node_.attrs; }
  DType dtype() const { return graph_.dtype(); }

  void output(Shape shape, DType dtype);
  void output(Shape shape) { output(std::move(shape), dtype()); }
  void state(Shape shape, DType dtype);  // a state of known contents
  void opaque_state();                   // the backend says how many bytes it takes

  // Raises with "[Conv2d conv1] ..." in front.
  [[noreturn]] void shape_error(const std::string& message) const;
  [[noreturn]] void dtype_error(const std::string& message) const;
  [[noreturn]] void value_error(const std::string& message) const;
  void need_rank(int i, int rank, const char* what) const;
  void need_shape(int i, const Shape& expected, const char* what) const;  // operand i, if there
  // An axis of so many, counted from the end if negative; not the batch.
  int64_t need_axis(int64_t dim, std::size_t rank) const;

 private:
  Graph& graph_;
  Node& node_;
};

// Bits of the operands a gradient may read: what the rule offers, of which the backend picks.
struct Reads {
  uint32_t x = 0, y = 0, state = 0;
};

struct Rule {
  void (*infer)(Infer&) = nullptr;
  uint64_t differentiable = 0;  // bit i: the gradient by input i exists
  Reads offers;
  // Inputs whose gradient is the output's as it is (add), if they have its shape and dtype.
  uint64_t identity_gradient = 0;
  bool loss = false;  // output 0 is a scalar loss, seeded by one
  bool view = false;  // the same elements in the same order: no copy where the backend agrees
};
const Rule& rule(Op op);
// Whether a half graph computes with a half copy of operand i, a float32 master.
bool is_weight(Op op, int i);

// Whether the gradient by input i needs no node: it is that of the output.
inline bool passes_gradient(const Rule& rule, int i, const Value& x, const Value& y) {
  return ((rule.identity_gradient >> i) & 1) != 0 && x.shape == y.shape && x.dtype == y.dtype;
}

// One registration function a file of rules/.
void register_conv(Rule* rules);
void register_pool(Rule* rules);
void register_resample(Rule* rules);
void register_norm(Rule* rules);
void register_neuron(Rule* rules);
void register_arithmetic(Rule* rules);
void register_shape(Rule* rules);
void register_rnn(Rule* rules);
void register_loss(Rule* rules);

}  // namespace mpsnn::ir
