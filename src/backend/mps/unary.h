// A layer that is one kernel of MPS from image to image, and its gradient.
#pragma once

#include <memory>

#include "backend/mps/executable.h"

namespace mpsnn::backend::mps {

// `name` is the kernel's class, for summaries. `keeps`: a state for the gradient, if there is one.
std::unique_ptr<Operation> make_unary(Builder& builder, KernelRef kernel, const char* name,
                                      bool keeps = true);
// `source` is what MPS wants beside the gradient: the forward input, or the output.
std::unique_ptr<Operation> make_unary_gradient(Builder& builder, GradientKernelRef kernel,
                                               ValueId source, const char* name);

}  // namespace mpsnn::backend::mps
