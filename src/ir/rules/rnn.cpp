// rnn: x (N, T, C), weight_ih (G H, C), weight_hh (G H, H) and what may be absent (ir/rnn.h) to
// y (N, T, H), the final h (N, H) and, of an LSTM, the final c. embedding: rows of a weight (V, D)
// by indices; those outside 0..V-1 give zeros, and `padding` has no gradient. stack joins equal
// shapes along a new first axis, as states of several layers are kept; unstack takes them apart.
#include "ir/rnn.h"

#include "ir/neuron.h"
#include "ir/op.h"
#include "mpsnn/error.h"

namespace mpsnn::ir {
namespace {

constexpr int64_t kMaxParts = 65536;  // each is a value of the graph
constexpr const char* kCells[] = {"lstm", "gru", "gru_reset_before", "mgu", "rnn"};

void infer_rnn(Infer& n) {
  namespace at = rnn_operand;
  const Shape given = n.shape(at::x);  // (N, 1, T, C), an image of height 1, is a sequence as well
  const bool image = given.size() == 4 && given[1] == 1;
  if (!image) n.need_rank(at::x, 3, "sequence");
  const Shape x{given[0], given[image ? 2 : 1], given.back()};
  n.need_rank(at::weight_ih, 2, "weight_ih");
  n.need_rank(at::weight_hh, 2, "weight_hh");
  const Cell cell = parse_cell(n.attrs().text("cell"));
  const int64_t hidden = n.shape(at::weight_hh)[1], rows = gates_of(cell) * hidden;
  n.need_shape(at::weight_hh, {rows, hidden}, "weight_hh");
  const Shape& weight = n.shape(at::weight_ih);
  if (weight[1] != x[2])
    n.shape_error("weight_ih expects " + std::to_string(weight[1]) +
                  " input features, sequence has " + std::to_string(x[2]));
  n.need_shape(at::weight_ih, {rows, x[2]}, "weight_ih");
  n.need_shape(at::bias, {rows}, "bias");
  n.need_shape(at::bias_hn, {hidden}, "bias_hn");
  n.need_shape(at::peephole, {3, hidden}, "peephole");
  n.need_shape(at::h0, {x[0], hidden}, "initial h");
  n.need_shape(at::c0, {x[0], hidden}, "initial c");
  n.need_shape(at::lengths, {x[0]}, "lengths");
  const bool lstm = cell == Cell::lstm;
  if (n.has(at::bias_hn) && cell != Cell::gru)
    n.value_error("bias_hn belongs to a GRU that resets after the product");
  if (n.has(at::peephole) && !lstm) n.value_error("peepholes belong to an LSTM");
  if (n.has(at::c0) && !lstm) n.value_error("an initial c belongs to an LSTM");
  if (n.has(at::lengths) && n.value(at::lengths).dtype != DType::int32)
    n.dtype_error(std::string("lengths must be int32, got ") + name_of(n.value(at::lengths).dtype));
  if (!n.attrs().has("neuron")) n.attrs().set("neuron", std::string("tanh"));
  const Neuron neuron = epilogue_of(n.attrs()).kind;
  if (neuron == Neuron::leaky_relu || neuron > Neuron::tanh ||
      (cell != Cell::rnn && neuron != Neuron::tanh))
    n.value_error(std::string("neuron ") + name_of(neuron) + " is not one of this cell's");
  n.attrs().set("reverse", n.attrs().flag("reverse", false));
  n.output({x[0], x[1], hidden});
  n.output({x[0], hidden});
  if (lstm) n.output({x[0], hidden});
  n.opaque_state();
}

void infer_embedding(Infer& n) {
  if (n.value(0).dtype != DType::int32)
    n.dtype_error(std::string("indices must be int32, got ") + name_of(n.value(0).dtype));
  n.need_rank(1, 2, "weight");
  const int64_t padding = n.attrs().integer("padding", -1);
  if (padding < -1 || padding >= n.shape(1)[0])
    n.value_error("padding_idx must be in 0.." + std::to_string(n.shape(1)[0] - 1) + ", got " +
                  std::to_string(padding));
  n.attrs().set("padding", padding);
  Shape y = n.shape(0);
  y.push_back(n.shape(1)[1]);
  n.output(std::move(y));
}

void infer_stack(Infer& n) {
  Shape y = n.shape(0);
  for (int i = 1; i < n.operands(); ++i) n.need_shape(i, y, "every part");
  y.insert(y.begin(), n.operands());
  n.output(std::move(y));
}

void infer_unstack(Infer& n) {
  const Shape x = n.shape(0);
  if (x.empty()) n.shape_error("input needs an axis to take apart");
  if (x[0] > kMaxParts)
    n.shape_error("unstack makes at most " + std::to_string(kMaxParts) +
                  " outputs, got a first axis of " + std::to_string(x[0]));
  for (int64_t i = 0; i < x[0]; ++i) n.output({x.begin() + 1, x.end()});
}

}  // namespace

Cell parse_cell(std::string_view name) {
  for (std::size_t i = 0; i < sizeof(kCells) / sizeof(kCells[0]); ++i)
    if (name == kCells[i]) return static_cast<Cell>(i);
  throw ValueError("unknown cell '" + std::string(name) + "'");
}

void register_rnn(Rule* rules) {
  rules[static_cast<int>(Op::rnn)] = {infer_rnn, 0b011111111, {0b111111111, 0b1, 0b1}};
  rules[static_cast<int>(Op::embedding)] = {infer_embedding, 0b10, {0b1, 0, 0}};
  rules[static_cast<int>(Op::stack)] = {infer_stack, ~uint64_t{0}, {}};
  rules[static_cast<int>(Op::unstack)] = {infer_unstack, 0b1, {}};
}

}  // namespace mpsnn::ir
