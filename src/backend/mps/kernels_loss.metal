
// ---- losses. `scale` of a gradient: gy, divided by the sum of weights where the loss was.

// Labels and weights as MPSCNNLoss takes them, one an element; one thread an element.
kernel void index_labels(device const int* target [[buffer(0)]],
                         device const float* class_weight [[buffer(1)]],
                         device const float* image_weight [[buffer(2)]],
                         device const float* seed [[buffer(3)]],
                         device const float* total [[buffer(4)]],
                         device float* labels [[buffer(5)]], device float* weights [[buffer(6)]],
                         constant LossParams& p [[buffer(7)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.positions * p.classes)) return;
  const int at = int(id) / p.classes, k = int(id) % p.classes, label = target[at];
  float scale = p.scale == 0 ? 1.0f : seed[0];
  if (p.scale == 2) scale = total[0] == 0.0f ? 0.0f : scale / total[0];
  const bool counts = label != p.ignore;
  float weight = counts ? scale : 0.0f;
  if (p.class_weighted != 0 && counts) weight *= class_weight[label];
  if (p.image_weighted != 0) weight *= image_weight[at / p.positions];
  labels[id] = p.smoothing / float(p.classes) + (k == label ? 1.0f - p.smoothing : 0.0f);
  weights[id] = weight;
}

kernel void value_weights(device const float* image_weight [[buffer(0)]],
                          device const float* seed [[buffer(1)]],
                          device const float* total [[buffer(2)]],
                          device float* weights [[buffer(3)]], constant LossParams& p [[buffer(4)]],
                          uint id [[thread_position_in_grid]]) {
  const int size = p.positions * p.classes;
  if (id >= uint(p.images * size)) return;
  float scale = p.scale == 0 ? 1.0f : seed[0];
  if (p.scale == 2) scale = total[0] == 0.0f ? 0.0f : scale / total[0];
  weights[id] = p.image_weighted != 0 ? scale * image_weight[int(id) / size] : scale;
}

// The sum of weights of each image. One thread an image.
kernel void loss_weights(device const int* target [[buffer(0)]],
                         device const float* class_weight [[buffer(1)]],
                         device const float* image_weight [[buffer(2)]],
                         device float* sums [[buffer(3)]], constant LossParams& p [[buffer(4)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images)) return;
  float sum = 0.0f;
  for (int i = 0; i < p.positions; ++i) {
    float weight = 1.0f;
    if (p.soft == 0) {
      const int label = target[int(id) * p.positions + i];
      if (label == p.ignore)
        weight = 0.0f;
      else if (p.class_weighted != 0)
        weight = class_weight[label];
    }
    sum += weight;
  }
  sums[id] = p.image_weighted != 0 ? sum * image_weight[id] : sum;
}

// loss, losses and the sum of weights from those of each image. One thread.
kernel void loss_values(device const float* image_loss [[buffer(0)]],
                        device const float* image_sum [[buffer(1)]],
                        device float* loss [[buffer(2)]], device float* losses [[buffer(3)]],
                        device float* total [[buffer(4)]], constant LossParams& p [[buffer(5)]],
                        uint id [[thread_position_in_grid]]) {
  if (id != 0u) return;
  float sum = 0.0f, weight = 0.0f;
  for (int n = 0; n < p.images; ++n) {
    sum += image_loss[n];
    weight += image_sum[n];
    float own = image_loss[n];
    if (p.divides != 0) own = image_sum[n] == 0.0f ? 0.0f : own / image_sum[n];
    losses[n] = own;
  }
  total[0] = weight;
  if (p.divides != 0) sum = weight == 0.0f ? 0.0f : sum / weight;
  loss[0] = sum;
}

// ---- losses of units: elements, positions or images, `each` of them an image. A unit's l is
// weighted by its class, its image and itself; one whose weight is 0 does not count, whatever l is.

inline float element_loss_of(int kind, float a, float y, float t) {
  const float d = y - t, size = fabs(d);
  if (kind == kLossMae) return size;
  if (kind == kLossMse) return d * d;
  if (kind == kLossSigmoid) return (y < 0.0f ? 0.0f : y) - y * t + log(1.0f + exp(-fabs(y)));
  if (kind == kLossCategorical) return t == 0.0f ? 0.0f : -t * log(y);
  if (kind == kLossHinge) {
    const float l = 1.0f - (2.0f * t - 1.0f) * y;
    return l < 0.0f ? 0.0f : l;
  }
  if (kind == kLossHuber) return size > a ? a * (size - 0.5f * a) : 0.5f * d * d;
  if (kind == kLossLog) return -t * log(y + a) - (1.0f - t) * log(1.0f - y + a);
  return t == 0.0f ? 0.0f : t * (log(t) - y);
}

inline float element_slope_of(int kind, float a, float y, float t) {
  const float d = y - t;
  if (kind == kLossMae) return d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;
  if (kind == kLossMse) return 2.0f * d;
  if (kind == kLossSigmoid) return 1.0f / (1.0f + exp(-y)) - t;
  if (kind == kLossCategorical) return t == 0.0f ? 0.0f : -t / y;
  if (kind == kLossHinge) return 1.0f - (2.0f * t - 1.0f) * y > 0.0f ? 1.0f - 2.0f * t : 0.0f;
  if (kind == kLossHuber) return d > a ? a : d < -a ? -a : d;
  if (kind == kLossLog) return (1.0f - t) / (1.0f - y + a) - t / (y + a);
  return -t;
}

// Targets of element `at` and its class's weight.
inline float wanted_of(constant UnitParams& p, device const float* soft, device const int* target,
                       int at) {
  const float t = p.soft != 0 ? soft[at] : (target[at / p.classes] == at % p.classes ? 1.0f : 0.0f);
  return t * (1.0f - p.smoothing) + 0.5f * p.smoothing;
}

inline float element_weight(constant UnitParams& p, device const float* class_weight,
                            device const int* target, int at) {
  if (p.soft == 0 && target[at / p.classes] == p.ignore) return 0.0f;
  return p.class_weighted != 0 ? class_weight[at % p.classes] : 1.0f;
}

// Of softmax cross-entropy: the coefficient of -log p of class k at a position.
inline float coefficient_of(constant UnitParams& p, device const float* soft,
                            device const int* target, device const float* class_weight, int at,
                            int k) {
  const float t = p.soft != 0 ? soft[at * p.classes + k] : (target[at] == k ? 1.0f : 0.0f);
  const float a = t * (1.0f - p.smoothing) + p.smoothing / float(p.classes);
  return p.class_weighted != 0 ? a * class_weight[k] : a;
}

inline float unit_weight_of(constant UnitParams& p, device const float* image_weight,
                            device const float* unit_weight, int unit) {
  float w = p.image_weighted != 0 ? image_weight[unit / p.each] : 1.0f;
  if (p.unit_weighted != 0) w *= unit_weight[unit / p.units_a_weight];
  return w;
}

kernel void unit_losses(device const float* x [[buffer(0)]], device const float* soft [[buffer(1)]],
                        device const int* target [[buffer(2)]],
                        device const float* class_weight [[buffer(3)]],
                        device const float* image_weight [[buffer(4)]],
                        device const float* unit_weight [[buffer(5)]],
                        device float* weighted [[buffer(6)]], device float* weights [[buffer(7)]],
                        constant UnitParams& p [[buffer(8)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.each)) return;
  const int unit = int(id), first = unit * p.classes;
  float loss = 0.0f, by_class = 1.0f;
  if (p.kind == kLossSoftmax) {
    const bool ignored = p.soft == 0 && target[unit] == p.ignore;
    if (ignored) by_class = 0.0f;
    if (!ignored && p.soft == 0 && p.class_weighted != 0) by_class = class_weight[target[unit]];
    float most = x[first], sum = 0.0f;
    for (int k = 1; k < p.classes; ++k) most = max(most, x[first + k]);
    for (int k = 0; k < p.classes; ++k) sum += exp(x[first + k] - most);
    const float total = most + log(sum);
    for (int k = 0; k < p.classes && !ignored; ++k) {
      const float a = coefficient_of(p, soft, target, class_weight, unit, k);
      if (a != 0.0f) loss += a * (total - x[first + k]);
    }
  } else if (p.kind == kLossCosine) {
    loss = 1.0f;
    for (int k = first; k < first + p.classes; ++k) loss -= x[k] * soft[k];
  } else if (p.kind == kLossGiven) {
    loss = x[unit];
  } else {
    by_class = element_weight(p, class_weight, target, unit);
    loss = by_class == 0.0f
               ? 0.0f
               : by_class * element_loss_of(p.kind, p.a, x[unit], wanted_of(p, soft, target, unit));
  }
  const float w = unit_weight_of(p, image_weight, unit_weight, unit);
  weighted[id] = w == 0.0f || by_class == 0.0f ? 0.0f : w * loss;
  weights[id] = w * by_class;
}

// The derivative by each unit's l, of whichever outputs have a gradient.
kernel void unit_factors(device const float* image_weight [[buffer(0)]],
                         device const float* unit_weight [[buffer(1)]],
                         device const float* by_loss [[buffer(2)]],
                         device const float* by_losses [[buffer(3)]],
                         device const float* total [[buffer(4)]],
                         device const float* sums [[buffer(5)]],
                         device float* factors [[buffer(6)]], constant UnitParams& p [[buffer(7)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.each)) return;
  const int unit = int(id), image = unit / p.each;
  const float w = unit_weight_of(p, image_weight, unit_weight, unit);
  float sum = 0.0f;
  if (p.by_loss != 0) {
    float g = by_loss[p.none != 0 ? unit : 0];
    if (p.none == 0 && p.divides != 0 && p.normalize != 0)
      g = total[0] == 0.0f ? 0.0f : g / total[0];
    sum += g;
  }
  if (p.by_losses != 0) {
    float g = by_losses[image];
    if (p.divides != 0) g = sums[image] == 0.0f ? 0.0f : g / sums[image];
    sum += g;
  }
  factors[id] = w == 0.0f ? 0.0f : w * sum;
}

kernel void unit_gradients(device const float* x [[buffer(0)]],
                           device const float* soft [[buffer(1)]],
                           device const int* target [[buffer(2)]],
                           device const float* class_weight [[buffer(3)]],
                           device const float* factors [[buffer(4)]],
                           device float* to [[buffer(5)]], constant UnitParams& p [[buffer(6)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.each)) return;
  const int unit = int(id), first = unit * p.classes;
  const float factor = factors[id];
  if (p.kind == kLossSoftmax) {
    const bool none = factor == 0.0f || (p.soft == 0 && target[unit] == p.ignore);
    float most = x[first], sum = 0.0f, all = 0.0f;
    for (int k = 1; k < p.classes; ++k) most = max(most, x[first + k]);
    for (int k = 0; k < p.classes && !none; ++k) {
      sum += exp(x[first + k] - most);
      all += coefficient_of(p, soft, target, class_weight, unit, k);
    }
    for (int k = 0; k < p.classes; ++k)
      to[first + k] = none ? 0.0f
                           : factor * (all * exp(x[first + k] - most) / sum -
                                       coefficient_of(p, soft, target, class_weight, unit, k));
  } else if (p.kind == kLossCosine) {
    for (int k = first; k < first + p.classes; ++k)
      to[k] = factor == 0.0f ? 0.0f : -factor * soft[k];
  } else {
    const float f = factor * element_weight(p, class_weight, target, unit);
    to[unit] = f == 0.0f
                   ? 0.0f
                   : f * element_slope_of(p.kind, p.a, x[unit], wanted_of(p, soft, target, unit));
  }
}

// ---- the YOLO loss of each image (ir/yolo.h), one thread a cell

inline float shared_length(float a, float b, float d) {
  return max(0.0f, min(a, d + b) / 2.0f - max(-a, d - b) / 2.0f);
}

inline float overlap_of(float w, float h, float w2, float h2, float dx, float dy) {
  const float both = shared_length(w, w2, 2.0f * dx) * shared_length(h, h2, 2.0f * dy);
  const float share = both / (w * h + w2 * h2 - both);
  return share > 0.0f ? share : 0.0f;
}

inline float anchor_fit(device const float* anchors, device const float* t, int at, int a) {
  return overlap_of(anchors[2 * a], anchors[2 * a + 1], t[at + 2], t[at + 3], 0.0f, 0.0f);
}

inline float best_fit(constant YoloParams& p, device const float* anchors, device const float* t,
                      int first) {
  float best = 0.0f;
  for (int a = 0; a < p.anchors; ++a)
    best = max(best, anchor_fit(anchors, t, first + a * p.width, a));
  return best;
}

// 1: an object, 2: background, 0: neither.
inline int anchor_role(constant YoloParams& p, device const float* anchors, device const float* t,
                       int at, int a, float best) {
  const float fit = anchor_fit(anchors, t, at, a);
  if (t[at + 4] > 0.5f && (fit == best || fit > p.presence)) return 1;
  return fit < p.absence ? 2 : 0;
}

kernel void yolo_objects(device const float* t [[buffer(0)]],
                         device const float* anchors [[buffer(1)]],
                         device float* objects [[buffer(2)]], constant YoloParams& p [[buffer(3)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.cells)) return;
  const int first = int(id) * p.anchors * p.width;
  const float best = best_fit(p, anchors, t, first);
  float sum = 0.0f;
  for (int a = 0; a < p.anchors; ++a)
    if (anchor_role(p, anchors, t, first + a * p.width, a, best) == 1) sum += 1.0f;
  objects[id] = sum;
}

// The cell's part of its image's loss; its gradient, times the image's factor.
kernel void yolo_cells(device const float* x [[buffer(0)]], device const float* t [[buffer(1)]],
                       device const float* anchors [[buffer(2)]],
                       device const float* objects [[buffer(3)]],
                       device const float* factors [[buffer(4)]],
                       device float* losses [[buffer(5)]], device float* to [[buffer(6)]],
                       constant YoloParams& p [[buffer(7)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.cells)) return;
  const int first = int(id) * p.anchors * p.width, image = int(id) / p.cells;
  const float best = best_fit(p, anchors, t, first);
  const float per_object = objects[image] > 0.0f ? 1.0f / objects[image] : 0.0f;
  const float per_cell = 1.0f / float(p.cells);
  const float factor = p.gradient != 0 ? factors[image] : 0.0f;
  float place = 0.0f, belief = 0.0f;
  for (int a = 0; a < p.anchors; ++a) {
    const int at = first + a * p.width, role = anchor_role(p, anchors, t, at, a, best);
    if (p.gradient != 0)
      for (int k = 0; k < p.width; ++k) to[at + k] = 0.0f;
    if (role == 0) continue;
    float confidence = 0.0f;
    if (role == 1) {
      const float aw = anchors[2 * a], ah = anchors[2 * a + 1];
      const float px = 1.0f / (1.0f + exp(-x[at])), py = 1.0f / (1.0f + exp(-x[at + 1]));
      const float dx = px - t[at], dy = py - t[at + 1];
      confidence = p.rescore == 0 ? 1.0f
                                  : overlap_of(exp(x[at + 2]) * aw, exp(x[at + 3]) * ah, t[at + 2],
                                               t[at + 3], dx, dy);
      place += p.xy * (dx * dx + dy * dy);
      float most = -3.0e38f, sum = 0.0f, total = 0.0f;
      for (int k = 5; k < p.width; ++k) {
        most = max(most, x[at + k]);
        total += t[at + k];
      }
      for (int k = 5; k < p.width; ++k) sum += exp(x[at + k] - most);
      for (int k = 5; k < p.width; ++k)
        place -= p.classes * t[at + k] * (x[at + k] - most - log(sum));
      for (int k = 2; k < 4; ++k) {
        const float e = x[at + k] - log(t[at + k] / (k == 2 ? aw : ah) + 1e-5f), size = fabs(e);
        place += p.wh * (size > 1.0f ? size - 0.5f : 0.5f * e * e);
        if (p.gradient != 0)
          to[at + k] = factor * p.wh * (e > 1.0f ? 1.0f : e < -1.0f ? -1.0f : e) * per_object;
      }
      if (p.gradient != 0) {
        to[at] = factor * 2.0f * p.xy * dx * px * (1.0f - px) * per_object;
        to[at + 1] = factor * 2.0f * p.xy * dy * py * (1.0f - py) * per_object;
        for (int k = 5; k < p.width; ++k)
          to[at + k] =
              factor * p.classes * (exp(x[at + k] - most) / sum * total - t[at + k]) * per_object;
      }
    }
    const float y = x[at + 4], scale = role == 1 ? p.object : p.no_object;
    belief += scale * (max(y, 0.0f) - y * confidence + log(1.0f + exp(-fabs(y))));
    if (p.gradient != 0)
      to[at + 4] = factor * scale * (1.0f / (1.0f + exp(-y)) - confidence) * per_cell;
  }
  losses[id] = place * per_object + belief * per_cell;
}
