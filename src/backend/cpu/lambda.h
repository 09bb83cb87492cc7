// A kernel from a function object: enough for ops that only loop.
#pragma once

#include <string>
#include <utility>

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

template <class F>
class LambdaKernel final : public runtime::Kernel {
 public:
  explicit LambdaKernel(F f) : f_(std::move(f)) {}
  void run(const runtime::StepContext& context) override { f_(context); }
  std::string detail() const override { return std::string("own ") + select().name; }

 private:
  F f_;
};

template <class F>
KernelPtr kernel(F f) {
  return std::make_unique<LambdaKernel<F>>(std::move(f));
}

}  // namespace mpsnn::backend::cpu
