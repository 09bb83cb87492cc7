#include "backend/cpu/depthwise.h"

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {

bool Depthwise::applies(const Node& node, const Shape& x, const Shape& weight) {
  constexpr int64_t kLanes = 16, kTaps = 9;
  constexpr int64_t kFloats = 128 << 10;  // smaller images are in cache, and oneDNN is as fast
  const auto& stride = node.attrs.integers("stride");
  return node.op == Op::conv2d && x[3] == node.attrs.integer("groups") && x[3] % kLanes == 0 &&
         weight[conv_weight::out] == x[3] && stride[0] == 1 && stride[1] == 1 &&
         weight[conv_weight::kh] * weight[conv_weight::kw] <= kTaps &&
         x[1] * x[2] * x[3] >= kFloats;
}

Depthwise::Depthwise(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                     const Shape& y, bool gradient, bool constant, runtime::Ref from,
                     runtime::Ref taps, runtime::Ref bias, runtime::Ref to)
    : images_(x[0]), turned_(gradient), from_(from), taps_(taps), bias_(bias), to_(to) {
  const auto &dilation = node.attrs.integers("dilation"), &pads = node.attrs.integers("pads");
  DepthwiseShape& s = shape_;
  const Shape &source = gradient ? y : x, &target = gradient ? x : y;
  s.h = source[1], s.w = source[2], s.c = source[3];
  s.oh = target[1], s.ow = target[2];
  s.kh = weight[conv_weight::kh], s.kw = weight[conv_weight::kw];
  s.dh = dilation[0], s.dw = dilation[1];
  s.top = gradient ? (s.kh - 1) * s.dh - pads[0] : pads[0];
  s.left = gradient ? (s.kw - 1) * s.dw - pads[1] : pads[1];
  const auto bytes = static_cast<std::size_t>(count(weight)) * sizeof(float);
  packed_ = constant ? b.keep(bytes) : b.scratch(bytes);
}

// Channels become innermost.
void Depthwise::prepare() const {
  const int64_t size = shape_.kh * shape_.kw;
  const auto* from = taps_.get<float>();
  auto* to = packed_.get<float>();
  for (int64_t k = 0; k < shape_.c; ++k)
    for (int64_t i = 0; i < size; ++i)
      to[(turned_ ? size - 1 - i : i) * shape_.c + k] = from[k * size + i];
}

void Depthwise::run() const {
  const DepthwiseShape& s = shape_;
  threads::parallel_for(images_ * s.oh, 1 + 16384 / (s.ow * s.c), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      select().depthwise(s, from_.get<float>() + r / s.oh * s.h * s.w * s.c, packed_.get<float>(),
                         bias_.get<float>(), r % s.oh, to_.get<float>() + r * s.ow * s.c);
  });
}

}  // namespace mpsnn::backend::cpu
