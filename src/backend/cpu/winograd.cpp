#include "backend/cpu/winograd.h"

#include <algorithm>
#include <cstring>

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {
namespace {

constexpr int64_t kTile = 6, kPlaces = kTile * kTile, kLanes = 16;

int64_t tiles(const WinogradShape& s) {
  const int64_t m = kTile + 1 - s.r;
  return s.n * ((s.oh + m - 1) / m) * ((s.ow + m - 1) / m);
}

// As many tiles as keep both sides of the products in the second cache, in whole register blocks.
int64_t block_of(const WinogradShape& s) {
  constexpr int64_t kFloats = 96 * 1024, kRows = 8;
  return std::clamp(kFloats / (kPlaces * (s.c + s.k)) / kRows * kRows, kRows, 8 * kRows);
}

std::size_t scratch_floats(const WinogradShape& s) {
  return static_cast<std::size_t>(threads::team() * kPlaces * block_of(s) * (s.c + s.k));
}

// f(part, first, count) over blocks of tiles, one part a thread.
template <class F>
void over_blocks(int64_t total, int64_t block, F f) {
  const int64_t parts = threads::team(), blocks = (total + block - 1) / block;
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part)
      for (int64_t i = blocks * part / parts; i < blocks * (part + 1) / parts; ++i)
        f(part, i * block, std::min(block, total - i * block));
  });
}

}  // namespace

bool winograd_applies(const Node& node, const Shape& x, const Shape& weight, const Shape& y) {
  namespace w = conv_weight;
  const std::vector<int64_t> one{1, 1};
  const int64_t r = weight[w::kh];
  const bool form = node.op == Op::conv2d && node.attrs.integer("groups") == 1 &&
                    node.attrs.integers("stride") == one &&
                    node.attrs.integers("dilation") == one && r == weight[w::kw] &&
                    (r == 3 || r == 5);
  const auto fits = [](int64_t channels) { return channels % kLanes == 0 && channels <= 512; };
  const WinogradShape s{x[0], 0, 0, 0, y[1], y[2], 0, r, 0, 0};
  // Beyond that many taps their transforms are read from memory for each few tiles.
  const bool cached = x[3] * y[3] <= 256 * 256;
  return form && fits(x[3]) && fits(y[3]) && cached && tiles(s) >= 64;
}

Winograd::Winograd(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                   const Shape& y, bool gradient, bool constant, runtime::Ref from,
                   runtime::Ref taps, runtime::Ref bias, runtime::Ref to)
    : gradient_(gradient), from_(from), taps_(taps), bias_(bias), to_(to) {
  const int64_t r = weight[conv_weight::kh];
  const auto& pads = node.attrs.integers("pads");
  shape_ =
      gradient
          ? WinogradShape{y[0],           y[1], y[2], y[3], x[1], x[2], x[3], r, r - 1 - pads[0],
                          r - 1 - pads[1]}
          : WinogradShape{x[0], x[1], x[2], x[3], y[1], y[2], y[3], r, pads[0], pads[1]};
  total_ = tiles(shape_);
  block_ = block_of(shape_);
  if (!gradient) turned_ = b.workspace(static_cast<std::size_t>(count(weight)));
  const auto size = static_cast<std::size_t>(kPlaces * shape_.c * shape_.k);
  transformed_ = constant ? b.keep(size * sizeof(float)) : b.workspace(size);
  scratch_ = b.workspace(scratch_floats(shape_));
}

void Winograd::prepare() {
  const WinogradShape& s = shape_;
  const auto* w = taps_.get<float>();
  auto* u = transformed_.get<float>();
  const int64_t inputs = s.r * s.r * s.c;  // of one output, when not the gradient
  WinogradTaps taps{w + (s.r * s.r - 1) * s.k, -s.r * s.k, -s.k, s.r * s.r * s.k};
  if (!gradient_) {
    auto* turned = turned_.get<float>();
    threads::parallel_for(inputs, 64, [&](int64_t begin, int64_t end) {
      select().transpose(w + begin, inputs, s.k, end - begin, turned + begin * s.k, s.k);
    });
    taps = {turned, s.r * s.c * s.k, s.c * s.k, s.k};
  }
  threads::parallel_for(s.c, kLanes, [&](int64_t begin, int64_t end) {
    select().winograd_taps(static_cast<int>(s.r), taps, begin, end, s.c, s.k, u);
  });
}

void Winograd::run() {
  const WinogradShape& s = shape_;
  const auto* u = transformed_.get<float>();
  const int64_t stride = kPlaces * block_ * (s.c + s.k);
  over_blocks(total_, block_, [&](int64_t part, int64_t first, int64_t n) {
    select().winograd(s, from_.get<float>(), u, bias_.get<float>(), to_.get<float>(), first, n,
                      scratch_.get<float>() + part * stride);
  });
}

WinogradWeights::WinogradWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                                 const Shape& y, runtime::Ref source, runtime::Ref gradient,
                                 runtime::Ref to)
    : parts_(threads::team()), source_(source), gradient_(gradient), to_(to) {
  const auto& pads = node.attrs.integers("pads");
  shape_ = {x[0], x[1], x[2], x[3], y[1], y[2], y[3], weight[conv_weight::kh], pads[0], pads[1]};
  total_ = tiles(shape_);
  block_ = block_of(shape_);
  sums_ = b.workspace(static_cast<std::size_t>(parts_ * kPlaces * shape_.c * shape_.k));
  turned_ = b.workspace(static_cast<std::size_t>(count(weight)));
  scratch_ = b.workspace(scratch_floats(shape_));
}

void WinogradWeights::run() {
  const WinogradShape& s = shape_;
  auto *sums = sums_.get<float>(), *turned = turned_.get<float>(), *to = to_.get<float>();
  const int64_t size = kPlaces * s.c * s.k, inputs = s.r * s.r * s.c;
  const int64_t stride = kPlaces * block_ * (s.c + s.k);
  std::memset(sums, 0, static_cast<std::size_t>(parts_ * size) * sizeof(float));
  over_blocks(total_, block_, [&](int64_t part, int64_t first, int64_t n) {
    select().winograd_gradient(s, source_.get<float>(), gradient_.get<float>(), sums + part * size,
                               first, n, scratch_.get<float>() + part * stride);
  });
  threads::parallel_for(s.c, kLanes, [&](int64_t begin, int64_t end) {
    select().winograd_taps_gradient(static_cast<int>(s.r), sums, parts_, begin, end, s.c, s.k,
                                    turned);
  });
  threads::parallel_for(s.k, kLanes, [&](int64_t begin, int64_t end) {
    select().transpose(turned + begin, s.k, inputs, end - begin, to + begin * inputs, inputs);
  });
}

}  // namespace mpsnn::backend::cpu
