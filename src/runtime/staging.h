// From a host array of any floating width and stride to a dense one, converting.
#pragma once

#include "mpsnn/program.h"
#include "mpsnn/tensor.h"

namespace mpsnn::runtime {

void copy_view(const HostView& view, Tensor& to);
void fill_ones(Tensor& tensor);

}  // namespace mpsnn::runtime
