// Pointwise and softmax: neuron, prelu, dropout, softmax, log_softmax.
#include "ir/neuron.h"

#include <cmath>

#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_neuron(Infer& n) {
  const NeuronSpec spec = neuron_of(n.attrs());
  for (const double v : {spec.a, spec.b, spec.c})
    if (!std::isfinite(v)) n.value_error("a, b and c must be finite numbers");
  const bool based = spec.kind == Neuron::exponential || spec.kind == Neuron::logarithm;
  if (based && spec.c != -1 && !(spec.c > 0 && (spec.c != 1 || spec.kind == Neuron::exponential)))
    n.value_error(std::string("c must be -1 (for e) or a base of ") + name_of(spec.kind) +
                  ", got " + std::to_string(spec.c));
  n.attrs().set("a", spec.a);
  n.attrs().set("b", spec.b);
  n.attrs().set("c", spec.c);
  n.output(n.shape(0));
}

void infer_prelu(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a channel axis");
  if (n.shape(1) != Shape{1}) n.need_shape(1, {x.back()}, "slopes");
  n.output(x);
}

void infer_dropout(Infer& n) {
  const double rate = n.attrs().number("rate");
  if (!(rate >= 0 && rate < 1))
    n.value_error("rate must be at least 0 and below 1, got " + std::to_string(rate));
  const bool spatial = n.attrs().flag("spatial", false);
  n.attrs().set("spatial", spatial);
  if (n.shape(0).size() < (spatial ? 2 : 1))
    n.shape_error(spatial ? "input needs batch and channel axes" : "input needs a batch axis");
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
  rules[static_cast<int>(Op::prelu)] = {infer_prelu, 0b11, {0b11, 0, 0}};
  rules[static_cast<int>(Op::dropout)] = {infer_dropout, 0b1, {0, 0, 0b1}};
  rules[static_cast<int>(Op::softmax)] = {infer_softmax, 0b1, {0, 0b1, 0}};
  rules[static_cast<int>(Op::log_softmax)] = {infer_softmax, 0b1, {0, 0b1, 0}};
}

}  // namespace mpsnn::ir
