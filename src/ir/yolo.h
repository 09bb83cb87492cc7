// The loss of one image in YOLO's second version, as MPSCNNYOLOLoss is used by Turi Create.
// Channels are x, y, w, h, confidence and classes of each anchor; a target's x and y are offsets in
// its cell, its w and h counts of cells.
//
//   An anchor is an object if its target's confidence is 1, and its box and the target's, both
//   centred, overlap most among the cell's anchors or by more than `presence`; it is background if
//   it is none and they overlap by less than `absence`. Overlap is intersection over union. box,
//   class:  of objects, divided by their number confidence:  of objects and background, divided by
//   the number of cells; an object's target is
//                the overlap of the predicted box with the wanted one if `rescore`, else 1, and is
//                taken as a constant
#pragma once

#include <algorithm>
#include <cmath>

#include "mpsnn/attrs.h"

namespace mpsnn::ir {

struct YoloSpec {
  // `anchors`: a copy of the attribute, as long as the node; `count` pairs.
  YoloSpec(const Attrs& attrs, const double* anchors, int64_t count)
      : anchors(anchors),
        count(count),
        rescore(attrs.flag("rescore")),
        xy(attrs.number("scale_xy")),
        wh(attrs.number("scale_wh")),
        no_object(attrs.number("scale_no_object")),
        object(attrs.number("scale_object")),
        classes(attrs.number("scale_class")),
        presence(attrs.number("presence")),
        absence(attrs.number("absence")) {}
  const double* anchors;  // w, h of each, in cells
  int64_t count;
  bool rescore;
  double xy, wh, no_object, object, classes, presence, absence;
};

namespace yolo {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Of boxes of sizes w, h whose centres lie dx, dy apart.
inline double overlap(double w, double h, double w2, double h2, double dx, double dy) {
  const auto shared = [](double a, double b, double d) {
    return std::max(0.0, std::min(a, d + b) / 2 - std::max(-a, d - b) / 2);
  };
  const double both = shared(w, w2, 2 * dx) * shared(h, h2, 2 * dy);
  const double share = both / (w * h + w2 * h2 - both);
  return share > 0 ? share : 0;
}

}  // namespace yolo

// The image's loss, from `cells` cells of `channels` values each; and gx = factor times its
// gradient, unless it is null.
template <class T>
double yolo_loss(const YoloSpec& s, const T* x, const T* t, int64_t cells, int64_t channels,
                 double factor, T* gx) {
  const int64_t count = s.count, width = channels / count;
  double place = 0, belief = 0, objects = 0;
  const auto in_cell = [&](int64_t cell, auto visit) {
    double best = 0;
    const auto fit = [&](int64_t a) {
      const T* want = t + cell * channels + a * width;
      return yolo::overlap(s.anchors[2 * a], s.anchors[2 * a + 1], static_cast<double>(want[2]),
                           static_cast<double>(want[3]), 0, 0);
    };
    for (int64_t a = 0; a < count; ++a) best = std::max(best, fit(a));
    for (int64_t a = 0; a < count; ++a) {
      const double share = fit(a);
      const bool labelled = static_cast<double>(t[cell * channels + a * width + 4]) > 0.5;
      const bool object = labelled && (share == best || share > s.presence);
      visit(a, object, !object && share < s.absence);
    }
  };
  for (int64_t cell = 0; cell < cells; ++cell)
    in_cell(cell, [&](int64_t, bool object, bool) { objects += object; });
  const double per_object = objects > 0 ? 1 / objects : 0,
               per_cell = 1 / static_cast<double>(cells);

  for (int64_t cell = 0; cell < cells; ++cell)
    in_cell(cell, [&](int64_t a, bool object, bool background) {
      const int64_t at = cell * channels + a * width;
      const auto raw = [&](int64_t k) { return static_cast<double>(x[at + k]); };
      const auto wanted = [&](int64_t k) { return static_cast<double>(t[at + k]); };
      const auto give = [&](int64_t k, double slope) {
        if (gx != nullptr) gx[at + k] = static_cast<T>(factor * slope);
      };
      for (int64_t k = 0; k < width; ++k) give(k, 0);
      if (!object && !background) return;
      double confidence = 0;
      if (object) {
        const double aw = s.anchors[2 * a], ah = s.anchors[2 * a + 1];
        const double dx = yolo::sigmoid(raw(0)) - wanted(0), dy = yolo::sigmoid(raw(1)) - wanted(1);
        confidence = s.rescore ? yolo::overlap(std::exp(raw(2)) * aw, std::exp(raw(3)) * ah,
                                               wanted(2), wanted(3), dx, dy)
                               : 1;
        place += s.xy * (dx * dx + dy * dy);
        for (int64_t k = 0; k < 2; ++k) {
          const double d = k == 0 ? dx : dy, p = yolo::sigmoid(raw(k));
          give(k, 2 * s.xy * d * p * (1 - p) * per_object);
          const double e = raw(2 + k) - std::log(wanted(2 + k) / (k == 0 ? aw : ah) + 1e-5);
          const double size = std::fabs(e);
          place += s.wh * (size > 1 ? size - 0.5 : 0.5 * e * e);
          give(2 + k, s.wh * (e > 1 ? 1 : e < -1 ? -1 : e) * per_object);
        }
        double most = -HUGE_VAL, sum = 0, total = 0;
        for (int64_t k = 5; k < width; ++k) most = std::max(most, raw(k)), total += wanted(k);
        for (int64_t k = 5; k < width; ++k) sum += std::exp(raw(k) - most);
        for (int64_t k = 5; k < width; ++k) {
          const double log_share = raw(k) - most - std::log(sum);
          place -= s.classes * wanted(k) * log_share;
          give(k, s.classes * (std::exp(log_share) * total - wanted(k)) * per_object);
        }
      }
      const double y = raw(4), scale = object ? s.object : s.no_object;
      belief += scale * (std::max(y, 0.0) - y * confidence + std::log1p(std::exp(-std::fabs(y))));
      give(4, scale * (yolo::sigmoid(y) - confidence) * per_cell);
    });
  return place * per_object + belief * per_cell;
}

}  // namespace mpsnn::ir
