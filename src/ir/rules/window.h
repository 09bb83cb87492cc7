// The geometry shared by convolution and pooling: attributes `stride`, `dilation` and `padding`
// become `pads` {top, left, bottom, right} and an output size. Sequences give one integer for each
// where images give a pair; here both become pairs.
#pragma once

#include <array>

#include "ir/op.h"

namespace mpsnn::ir {

// Attribute `name`, {height, width}; `otherwise` where it is absent, and as a sequence's height.
std::array<int64_t, 2> read_pair(Infer& n, const char* name, int64_t least, int64_t otherwise);

// {height, width} of the output; sets `stride`, `dilation`, `pads`. `image` is (N, H, W, C). With
// `ceil_mode` a last window may reach beyond the padding.
std::array<int64_t, 2> resolve_window(Infer& n, const Shape& image, std::array<int64_t, 2> kernel);

// The same for the transposed window: the size of an image from which resolve_window leads to
// `image`. Sets `output_padding` besides, which tells those sizes apart.
std::array<int64_t, 2> resolve_transposed(Infer& n, const Shape& image,
                                          std::array<int64_t, 2> kernel);

// Images as large as `size`, or sequences where operand 0 is one.
void output_images(Infer& n, std::array<int64_t, 2> size, int64_t channels);

}  // namespace mpsnn::ir
