// Convolutions by Winograd's algorithm (kernels/winograd.cpp): 1.75 to 4 times fewer
// multiplications than the sum itself, which oneDNN computes.
#pragma once

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

// Where it applies and pays: float32 arithmetic, also of bfloat16 images, stride 1, taps that there
// are transforms for, enough channels to fill vectors and few enough that rounding stays below 1e-5
// of the largest result.
bool winograd_applies(const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                      bool bfloat);

// y from x; as the gradient by the source, x from y with the taps turned around.
class Winograd {
 public:
  // `constant`: transformed taps are kept between steps, unless there are too many; then taps are
  // read in every run.
  Winograd(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
           bool gradient, bool constant, bool bfloat, runtime::Ref from, runtime::Ref taps,
           runtime::Ref bias, runtime::Ref to);
  static bool keeps(const Shape& x, const Shape& weight, const Shape& y);
  void prepare();  // the taps
  void run();

 private:
  // Those of `targets` from `target` and of `sources` from `source`, as the transform reads them;
  // `turned`: room for them.
  WinogradTaps taps(int64_t source, int64_t sources, int64_t target, int64_t targets,
                    float* turned) const;
  template <class T>
  void run_by_tiles();
  template <class T>
  void run_by_targets();

  WinogradShape shape_;
  bool gradient_, bfloat_, wide_;
  int64_t total_, block_;
  runtime::Ref from_, taps_, bias_, to_, transformed_, scratch_;
};

// The gradient by the weights.
class WinogradWeights {
 public:
  WinogradWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                  bool bfloat, runtime::Ref source, runtime::Ref gradient, runtime::Ref to);
  void run();

 private:
  template <class T>
  void run_by_tiles();
  template <class T>
  void run_by_weights();

  WinogradShape shape_;
  bool bfloat_, wide_;
  int64_t total_, block_, parts_;
  runtime::Ref source_, gradient_, to_, sums_, scratch_;
};

}  // namespace mpsnn::backend::cpu
