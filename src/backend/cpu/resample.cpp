// resize2d and pad2d by one kernel: rows are shared out to threads forward, images backward.
#include "ir/resample.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/lambda.h"
#include "ir/images.h"

namespace mpsnn::backend::cpu {
namespace {

std::vector<ResampleTap> taps(const Node& node, int64_t in, int64_t out, int axis) {
  const ir::Resampling how = ir::resampling_of(node.op, node.attrs);
  const int64_t before =
      node.op == Op::pad2d ? node.attrs.integers("sides")[static_cast<std::size_t>(axis)] : 0;
  std::vector<ResampleTap> made;
  made.reserve(static_cast<std::size_t>(out));
  for (int64_t i = 0; i < out; ++i) {
    const ir::Sample s = ir::sample(how, i, in, out, before);
    made.push_back({s.low, s.high, static_cast<float>(s.part)});
  }
  return made;
}

}  // namespace

KernelPtr make_resize2d(Builder& b, const Node& node) {
  const Shape x = ir::as_image(b.shape(node.gradient ? node.gx(0) : node.x(0))),
              y = ir::as_image(b.shape(node.gradient ? node.gy(0) : node.y(0)));
  const auto rows = taps(node, x[1], y[1], 0), columns = taps(node, x[2], y[2], 1);
  const int64_t images = y[0], h = x[1], oh = y[1], ow = y[2], c = x[3], row = x[2] * c;
  if (!node.gradient) {
    const auto from = b.in(node.x(0)), to = b.out(node.y(0));
    const auto fill = static_cast<float>(node.attrs.number("value", 0.0));
    return kernel([=](const runtime::StepContext&) {
      threads::parallel_for(images * oh, 1 + 16384 / (ow * c), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const ResampleTap& t = rows[static_cast<std::size_t>(r % oh)];
          auto* out = to.get<float>() + r * ow * c;
          if (t.low < 0) {
            std::fill_n(out, ow * c, fill);
            continue;
          }
          const auto* image = from.get<float>() + r / oh * h * row;
          select().resample(image + t.low * row, image + t.high * row, t.part, columns.data(), ow,
                            c, fill, out);
        }
      });
    });
  }
  const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(images, 1 + 16384 / (h * row), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        auto* image = gx.get<float>() + n * h * row;
        std::memset(image, 0, static_cast<std::size_t>(h * row) * sizeof(float));
        for (int64_t i = 0; i < oh; ++i) {
          const ResampleTap& t = rows[static_cast<std::size_t>(i)];
          if (t.low < 0) continue;
          select().resample_gradient(gy.get<float>() + (n * oh + i) * ow * c, columns.data(), ow, c,
                                     t.part, image + t.low * row, image + t.high * row);
        }
      }
    });
  });
}

KernelPtr make_pad2d(Builder& b, const Node& node) { return make_resize2d(b, node); }

}  // namespace mpsnn::backend::cpu
