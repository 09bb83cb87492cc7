// Pointwise and softmax: neuron, dropout, softmax.
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

}  // namespace

void register_neuron(Rule* rules) {
  rules[static_cast<int>(Op::neuron)] = {infer_neuron, 0b1, {0b1, 0b1, 0}};
  rules[static_cast<int>(Op::dropout)] = {infer_dropout, 0b1, {0, 0, 0b1}};
  rules[static_cast<int>(Op::softmax)] = {infer_softmax, 0b1, {0, 0b1, 0}};
}

}  // namespace mpsnn::ir
