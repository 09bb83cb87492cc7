// The passes, in the order that plan.cpp runs them. Each works on the plan alone, so that each can
// be tested alone.
#pragma once

#include <vector>

#include "ir/op.h"
#include "ir/plan.h"
#include "runtime/backend.h"

namespace mpsnn::compile {

// A ReLU before a max-pooling moves behind it, where nothing else reads the value between: the same
// numbers, ties and NaN included, from a fraction of the work, and the image before the ReLU need
// not be kept for its gradient.
void sink(ir::Plan& plan, const std::vector<ValueId>& kept);

// Convolution, dense, max-pooling, batch-norm or sum + neuron become one node, where nothing else
// reads the value between and the backend has the epilogue. Before autodiff, so that the gradient
// is fused by the same stroke.
void fuse(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend);

// Where the backend agrees, max-pooling behind a batch-norm in training becomes part of it: a scale
// and a rectifier keep the order of a channel's values, or turn it around, so the value to pool can
// be chosen before them. The batch-norm then has attribute `pooled`, those of the pooling, and two
// more states: the winners and the values chosen.
void fuse_pools(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend);

// A batch-norm with running statistics behind a convolution becomes part of it: operands 3 to 6 of
// the convolution are then its weight, bias, mean and variance, attribute `epsilon` its epsilon.
// For plans without gradients.
void fold(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend);

// Sums of sums become one node, which reads each term once and writes the result once. After
// autodiff, whose sums of gradients they mostly are.
void gather(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend);

// Where the backend agrees, the node of one of a sum's gradients adds the others to its own, in
// place of the sum.
void add_to_gradients(ir::Plan& plan, const std::vector<ValueId>& kept,
                      const runtime::Backend& backend);

// Outputs of batch-norms, and concatenations of them, that gradients read are not kept but computed
// again from the batch-norm's input, which is kept in any case, and its statistics.
void recompute(ir::Plan& plan, const runtime::Backend& backend);

// Where the backend agrees, a loss and its gradient become one node, in the gradient's place, if
// what the gradient takes is known without the loss: then the predictions are read once. The node
// has the gradient's incoming gradients behind its operands, and its gradient behind its outputs.
void fuse_losses(ir::Plan& plan, const runtime::Backend& backend);

// Dilated windows can lie in the padding as a whole: their maximum is -inf, no value of what is
// before the pooling.
bool has_dilation(const Node& pool);

// Nodes that are `gone` are taken out; gradients still find their forward nodes.
void drop(ir::Plan& plan, const std::vector<bool>& gone);

// How many nodes (and `kept`) read each value, and which node makes it (-1: none).
struct Uses {
  Uses(const ir::Plan& plan, const std::vector<ValueId>& kept);
  std::vector<int> reads, producer;
};

// Removes dropout outside training, and nodes that nothing in `kept` depends on.
void elide_identities(ir::Plan& plan);
void elide_dead(ir::Plan& plan, const std::vector<ValueId>& kept);

struct Gradients {
  std::vector<ValueId> of;  // value -> its gradient, kNone where there is none
};
// One gradient node per forward node, from `seeds` back to every value of `wanted` (bit per value),
// but not through nodes of `closed` (bit per node). May be called again for other gradients.
Gradients autodiff(ir::Plan& plan, const std::vector<Seed>& seeds, const std::vector<bool>& wanted,
                   const runtime::Backend& backend, const std::vector<bool>& closed = {});

// Where the backend agrees, flatten, reshape and unstack become views, stacks and concatenations of
// channels are written in place by those who make their parts (their gradients read in place), and
// outputs take the memory of inputs that nobody reads any more; then aliases, readers and
// lifetimes.
void memory(ir::Plan& plan, bool alias, const std::vector<ValueId>& kept,
            const runtime::Backend& backend);

// Every temporary value, state and staged input of the plan as it stands, each in its own memory.
std::size_t naive_bytes(const ir::Plan& plan);

}  // namespace mpsnn::compile
