#include "backend/cpu/im2col.h"

#include <algorithm>
#include <cstring>

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {

namespace {

int64_t floats(const Shape& weight, const Shape& y) {
  return y[0] * y[1] * y[2] * count(weight) / weight[conv_weight::out];
}

}  // namespace

bool WindowWeights::applies(const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                            bool bfloat) {
  constexpr int64_t kMost = 8 << 20;      // floats of all windows, which are kept for the product
  const int64_t pixels = bfloat ? 2 : 8;  // an output, at which laying them out still pays
  if (bfloat && count(weight) < 1 << 20) return false;  // our own sums fit the caches
  return node.op == Op::conv2d && node.attrs.integer("groups") == 1 && x[3] % 16 == 0 &&
         y[0] * y[1] * y[2] <= pixels * y[3] && floats(weight, y) <= kMost;
}

WindowWeights::WindowWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                             const Shape& y, bool bfloat, runtime::Ref source,
                             runtime::Ref gradient, runtime::Ref to)
    : element_(bfloat ? sizeof(uint16_t) : sizeof(float)),
      h_(x[1]),
      w_(x[2]),
      c_(x[3]),
      oh_(y[1]),
      ow_(y[2]),
      kh_(weight[conv_weight::kh]),
      kw_(weight[conv_weight::kw]),
      rows_(y[0] * y[1]),
      source_(source),
      windows_(b.scratch(static_cast<std::size_t>(floats(weight, y)) * element_)) {
  const auto &stride = node.attrs.integers("stride"), &dilation = node.attrs.integers("dilation"),
             &pads = node.attrs.integers("pads");
  sh_ = stride[0], sw_ = stride[1], dh_ = dilation[0], dw_ = dilation[1];
  top_ = pads[0], left_ = pads[1];
  using dnnl::memory;
  const auto type = bfloat ? memory::data_type::bf16 : memory::data_type::f32;
  const int64_t out = weight[conv_weight::out], terms = kh_ * kw_ * c_, pixels = rows_ * ow_;
  product_ = product(b, {{out, pixels}, type, memory::format_tag::ba}, gradient,
                     {{pixels, terms}, type, memory::format_tag::ab}, windows_, {},
                     {{out, terms}, memory::data_type::f32, memory::format_tag::ab}, to);
}

void WindowWeights::gather(int64_t begin, int64_t end) const {
  const auto bytes = [&](int64_t n) { return static_cast<std::size_t>(n) * element_; };
  auto* to = windows_.get<char>() + bytes(begin * ow_ * kh_ * kw_ * c_);
  for (int64_t row = begin; row < end; ++row) {
    const auto* image = source_.get<char>() + bytes(row / oh_ * h_ * w_ * c_);
    for (int64_t ox = 0; ox < ow_; ++ox) {
      for (int64_t ky = 0; ky < kh_; ++ky) {
        const int64_t iy = row % oh_ * sh_ - top_ + ky * dh_;
        for (int64_t kx = 0; kx < kw_;) {
          const int64_t ix = ox * sw_ - left_ + kx * dw_;
          const bool inside = iy >= 0 && iy < h_ && ix >= 0 && ix < w_;
          // Neighbours of a row are copied together.
          const int64_t run = inside && dw_ == 1 ? std::min(kw_ - kx, w_ - ix) : 1;
          if (inside)
            std::memcpy(to, image + bytes((iy * w_ + ix) * c_), bytes(run * c_));
          else
            std::memset(to, 0, bytes(c_));
          to += bytes(run * c_);
          kx += run;
        }
      }
    }
  }
}

void WindowWeights::run() {
  threads::parallel_for(rows_, 1 + 16384 / (ow_ * kh_ * kw_ * c_),
                        [&](int64_t begin, int64_t end) { gather(begin, end); });
  product_.run();
}

}  // namespace mpsnn::backend::cpu
