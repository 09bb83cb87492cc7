// The geometry shared by convolution and pooling: attributes `stride`, `dilation` and `padding`
// become `pads` {top, left, bottom, right} and an output size.
#pragma once

#include <array>

#include "ir/op.h"

namespace mpsnn::ir {

// {height, width} of the output; sets `stride`, `dilation`, `pads`. `image` is (N, H, W, C).
std::array<int64_t, 2> resolve_window(Infer& n, const Shape& image, std::array<int64_t, 2> kernel);

}  // namespace mpsnn::ir
