// Convolutions of stride 1 whose groups are single channels, by our own kernel: forward, and the
// gradient by the source, which is a convolution of the output's with the taps turned around.
#pragma once

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

class Depthwise {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& weight);
  // from: the source, or the gradient; to: the output, or the gradient by the source. `constant`:
  // the taps are prepared once.
  Depthwise(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
            bool gradient, bool constant, runtime::Ref from, runtime::Ref taps, runtime::Ref bias,
            runtime::Ref to);
  void prepare() const;
  void run() const;

 private:
  DepthwiseShape shape_;
  int64_t images_;
  bool turned_;
  runtime::Ref from_, taps_, bias_, to_, packed_;
};

}  // namespace mpsnn::backend::cpu
