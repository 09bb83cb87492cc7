// The gradient by a convolution's weights of bfloat16 images by our own products
// (kernels/conv_weights.cpp), which oneDNN has for AMX only in a fast form.
#pragma once

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

class PairedWeights {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& y);
  // source, gradient: bfloat16; to: float32.
  PairedWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                runtime::Ref source, runtime::Ref gradient, runtime::Ref to);
  void run();

 private:
  PairedConv shape_;
  int64_t images_, blocks_, parts_, size_, room_;  // blocks of rows in an image; floats
  runtime::Ref source_, gradient_, to_, sums_, scratch_;
  std::vector<const float*> addends_;
};

}  // namespace mpsnn::backend::cpu
