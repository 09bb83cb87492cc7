// What encode checks of host arrays before anything runs.
#pragma once

#include <vector>

#include "mpsnn/graph.h"
#include "mpsnn/program.h"

namespace mpsnn::train {

// Returns the batch that the inputs agree on. ShapeError, DTypeError, ValueError name the input.
int64_t check_inputs(const Graph& graph, const std::vector<HostView>& inputs);

}  // namespace mpsnn::train
