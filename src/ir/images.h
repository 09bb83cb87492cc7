// A sequence (N, T, C) is an image of height 1, so that one kernel computes both. The same axis
// turns the weight (out, k, in) of a convolution over sequences into one over images.
#pragma once

#include <array>

#include "mpsnn/shape.h"

namespace mpsnn::ir {

inline Shape as_image(const Shape& shape) {
  return shape.size() == 3 ? Shape{shape[0], 1, shape[1], shape[2]} : shape;
}

// The same sizes where nothing may be allocated: within a step.
inline std::array<int64_t, 4> image_sizes(const Shape& shape) {
  if (shape.size() == 3) return {shape[0], 1, shape[1], shape[2]};
  return {shape[0], shape[1], shape[2], shape[3]};
}

}  // namespace mpsnn::ir
