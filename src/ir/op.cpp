// The op table of include/mpsnn/ops.def with its rules, and what a rule sees of a node.
#include "ir/op.h"

#include <array>

#include "ir/rnn.h"
#include "mpsnn/error.h"

namespace mpsnn {
namespace {

constexpr ir::OpInfo kOps[] = {
#define OP(name, inputs, optional, outputs, states, per_image) \
  {#name, inputs, optional, outputs, states, per_image},
#include "mpsnn/ops.def"
#undef OP
};
constexpr std::size_t kOpCount = sizeof(kOps) / sizeof(kOps[0]);

}  // namespace

const char* name_of(Op op) { return ir::info(op).name; }

Op parse_op(std::string_view name) {
  for (std::size_t i = 0; i < kOpCount; ++i)
    if (name == kOps[i].name) return static_cast<Op>(i);
  throw ValueError("unknown op '" + std::string(name) + "'");
}

namespace ir {

const OpInfo& info(Op op) { return kOps[static_cast<std::size_t>(op)]; }

const Rule& rule(Op op) {
  static const std::array<Rule, kOpCount> rules = [] {
    std::array<Rule, kOpCount> r{};
    register_conv(r.data());
    register_pool(r.data());
    register_resample(r.data());
    register_norm(r.data());
    register_neuron(r.data());
    register_arithmetic(r.data());
    register_shape(r.data());
    register_rnn(r.data());
    register_loss(r.data());
    return r;
  }();
  return rules[static_cast<std::size_t>(op)];
}

bool is_weight(Op op, int i) {
  if (op == Op::rnn) return i == rnn_operand::weight_ih || i == rnn_operand::weight_hh;
  return i == 1 && (op == Op::conv2d || op == Op::conv_transpose2d || op == Op::linear ||
                    op == Op::embedding);
}

const Value& Infer::value(int i) const {
  return graph_.values()[static_cast<std::size_t>(node_.inputs[static_cast<std::size_t>(i)])];
}

void Infer::output(Shape shape, DType dtype) {
  Value value;
  value.shape = std::move(shape);
  value.dtype = dtype;
  node_.outputs.push_back(graph_.add_value(std::move(value)));
}

void Infer::state(Shape shape, DType dtype) {
  Value value;
  value.shape = std::move(shape);
  value.dtype = dtype;
  node_.states.push_back(graph_.add_value(std::move(value)));
}

void Infer::opaque_state() { state({0}, DType::uint8); }

void Infer::shape_error(const std::string& message) const {
  throw ShapeError("[" + node_.layer + "] " + message);
}
void Infer::dtype_error(const std::string& message) const {
  throw DTypeError("[" + node_.layer + "] " + message);
}
void Infer::value_error(const std::string& message) const {
  throw ValueError("[" + node_.layer + "] " + message);
}

void Infer::need_rank(int i, int rank, const char* what) const {
  if (static_cast<int>(shape(i).size()) != rank)
    shape_error(std::string(what) + " must have " + std::to_string(rank) + " axes, got " +
                to_string(shape(i)));
}

void Infer::need_shape(int i, const Shape& expected, const char* what) const {
  if (has(i) && shape(i) != expected)
    shape_error(std::string(what) + " must be " + to_string(expected) + ", got " +
                to_string(shape(i)));
}

int64_t Infer::need_axis(int64_t dim, std::size_t rank) const {
  const auto axes = static_cast<int64_t>(rank);
  const int64_t axis = dim < 0 ? dim + axes : dim;
  if (axis < 0 || axis >= axes)
    value_error("there are " + std::to_string(axes) + " axes, none is " + std::to_string(dim));
  if (axis == 0) value_error("axis " + std::to_string(dim) + " is the batch, which stays whole");
  return axis;
}

}  // namespace ir
}  // namespace mpsnn
