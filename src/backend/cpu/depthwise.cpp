#include "backend/cpu/depthwise.h"

#include <algorithm>
#include <utility>

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {

namespace {

constexpr int64_t kBlock = 16;

// Whether each channel is by itself, and there are enough of them.
bool is_depthwise(const Node& node, const Shape& x, const Shape& weight) {
  return node.op == Op::conv2d && x[3] == node.attrs.integer("groups") && x[3] >= kBlock &&
         weight[conv_weight::out] == x[3];
}

DepthwiseShape shape_of(const Node& node, const Shape& x, const Shape& weight, const Shape& y) {
  const auto &stride = node.attrs.integers("stride"), &dilation = node.attrs.integers("dilation"),
             &pads = node.attrs.integers("pads");
  return {x[1],
          x[2],
          x[3],
          y[1],
          y[2],
          weight[conv_weight::kh],
          weight[conv_weight::kw],
          stride[0],
          stride[1],
          dilation[0],
          dilation[1],
          pads[0],
          pads[1]};
}

bool is_dilated(const Node& node) {
  const auto& dilation = node.attrs.integers("dilation");
  return dilation[0] != 1 || dilation[1] != 1;
}

bool has_few_taps(const Shape& weight) {
  return weight[conv_weight::kh] * weight[conv_weight::kw] <= 9;
}

bool is_large(const Shape& x) {  // smaller images are in cache, and oneDNN's kernels are as fast
  constexpr int64_t kFloats = 128 << 10;
  return x[1] * x[2] * x[3] >= kFloats;
}

}  // namespace

bool Depthwise::applies(const Node& node, const Shape& x, const Shape& weight, bool gradient,
                        bool bfloat) {
  const auto& stride = node.attrs.integers("stride");
  if (!is_depthwise(node, x, weight) || stride[0] != 1 || stride[1] != 1) return false;
  if (gradient && is_dilated(node)) return true;  // which oneDNN has no kernel for
  return !bfloat && has_few_taps(weight) && is_large(x);
}

Depthwise::Depthwise(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                     const Shape& y, bool gradient, bool constant, bool bfloat, runtime::Ref from,
                     runtime::Ref taps, runtime::Ref bias, runtime::Ref to)
    : shape_(shape_of(node, x, weight, y)),
      images_(x[0]),
      turned_(gradient),
      bfloat_(bfloat),
      from_(from),
      taps_(taps),
      bias_(bias),
      to_(to) {
  if (gradient) {
    DepthwiseShape& s = shape_;
    std::swap(s.h, s.oh);
    std::swap(s.w, s.ow);
    s.top = (s.kh - 1) * s.dh - s.top;
    s.left = (s.kw - 1) * s.dw - s.left;
  }
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

template <class T>
void Depthwise::rows(int64_t begin, int64_t end) const {
  const DepthwiseShape& s = shape_;
  for (int64_t r = begin; r < end; ++r)
    images<T>().depthwise(s, from_.get<T>() + r / s.oh * s.h * s.w * s.c, packed_.get<float>(),
                          bias_.get<float>(), r % s.oh, to_.get<T>() + r * s.ow * s.c);
}

void Depthwise::run() const {
  const DepthwiseShape& s = shape_;
  threads::parallel_for(images_ * s.oh, 1 + 16384 / (s.ow * s.c), [&](int64_t begin, int64_t end) {
    bfloat_ ? rows<uint16_t>(begin, end) : rows<float>(begin, end);
  });
}

bool DepthwiseWeights::applies(const Node& node, const Shape& x, const Shape& weight) {
  return is_depthwise(node, x, weight) &&
         (!has_few_taps(weight) || is_dilated(node) || is_large(x));
}

DepthwiseWeights::DepthwiseWeights(Builder& b, const Node& node, const Shape& x,
                                   const Shape& weight, const Shape& y, bool bfloat,
                                   runtime::Ref source, runtime::Ref gradient, runtime::Ref to)
    : shape_(shape_of(node, x, weight, y)),
      images_(x[0]),
      parts_(std::min<int64_t>(threads::team(), 1 + count(y) / 16384)),
      bfloat_(bfloat),
      source_(source),
      gradient_(gradient),
      to_(to),
      size_(shape_.kh * shape_.kw * ((shape_.c + kBlock - 1) / kBlock * kBlock)),
      sums_(b.workspace(static_cast<std::size_t>(parts_ * size_))) {}

template <class T>
void DepthwiseWeights::add(int64_t begin, int64_t end, float* sums) const {
  const DepthwiseShape& s = shape_;
  for (int64_t r = begin; r < end; ++r)
    images<T>().depthwise_weights(s, source_.get<T>() + r / s.oh * s.h * s.w * s.c,
                                  gradient_.get<T>() + r * s.ow * s.c, r % s.oh, sums);
}

void DepthwiseWeights::run() const {
  const DepthwiseShape& s = shape_;
  const int64_t rows = images_ * s.oh;
  auto* sums = sums_.get<float>();
  threads::parallel_for(parts_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      float* own = sums + part * size_;
      std::fill_n(own, size_, 0.0f);
      const int64_t first = rows * part / parts_, last = rows * (part + 1) / parts_;
      bfloat_ ? add<uint16_t>(first, last, own) : add<float>(first, last, own);
    }
  });
  for (int64_t part = 1; part < parts_; ++part)
    select().add(sums, sums + part * size_, sums, size_);
  // To (c, kh, kw); the last block's own channels are its last ones.
  const int64_t taps = s.kh * s.kw, padded = size_ / taps, whole = padded - kBlock;
  select().transpose(sums, padded, taps, whole, to_.get<float>(), taps);
  select().transpose(sums + padded - (s.c - whole), padded, taps, s.c - whole,
                     to_.get<float>() + whole * taps, taps);
}

}  // namespace mpsnn::backend::cpu
