// Where the pixels of a resized or padded image come from, one axis at a time: the pixels `low` and
// `high` of the source, `part` of the way between them, or none (low < 0: padding).
#pragma once

#include <algorithm>
#include <string>

#include "mpsnn/attrs.h"
#include "mpsnn/graph.h"

namespace mpsnn::ir {

struct Sample {
  int64_t low, high;
  double part;
};

enum class Resampling : uint8_t { nearest, half_pixel, align_corners, constant, reflect, edge };

inline Resampling resampling_of(Op op, const Attrs& attrs) {
  const std::string& mode = attrs.text("mode");
  if (op == Op::pad2d)
    return mode == "reflect" ? Resampling::reflect
           : mode == "edge"  ? Resampling::edge
                             : Resampling::constant;
  if (mode == "nearest") return Resampling::nearest;
  return attrs.flag("align_corners") ? Resampling::align_corners : Resampling::half_pixel;
}

// Pixel i of `out` from `in` pixels, `before` of which are added (or, negative, cut off) in front.
inline Sample sample(Resampling how, int64_t i, int64_t in, int64_t out, int64_t before) {
  const auto between = [&](double at) {
    const int64_t low = std::min(static_cast<int64_t>(at), in - 1);
    const int64_t high = std::min(low + 1, in - 1);
    return Sample{low, high, high == low ? 0.0 : at - static_cast<double>(low)};
  };
  const int64_t at = i - before;
  switch (how) {
    case Resampling::nearest:
      return {i * in / out, i * in / out, 0};
    case Resampling::half_pixel: {
      const double scale = static_cast<double>(in) / static_cast<double>(out);
      return between(std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5));
    }
    case Resampling::align_corners:
      if (out == 1) return {0, 0, 0};
      return between(static_cast<double>(i) * static_cast<double>(in - 1) /
                     static_cast<double>(out - 1));
    case Resampling::constant:
      return at < 0 || at >= in ? Sample{-1, -1, 0} : Sample{at, at, 0};
    case Resampling::reflect: {
      const int64_t back = at < 0 ? -at : at < in ? at : 2 * (in - 1) - at;
      return {back, back, 0};
    }
    case Resampling::edge: {
      const int64_t near = std::clamp<int64_t>(at, 0, in - 1);
      return {near, near, 0};
    }
  }
  return {-1, -1, 0};
}

}  // namespace mpsnn::ir
