// What a node costs, whatever computes it: for profiles.
#pragma once

#include "ir/plan.h"

namespace mpsnn::ir {

// Multiplications and additions of a convolution or dense product; 0 for all other ops.
double operations(const Plan& plan, const Node& node);

// Of all operands and results.
double bytes_moved(const Plan& plan, const Node& node);

}  // namespace mpsnn::ir
