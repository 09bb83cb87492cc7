// The one code of convolutions and dense layers.
#pragma once

#include <memory>

#include "backend/mps/executable.h"

namespace mpsnn::backend::mps {

struct ConvSpec {
  Geometry x, y;
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, top = 0, left = 0, groups = 1;
};

std::unique_ptr<Operation> make_convolution(Builder& builder, const ConvSpec& spec);

}  // namespace mpsnn::backend::mps
