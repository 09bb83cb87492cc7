// The one code of convolutions, transposed convolutions and dense layers.
#pragma once

#include <memory>

#include "backend/mps/executable.h"

namespace mpsnn::backend::mps {

struct ConvSpec {
  Geometry x, y;
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, top = 0, left = 0, groups = 1;
  // Of a transposed convolution: x is the operand with so many pixels for each, all but the first
  // zero, and the weights' taps are in reverse order.
  int64_t stretch_h = 1, stretch_w = 1;
  bool turned = false;
  bool stretched() const { return stretch_h != 1 || stretch_w != 1; }
};

std::unique_ptr<Operation> make_convolution(Builder& builder, const ConvSpec& spec);

}  // namespace mpsnn::backend::mps
