// Neurons and losses in the attributes of nodes.
#include "ir/neuron.h"

#include "ir/loss.h"

#include "mpsnn/error.h"

namespace mpsnn::ir {
namespace {

struct Row {
  const char* name;
  double a, b, c;
};
constexpr Row kNeurons[] = {
#define N(name, a, b, c) {#name, a, b, c},
#include "ir/neurons.def"
#undef N
};

NeuronSpec read(const Attrs& attrs, const std::string& name, const std::string& prefix) {
  for (std::size_t i = 0; i < sizeof(kNeurons) / sizeof(kNeurons[0]); ++i) {
    const Row& row = kNeurons[i];
    if (name == row.name)
      return {static_cast<Neuron>(i), attrs.number(prefix + "a", row.a),
              attrs.number(prefix + "b", row.b), attrs.number(prefix + "c", row.c)};
  }
  throw ValueError("unknown neuron '" + name + "'");
}

}  // namespace

const char* name_of(Neuron kind) { return kNeurons[static_cast<std::size_t>(kind)].name; }

NeuronSpec neuron_of(const Attrs& attrs) { return read(attrs, attrs.text("kind"), ""); }

NeuronSpec epilogue_of(const Attrs& attrs) {
  return read(attrs, attrs.text("neuron", "none"), "neuron_");
}

LossSpec loss_of(const Attrs& attrs) {
  static constexpr Row kLosses[] = {
#define L(name, a) {#name, a, 0, 0},
#include "ir/losses.def"
#undef L
  };
  const std::string& kind = attrs.text("kind");
  for (std::size_t i = 0; i < sizeof(kLosses) / sizeof(kLosses[0]); ++i)
    if (kind == kLosses[i].name) return {static_cast<Loss>(i), attrs.number("a", kLosses[i].a)};
  throw ValueError("unknown loss '" + kind + "'");
}

}  // namespace mpsnn::ir
