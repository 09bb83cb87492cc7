// The gradient by a convolution's weights by our own products, where oneDNN's are slow: of bfloat16
// images (kernels/conv_weights.cpp; it has a fast form for AMX only), and by few weights of single
// pixels.
#pragma once

#include <optional>
#include <vector>

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

// Sums of `size` floats, one of each thread; the first is the result, which join() adds the others
// to.
class PartSums {
 public:
  PartSums(Builder& b, int64_t parts, int64_t size, runtime::Ref to);
  int64_t parts() const { return parts_; }
  float* of(int64_t part) const {
    return part == 0 ? to_.get<float>() : sums_.get<float>() + (part - 1) * apart<float>(size_);
  }
  void join();

 private:
  int64_t parts_, size_;
  runtime::Ref to_, sums_;
  std::vector<const float*> addends_;
};

class PairedWeights {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& y);
  // source, gradient: bfloat16; to: float32.
  PairedWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                runtime::Ref source, runtime::Ref gradient, runtime::Ref to);
  void run();

 private:
  PairedConv shape_;
  int64_t images_, blocks_, room_;  // blocks of rows in an image; floats
  runtime::Ref source_, gradient_, scratch_;
  std::optional<PartSums> sums_;
};

// Of windows of one pixel, in float32.
class PixelWeights {
 public:
  static bool applies(int64_t in, int64_t out);
  PixelWeights(Builder& b, int64_t pixels, int64_t in, int64_t out, runtime::Ref source,
               runtime::Ref gradient, runtime::Ref to);
  void run();

 private:
  int64_t pixels_, in_, out_;
  runtime::Ref source_, gradient_, to_, turned_;
  PartSums sums_;
  runtime::Ref scratch_;
};

}  // namespace mpsnn::backend::cpu
