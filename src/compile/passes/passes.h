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

// Convolution, dense or max-pooling + neuron become one node, where nothing else reads the value
// between and the backend has the epilogue. Before autodiff, so that the gradient is fused by the
// same stroke.
void fuse(ir::Plan& plan, const std::vector<ValueId>& kept, const runtime::Backend& backend);

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

// Flatten and reshape become views where the backend agrees; then aliases, readers and lifetimes.
void memory(ir::Plan& plan, bool alias, const std::vector<ValueId>& kept,
            const runtime::Backend& backend);

// Every temporary value, state and staged input of the plan as it stands, each in its own memory.
std::size_t naive_bytes(const ir::Plan& plan);

}  // namespace mpsnn::compile
