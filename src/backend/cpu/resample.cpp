// resize2d and pad2d by one kernel: rows are shared out to threads, of outputs forward, of the
// source backward.
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

// The columns that a source's pixels are read by: terms of pixel q end at ends[q].
struct Columns {
  Columns(const std::vector<ResampleTap>& taps, int64_t w) {
    std::vector<std::vector<ResampleTerm>> of(static_cast<std::size_t>(w));
    const auto add = [&](int64_t pixel, std::size_t from, float weight) {
      if (weight != 0.0f)
        of[static_cast<std::size_t>(pixel)].push_back({static_cast<int64_t>(from), weight});
    };
    for (std::size_t j = 0; j < taps.size(); ++j) {
      if (taps[j].low < 0) continue;
      add(taps[j].low, j, 1.0f - taps[j].part);
      add(taps[j].high, j, taps[j].part);
    }
    for (const auto& some : of) {
      terms.insert(terms.end(), some.begin(), some.end());
      ends.push_back(static_cast<int64_t>(terms.size()));
    }
  }
  std::vector<ResampleTerm> terms;
  std::vector<int64_t> ends;
};

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
  const Columns gathered(columns, x[2]);
  return kernel([=, w = x[2]](const runtime::StepContext&) {
    // Rows first..last of an image, from all rows of outputs that read one of them.
    const auto some = [&](int64_t n, int64_t first, int64_t last) {
      auto* image = gx.get<float>() + n * h * row;
      std::memset(image + first * row, 0,
                  static_cast<std::size_t>((last - first) * row) * sizeof(float));
      for (int64_t i = 0; i < oh; ++i) {
        const ResampleTap& t = rows[static_cast<std::size_t>(i)];
        const auto own = [&](int64_t r, float weight) {
          return r >= first && r < last && weight != 0.0f ? image + r * row : nullptr;
        };
        float *low = own(t.low, 1.0f - t.part), *high = own(t.high, t.part);
        if (low == nullptr && high == nullptr) continue;
        select().resample_gradient(gy.get<float>() + (n * oh + i) * ow * c, gathered.terms.data(),
                                   gathered.ends.data(), w, c, 1.0f - t.part, low, t.part, high,
                                   i + 1 < oh ? ow * c : 0);
      }
    };
    threads::parallel_for(images * h, 1 + 16384 / row, [&](int64_t begin, int64_t end) {
      for (int64_t next; begin < end; begin = next) {
        const int64_t n = begin / h;
        next = std::min(end, (n + 1) * h);
        some(n, begin - n * h, next - n * h);
      }
    });
  });
}

KernelPtr make_pad2d(Builder& b, const Node& node) { return make_resize2d(b, node); }

}  // namespace mpsnn::backend::cpu
