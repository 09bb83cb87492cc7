// A sequence (N, T, C) is an image of height 1, so that one kernel computes both. The same axis
// turns the weight (out, k, in) of a convolution over sequences into one over images.
#pragma once

#include "mpsnn/shape.h"

namespace mpsnn::ir {

inline Shape as_image(const Shape& shape) {
  return shape.size() == 3 ? Shape{shape[0], 1, shape[1], shape[2]} : shape;
}

}  // namespace mpsnn::ir
