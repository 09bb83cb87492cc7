// Convolutions whose groups are single channels, by our own kernels. At stride 1 forward, and the
// gradient by the source, which is a convolution of the output's with the taps turned around; the
// gradient by the taps at any stride.
#pragma once

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

class Depthwise {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& weight, bool gradient,
                      bool bfloat);
  // from: the source, or the gradient; to: the output, or the gradient by the source. `constant`:
  // the taps are prepared once.
  Depthwise(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
            bool gradient, bool constant, bool bfloat, runtime::Ref from, runtime::Ref taps,
            runtime::Ref bias, runtime::Ref to);
  void prepare() const;
  void run() const;

 private:
  template <class T>
  void rows(int64_t begin, int64_t end) const;

  DepthwiseShape shape_;
  int64_t images_;
  bool turned_, bfloat_;
  runtime::Ref from_, taps_, bias_, to_, packed_;
};

class DepthwiseWeights {
 public:
  static bool applies(const Node& node, const Shape& x, const Shape& weight);
  DepthwiseWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                   const Shape& y, bool bfloat, runtime::Ref source, runtime::Ref gradient,
                   runtime::Ref to);
  void run() const;

 private:
  template <class T>
  void add(int64_t begin, int64_t end, float* sums) const;

  DepthwiseShape shape_;
  int64_t images_, parts_;
  bool bfloat_;
  runtime::Ref source_, gradient_, to_;
  int64_t size_;  // of all sums of a part
  runtime::Ref sums_;
};

}  // namespace mpsnn::backend::cpu
