// Convolution weights from their canonical layout into one of oneDNN's blocked ones, which oneDNN's
// own reorders take several times longer for.
#pragma once

#include "backend/cpu/onednn.h"

namespace mpsnn::backend::cpu {

class Packing {
 public:
  Packing() = default;
  // `from`: float32, (o, kh, kw, i) in memory, perhaps in groups; `to`: float32 or bfloat16.
  Packing(Builder& b, const dnnl::memory::desc& from, runtime::Ref source,
          const dnnl::memory::desc& to, runtime::Ref target);
  void run();
  explicit operator bool() const { return static_cast<bool>(target_); }

 private:
  enum class Order : uint8_t { other, outputs, inputs };  // whose channels lie next to each other
  void run_outputs();
  void run_inputs();

  Order order_ = Order::other;
  bool bfloat_ = false;
  int64_t outputs_ = 0, inputs_ = 0, taps_ = 0, across_ = 0, width_ = 0;
  int64_t row_ = 0, column_ = 0;         // strides of the taps in `to`
  std::vector<int64_t> output_, input_;  // where a channel's elements are in `to`
  runtime::Ref source_, target_, turned_;
  Primitive other_;
};

}  // namespace mpsnn::backend::cpu
