// The gradient by a convolution's weights as one product of matrices: the gradient's pixels times
// the windows they come from, which are laid out one behind the other first (im2col). Sums that
// go over all weights image by image are slower where weights are many and pixels few.
#pragma once

#include "backend/cpu/onednn.h"

namespace mpsnn::backend::cpu {

class WindowWeights {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                      bool bfloat);
  WindowWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                bool bfloat, runtime::Ref source, runtime::Ref gradient, runtime::Ref to);
  void run();
  std::string name() const { return "windows by " + product_.name(); }

 private:
  void gather(int64_t begin, int64_t end) const;  // rows of output pixels, of all images

  std::size_t element_;  // bytes
  int64_t h_, w_, c_, oh_, ow_, kh_, kw_, sh_, sw_, dh_, dw_, top_, left_, rows_;
  runtime::Ref source_, windows_;
  Primitive product_;
};

}  // namespace mpsnn::backend::cpu
