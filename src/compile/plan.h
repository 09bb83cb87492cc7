// From a graph to a plan: the pipeline, readable top to bottom in plan.cpp.
#pragma once

#include <memory>

#include "ir/plan.h"
#include "runtime/backend.h"

namespace mpsnn::compile {

// UnsupportedError names the layer and the reason; ValueError for a gradient that does not exist.
std::shared_ptr<const ir::Plan> make_plan(const Graph& graph, const ProgramOptions& options,
                                          const runtime::Backend& backend);

// The same through a cache of the last plans, keyed by everything that make_plan reads.
std::shared_ptr<const ir::Plan> cached_plan(const Graph& graph, const ProgramOptions& options,
                                            const runtime::Backend& backend);

}  // namespace mpsnn::compile
