// Pointwise and softmax: neuron, dropout, softmax, add, subtract, multiply.
#include "ir/neuron.h"
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_neuron(Infer& n) {
  parse_neuron(n.attrs().text("kind"));
  n.attrs().set("a", n.attrs().number("a", 0.0));
  n.output(n.shape(0));
}

void infer_dropout(Infer& n) {
  const double rate = n.attrs().number("rate");
  if (!(rate >= 0 && rate < 1))
    n.value_error("rate must be at least 0 and below 1, got " + std::to_string(rate));
  if (n.shape(0).empty()) n.shape_error("input needs a batch axis");
  n.output(n.shape(0));
  n.opaque_state();
}

void infer_softmax(Infer& n) {
  if (n.shape(0).empty()) n.shape_error("input needs a class axis");
  n.output(n.shape(0));
}

void infer_binary(Infer& n) {
  if (n.shape(0) != n.shape(1))
    n.shape_error("both sides must have one shape, got " + to_string(n.shape(0)) + " and " +
                  to_string(n.shape(1)));
  n.output(n.shape(0));
}

void infer_add_n(Infer& n) {
  for (int i = 1; i < n.operands(); ++i) n.need_shape(i, n.shape(0), "every operand");
  n.output(n.shape(0));
}

}  // namespace

void register_neuron(Rule* rules) {
  rules[static_cast<int>(Op::neuron)] = {infer_neuron, 0b1, {0b1, 0b1, 0}};
  rules[static_cast<int>(Op::dropout)] = {infer_dropout, 0b1, {0, 0, 0b1}};
  rules[static_cast<int>(Op::softmax)] = {infer_softmax, 0b1, {0, 0b1, 0}};
  rules[static_cast<int>(Op::add)] = {infer_binary, 0b11, {}, true};
  rules[static_cast<int>(Op::add_n)] = {infer_add_n, ~uint64_t{0}, {}, true};
  rules[static_cast<int>(Op::subtract)] = {infer_binary, 0b11, {}};
  rules[static_cast<int>(Op::multiply)] = {infer_binary, 0b11, {0b11, 0, 0}};
}

}  // namespace mpsnn::ir
