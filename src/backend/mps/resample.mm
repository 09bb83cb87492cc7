// resize2d and pad2d: every pixel is a sum of weighted pixels of the other image, whose rows and
// columns two tables list (ir/resample.h has the rule); the gradient's tables are the transposed
// ones. Where MPSNNResizeBilinear takes its samples without aligned corners is not documented.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/own.h"
#include "ir/resample.h"

namespace mpsnn::backend::mps {
namespace {

// For each pixel of one axis, the pixels that it is made of: those from starts[i] to starts[i + 1].
struct Table {
  Table(ir::Resampling how, int64_t from, int64_t to, int64_t before, bool gradient) {
    std::vector<std::vector<ResampleTap>> lists(static_cast<std::size_t>(gradient ? from : to));
    const auto add = [&](int64_t source, int64_t pixel, double weight) {
      if (weight == 0) return;
      lists[static_cast<std::size_t>(gradient ? source : pixel)].push_back(
          {static_cast<int>(gradient ? pixel : source), static_cast<float>(weight)});
    };
    for (int64_t i = 0; i < to; ++i) {
      const ir::Sample s = ir::sample(how, i, from, to, before);
      if (s.low < 0) continue;
      add(s.low, i, 1 - s.part);
      add(s.high, i, s.part);
    }
    for (const auto& list : lists) {
      starts.push_back(static_cast<int>(taps.size()));
      taps.insert(taps.end(), list.begin(), list.end());
    }
    starts.push_back(static_cast<int>(taps.size()));
    if (taps.empty()) taps.push_back({});  // a buffer has a size
  }
  std::vector<int> starts;
  std::vector<ResampleTap> taps;
};

struct Axis {
  Axis(Gpu& gpu, const Table& t)
      : starts{constant_buffer(gpu, t.starts.data(), t.starts.size() * sizeof(int)), 0},
        taps{constant_buffer(gpu, t.taps.data(), t.taps.size() * sizeof(ResampleTap)), 0} {}
  Buffer starts, taps;
};

}  // namespace

std::unique_ptr<Operation> make_resample(Builder& b) {
  const Node& n = b.node();
  const bool gradient = n.gradient;
  const Geometry x = geometry_of(b.x_shape(0)), y = geometry_of(b.y_shape());
  const ir::Resampling how = ir::resampling_of(n.op, b.attrs());
  int64_t top = 0, left = 0;
  ResampleParams p{};
  if (n.op == Op::pad2d) {
    const auto& sides = b.attrs().integers("sides");
    top = sides[0];
    left = sides[1];
    if (!gradient) p.fill = static_cast<float>(b.attrs().number("value", 0.0));
  }
  const Axis rows(b.gpu(), Table(how, x.h, y.h, top, gradient));
  const Axis columns(b.gpu(), Table(how, x.w, y.w, left, gradient));
  const Geometry &from = gradient ? y : x, &to = gradient ? x : y;
  p.count = static_cast<int>(to.count());
  p.h = static_cast<int>(to.h);
  p.w = static_cast<int>(to.w);
  p.c = static_cast<int>(to.c);
  p.from_h = static_cast<int>(from.h);
  p.from_w = static_cast<int>(from.w);
  const Dense source = b.dense(gradient ? n.gy(0) : n.x(0)),
              target = b.dense(gradient ? n.gx(0) : n.y(0));
  return own_kernels([=](Encoding& e) {
    const Buffer at = e.load(source);
    e.run(e.gpu().pipeline("resample"),
          {at, rows.starts, rows.taps, columns.starts, columns.taps, e.target(target)}, p, p.count);
    e.store(target);
  });
}

}  // namespace mpsnn::backend::mps
