#include "compile/passes/passes.h"
#include "ir/neuron.h"

namespace mpsnn::compile {

void sink(ir::Plan& plan, const std::vector<ValueId>& kept) {
  const auto [reads, producer] = Uses(plan, kept);
  for (Node& pool : plan.nodes) {
    if (pool.gradient || pool.differentiated) continue;
    if (pool.op != Op::max_pool2d || has_dilation(pool)) continue;
    const auto between = static_cast<std::size_t>(pool.x(0));
    const int first = producer[between];
    if (first < 0 || reads[between] != 1) continue;
    Node& neuron = plan.nodes[static_cast<std::size_t>(first)];
    if (neuron.gradient || neuron.differentiated) continue;
    if (neuron.op != Op::neuron || neuron.attrs.text("kind") != ir::name_of(ir::Neuron::relu))
      continue;
    plan.notes.push_back("moved [" + neuron.layer + "] behind [" + pool.layer + "]");
    const auto pooled = static_cast<ValueId>(plan.values.size());
    Value value = plan.values[static_cast<std::size_t>(pool.outputs[0])];
    plan.values.push_back(std::move(value));
    pool.inputs[0] = neuron.inputs[0];
    neuron.inputs[0] = pooled;
    neuron.outputs[0] = pool.outputs[0];
    pool.outputs[0] = pooled;
    std::swap(neuron, pool);
  }
}

}  // namespace mpsnn::compile
