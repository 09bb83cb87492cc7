#include "backend/cpu/conv_weights.h"

#include <algorithm>

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {
namespace {

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

int64_t tall(const PairedConv& s, int64_t rows) {
  return std::min(s.h, (rows - 1) * s.sh + (s.kh - 1) * s.dh + 1);
}
int64_t scratch_floats(const PairedConv& s, int64_t rows) {
  return rows * s.pairs * s.k + 2 * s.sw * tall(s, rows) * s.across * s.c;
}

}  // namespace

PartSums::PartSums(Builder& b, int64_t parts, int64_t size, runtime::Ref to)
    : parts_(parts),
      size_(size),
      to_(to),
      sums_(b.workspace(static_cast<std::size_t>((parts - 1) * apart<float>(size)))),
      addends_(static_cast<std::size_t>(parts)) {}

void PartSums::join() {
  if (parts_ == 1) return;
  for (int64_t part = 0; part < parts_; ++part) addends_[static_cast<std::size_t>(part)] = of(part);
  pointwise(size_, [&](int64_t begin, int64_t end) {
    select().single.sum(addends_.data(), parts_, begin, end, to_.get<float>());
  });
}

bool PairedWeights::applies(const Node& node, const Shape& x, const Shape& y) {
  return node.op == Op::conv2d && node.attrs.integer("groups") == 1 && x[3] % 16 == 0 &&
         y[3] % 8 == 0 && multiplies_bfloat();
}

PairedWeights::PairedWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                             const Shape& y, runtime::Ref source, runtime::Ref gradient,
                             runtime::Ref to)
    : images_(x[0]), source_(source), gradient_(gradient) {
  const auto &stride = node.attrs.integers("stride"), &dilation = node.attrs.integers("dilation"),
             &pads = node.attrs.integers("pads");
  PairedConv& s = shape_;
  s.h = x[1], s.w = x[2], s.c = x[3];
  s.oh = y[1], s.ow = y[2], s.k = y[3];
  s.kh = weight[conv_weight::kh], s.kw = weight[conv_weight::kw];
  s.sh = stride[0], s.sw = stride[1], s.dh = dilation[0], s.dw = dilation[1];
  s.top = pads[0], s.left = pads[1];
  if (s.kh == 1 && s.sh == 1 && s.h == s.oh) {  // rows have nothing to do with each other
    s.h = s.oh = images_ * s.h;
    images_ = 1;
  }
  s.pairs = (s.ow + 1) / 2;
  s.before = floor_divide(-s.left, 2 * s.sw);
  s.across = s.pairs + floor_divide((s.kw - 1) * s.dw - s.left, 2 * s.sw) - s.before;
  constexpr int64_t kFloats = 150 * 1024;  // the second cache's larger part
  s.rows = 1;
  while (s.rows < s.oh && scratch_floats(s, s.rows + 1) <= kFloats) ++s.rows;
  const int64_t team = threads::team();
  blocks_ = (s.oh + s.rows - 1) / s.rows;
  if (images_ < team) blocks_ = std::min(s.oh, (blocks_ + team - 1) / team * team);
  s.rows = (s.oh + blocks_ - 1) / blocks_;
  blocks_ = (s.oh + s.rows - 1) / s.rows;
  s.tall = tall(s, s.rows);
  room_ = scratch_floats(s, s.rows);
  sums_.emplace(b, std::min(team, images_ * blocks_), count(weight), to);
  scratch_ = b.workspace(static_cast<std::size_t>(sums_->parts() * room_));
}

void PairedWeights::run() {
  const PairedConv& s = shape_;
  const int64_t all = images_ * blocks_, parts = sums_->parts();
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = all * part / parts;
      for (int64_t i = start; i < all * (part + 1) / parts; ++i) {
        const int64_t n = i / blocks_, first = i % blocks_ * s.rows;
        select().conv_weights_bfloat(
            s, source_.get<uint16_t>() + n * s.h * s.w * s.c,
            gradient_.get<uint16_t>() + n * s.oh * s.ow * s.k, first,
            std::min(s.rows, s.oh - first), i > start,
            reinterpret_cast<uint32_t*>(scratch_.get<float>() + part * room_), sums_->of(part));
      }
    }
  });
  sums_->join();
}

namespace {

// At a time, so that both operands of a product stay in the first caches.
constexpr int64_t kPixels = 128;

// Whether products have the inputs' channels as columns: the fewer of the two that are whole
// register blocks.
bool inputs_across(int64_t in, int64_t out) { return out % 32 != 0 || (in % 32 == 0 && in <= out); }

}  // namespace

bool PixelWeights::applies(int64_t in, int64_t out) { return in >= 16 && out >= 16; }

PixelWeights::PixelWeights(Builder& b, int64_t pixels, int64_t in, int64_t out, runtime::Ref source,
                           runtime::Ref gradient, runtime::Ref to)
    : pixels_(pixels),
      in_(in),
      out_(out),
      source_(source),
      gradient_(gradient),
      to_(to),
      turned_(inputs_across(in, out) ? to : b.workspace(static_cast<std::size_t>(in * out))),
      sums_(b, std::min<int64_t>(threads::team(), (pixels + kPixels - 1) / kPixels), in * out,
            turned_),
      scratch_(b.workspace(static_cast<std::size_t>(sums_.parts() * kPixels * 16))) {}

void PixelWeights::run() {
  const bool across = inputs_across(in_, out_);
  const auto *x = source_.get<float>(), *gy = gradient_.get<float>();
  const int64_t parts = sums_.parts();
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = pixels_ * part / parts, last = pixels_ * (part + 1) / parts;
      float* pack = scratch_.get<float>() + part * kPixels * 16;
      for (int64_t i = start; i < last; i += kPixels) {
        const int64_t n = std::min(kPixels, last - i);
        if (across)
          select().gemm(out_, in_, n, gy + i * out_, 1, out_, x + i * in_, in_, nullptr, i > start,
                        sums_.of(part), in_, pack);
        else
          select().gemm(in_, out_, n, x + i * in_, 1, in_, gy + i * out_, out_, nullptr, i > start,
                        sums_.of(part), out_, pack);
      }
    }
  });
  sums_.join();
  if (!across) select().transpose(turned_.get<float>(), out_, in_, out_, to_.get<float>(), in_);
}

}  // namespace mpsnn::backend::cpu
