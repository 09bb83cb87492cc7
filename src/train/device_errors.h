// What a program adds to an error of its device: that it is gone and how old the host's weights
// are, or what was planned and what would fit.
#pragma once

#include <cstdint>
#include <exception>

#include "ir/plan.h"
#include "runtime/backend.h"

namespace mpsnn::train {

// `saved`: the step whose weights the host has, -1 for none. `batch`: of the plan.
std::exception_ptr explained(std::exception_ptr error, const runtime::Backend& backend,
                             int64_t saved, const ir::Plan& plan, int64_t batch);

}  // namespace mpsnn::train
