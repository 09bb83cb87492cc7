// Our own kernels, for what MPS has no primitive for. All work on dense buffers, one thread an
// element, a row or a partial sum; none uses atomics, so that a step repeats bit for bit.
// Written in the common subset of Metal and C++: a C++ compiler that defines `kernel`, `device`,
// `constant`, `half` and the functions used takes the file as it is.
#ifdef __METAL_VERSION__
#include <metal_stdlib>
using namespace metal;
#endif

// ---- copies and conversions

kernel void half_to_float(device const half* from [[buffer(0)]], device float* to [[buffer(1)]],
                          constant CountParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = float(from[id]);
}

kernel void float_to_half(device const float* from [[buffer(0)]], device half* to [[buffer(1)]],
                          constant CountParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = half(from[id]);
}

kernel void add_arrays(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
                       device float* to [[buffer(2)]], constant CountParams& p [[buffer(3)]],
                       uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = a[id] + b[id];
}

kernel void multiply_arrays(device const float* a [[buffer(0)]],
                            device const float* b [[buffer(1)]], device float* to [[buffer(2)]],
                            constant CountParams& p [[buffer(3)]],
                            uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = a[id] * b[id];
}

// to = factor * from, or to += factor * from.
kernel void scale_array(device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
                        constant ScaleParams& p [[buffer(2)]],
                        uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  to[id] = (p.adds != 0 ? to[id] : 0.0f) + p.factor * from[id];
}

// The gradient of the mean of each `size` elements.
kernel void mean_gradient(device const float* gradient [[buffer(0)]],
                          device float* to [[buffer(1)]], constant MeanParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = gradient[int(id) / p.size] / float(p.size);
}

kernel void rows_into(device const float* part [[buffer(0)]], device float* whole [[buffer(1)]],
                      constant RowParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int i = int(id);
  whole[i / p.size * p.row + p.offset + i % p.size] = part[i];
}

kernel void rows_from(device const float* whole [[buffer(0)]], device float* part [[buffer(1)]],
                      constant RowParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int i = int(id);
  part[i] = whole[i / p.size * p.row + p.offset + i % p.size];
}

// Weights (out, taps, in / groups) as (out, taps, in), zero outside of an output's group; and the
// other way for their gradient.
kernel void spread_groups(device const float* weight [[buffer(0)]],
                          device float* wide [[buffer(1)]], constant GroupParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.out * p.taps * p.in)) return;
  const int i = int(id), part = p.in / p.groups;
  const int channel = i % p.in, tap = i / p.in % p.taps, o = i / p.in / p.taps;
  const int inside = channel - o / (p.out / p.groups) * part;
  wide[i] = inside >= 0 && inside < part ? weight[(o * p.taps + tap) * part + inside] : 0.0f;
}

kernel void gather_groups(device const float* wide [[buffer(0)]],
                          device float* weight [[buffer(1)]], constant GroupParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  const int part = p.in / p.groups;
  if (id >= uint(p.out * p.taps * part)) return;
  const int i = int(id);
  const int inside = i % part, tap = i / part % p.taps, o = i / part / p.taps;
  weight[i] = wide[(o * p.taps + tap) * p.in + o / (p.out / p.groups) * part + inside];
}

// ---- a neuron's gradient from its output (ir::Neuron: none, relu, leaky_relu, sigmoid, tanh)

kernel void neuron_gradient_of_output(device const float* y [[buffer(0)]],
                                      device const float* gradient [[buffer(1)]],
                                      device float* to [[buffer(2)]],
                                      constant NeuronParams& p [[buffer(3)]],
                                      uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float v = y[id];
  float slope = 1.0f;
  if (p.kind == 1) slope = v > 0.0f ? 1.0f : 0.0f;
  if (p.kind == 2) slope = v > 0.0f ? 1.0f : p.a;
  if (p.kind == 3) slope = v * (1.0f - v);
  if (p.kind == 4) slope = 1.0f - v * v;
  to[id] = gradient[id] * slope;
}

// ---- max pooling with dilation and padding together, where clamping would add pixels to a window

kernel void max_pool(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                     device int* winner [[buffer(2)]], constant WindowParams& p [[buffer(3)]],
                     uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.n * p.oh * p.ow * p.c)) return;
  const int i = int(id);
  const int c = i % p.c, q = i / p.c % p.ow, r = i / p.c / p.ow % p.oh, n = i / p.c / p.ow / p.oh;
  int best = -1;
  float most = 0.0f;
  for (int ky = 0; ky < p.kh; ++ky)
    for (int kx = 0; kx < p.kw; ++kx) {
      const int row = r * p.sh - p.top + ky * p.dh, column = q * p.sw - p.left + kx * p.dw;
      if (row < 0 || row >= p.h || column < 0 || column >= p.w) continue;
      const float v = x[((n * p.h + row) * p.w + column) * p.c + c];
      if (best < 0 || v > most || (v != v && most == most)) {
        most = v;
        best = row * p.w + column;
      }
    }
  if (p.neuron == 1 && most < 0.0f) most = 0.0f;
  if (p.neuron == 2 && most < 0.0f) most *= p.a;
  if (p.neuron == 3) most = 1.0f / (1.0f + exp(-most));
  if (p.neuron == 4) most = tanh(most);
  y[i] = most;
  winner[i] = best;
}

// One thread a pixel of the image, over all windows that may hold it.
kernel void max_pool_gradient(device const float* gradient [[buffer(0)]],
                              device const int* winner [[buffer(1)]],
                              device float* to [[buffer(2)]],
                              constant WindowParams& p [[buffer(3)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.n * p.h * p.w * p.c)) return;
  const int i = int(id);
  const int c = i % p.c, column = i / p.c % p.w, row = i / p.c / p.w % p.h, n = i / p.c / p.w / p.h;
  float sum = 0.0f;
  for (int ky = 0; ky < p.kh; ++ky)
    for (int kx = 0; kx < p.kw; ++kx) {
      const int top = row + p.top - ky * p.dh, left = column + p.left - kx * p.dw;
      if (top < 0 || left < 0 || top % p.sh != 0 || left % p.sw != 0) continue;
      const int r = top / p.sh, q = left / p.sw;
      if (r >= p.oh || q >= p.ow) continue;
      const int at = ((n * p.oh + r) * p.ow + q) * p.c + c;
      if (winner[at] == row * p.w + column) sum += gradient[at];
    }
  to[i] = sum;
}

// ---- batch-norm with fixed statistics: its gradient. MPS has that of batch statistics only.

kernel void fixed_norm_sums(device const float* x [[buffer(0)]],
                            device const float* gradient [[buffer(1)]],
                            device const float* mean [[buffer(2)]],
                            device const float* variance [[buffer(3)]],
                            device float* weight [[buffer(4)]], device float* bias [[buffer(5)]],
                            constant NormParams& p [[buffer(6)]],
                            uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.channels)) return;
  float dot = 0.0f, sum = 0.0f;
  for (int r = 0; r < p.rows; ++r) {
    const int at = r * p.channels + int(id);
    sum += gradient[at];
    dot += gradient[at] * (x[at] - mean[id]);
  }
  weight[id] = dot / sqrt(variance[id] + p.epsilon);
  bias[id] = sum;
}

kernel void fixed_norm_gradient(device const float* gradient [[buffer(0)]],
                                device const float* variance [[buffer(1)]],
                                device const float* weight [[buffer(2)]],
                                device float* to [[buffer(3)]],
                                constant NormParams& p [[buffer(4)]],
                                uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  const int c = int(id) % p.channels;
  to[id] = gradient[id] * weight[c] / sqrt(variance[c] + p.epsilon);
}

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

// Softmax cross-entropy whose coefficients do not sum to a weight: soft labels, or smoothing with
// class weights. MPS's gradient is then not the loss's. One thread an image, or a position.
kernel void cross_entropy(
    device const float* x [[buffer(0)]], device const float* soft [[buffer(1)]],
    device const int* target [[buffer(2)]], device const float* class_weight [[buffer(3)]],
    device const float* image_weight [[buffer(4)]], device float* image_loss [[buffer(5)]],
    constant LossParams& p [[buffer(6)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images)) return;
  float loss = 0.0f;
  for (int i = 0; i < p.positions; ++i) {
    const int at = int(id) * p.positions + i;
    const int label = p.soft != 0 ? 0 : target[at];
    if (p.soft == 0 && label == p.ignore) continue;
    float most = x[at * p.classes];
    for (int k = 1; k < p.classes; ++k) most = max(most, x[at * p.classes + k]);
    float sum = 0.0f;
    for (int k = 0; k < p.classes; ++k) sum += exp(x[at * p.classes + k] - most);
    const float total = most + log(sum);
    for (int k = 0; k < p.classes; ++k) {
      const float t = p.soft != 0 ? soft[at * p.classes + k] : (k == label ? 1.0f : 0.0f);
      float a = t * (1.0f - p.smoothing) + p.smoothing / float(p.classes);
      if (p.class_weighted != 0) a *= class_weight[k];
      if (a != 0.0f) loss += a * (total - x[at * p.classes + k]);
    }
  }
  image_loss[id] = p.image_weighted != 0 ? loss * image_weight[id] : loss;
}

kernel void cross_entropy_gradient(
    device const float* x [[buffer(0)]], device const float* soft [[buffer(1)]],
    device const int* target [[buffer(2)]], device const float* class_weight [[buffer(3)]],
    device const float* image_weight [[buffer(4)]], device const float* seed [[buffer(5)]],
    device const float* weights [[buffer(6)]], device float* to [[buffer(7)]],
    constant LossParams& p [[buffer(8)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.positions)) return;
  const int at = int(id), label = p.soft != 0 ? 0 : target[at];
  float factor = seed[0];
  if (p.scale == 2) factor = weights[0] == 0.0f ? 0.0f : factor / weights[0];
  if (p.image_weighted != 0) factor *= image_weight[at / p.positions];
  if (p.soft == 0 && label == p.ignore) factor = 0.0f;
  float most = x[at * p.classes];
  for (int k = 1; k < p.classes; ++k) most = max(most, x[at * p.classes + k]);
  float sum = 0.0f, coefficients = 0.0f;
  for (int k = 0; k < p.classes; ++k) {
    sum += exp(x[at * p.classes + k] - most);
    const float t = p.soft != 0 ? soft[at * p.classes + k] : (k == label ? 1.0f : 0.0f);
    const float a = t * (1.0f - p.smoothing) + p.smoothing / float(p.classes);
    coefficients += p.class_weighted != 0 ? a * class_weight[k] : a;
  }
  for (int k = 0; k < p.classes; ++k) {
    const float t = p.soft != 0 ? soft[at * p.classes + k] : (k == label ? 1.0f : 0.0f);
    float a = t * (1.0f - p.smoothing) + p.smoothing / float(p.classes);
    if (p.class_weighted != 0) a *= class_weight[k];
    const float softmax = exp(x[at * p.classes + k] - most) / sum;
    to[at * p.classes + k] = factor == 0.0f ? 0.0f : factor * (coefficients * softmax - a);
  }
}

// ---- the end of a training step: see ir::Update, whose decisions runtime::UpdateControl makes on
// the host. `gradients` is one vector of all gradients.

// Non-finite values by their bits, which no fast arithmetic can lose. One thread a partial result.
kernel void find_non_finite(device const uint* gradients [[buffer(0)]],
                            device int* found [[buffer(1)]],
                            constant PartialParams& p [[buffer(2)]],
                            uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.partials)) return;
  int bad = 0;
  for (uint i = id; i < uint(p.count); i += uint(p.partials))
    if ((gradients[i] & 0x7f800000u) == 0x7f800000u) bad = 1;
  found[id] = bad;
}

kernel void decide(device const int* found [[buffer(0)]], device const uint* losses [[buffer(1)]],
                   device const float* weights [[buffer(2)]], device int* counters [[buffer(3)]],
                   device float* loss_scale [[buffer(4)]], device float* weight_total [[buffer(5)]],
                   device UpdateControlBlock* control [[buffer(6)]],
                   constant DecideParams& p [[buffer(7)]], uint id [[thread_position_in_grid]]) {
  if (id != 0u) return;
  device UpdateControlBlock& c = control[0];
  const float scale = loss_scale[0];
  c.accepted = c.first = c.ready = c.updated = 0;
  c.scale = scale;
  c.factor = 0.0f;
  c.shrink = 1.0f;
  c.finite = 1;
  c.step = counters[0] + 1;
  c.blocked = counters[2] != 0 ? 1 : 0;
  if (c.blocked != 0) return;
  bool finite = true;
  for (int i = 0; i < p.partials; ++i) finite = finite && found[i] == 0;
  for (int i = 0; i < p.losses; ++i) finite = finite && (losses[i] & 0x7f800000u) != 0x7f800000u;
  if (!finite && p.check_finite != 0) {
    if (p.dynamic == 0 || scale <= 1.0f) {
      c.finite = 0;
      counters[2] = 1;
      return;
    }
    counters[4] = 1;
  } else {
    c.accepted = 1;
    counters[2] = 1;  // until all is written: a step that breaks off leaves it to those behind
  }
  c.first = counters[3] == 0 ? 1 : 0;
  if (c.accepted != 0 && p.has_weights != 0)
    weight_total[0] = (c.first != 0 ? 0.0f : weight_total[0]) + weights[0];
  counters[3] = counters[3] + 1;
  if (counters[3] >= p.accumulate) {
    counters[3] = 0;
    if (counters[4] == 0) {
      c.ready = 1;
    } else {
      counters[4] = counters[1] = 0;
      loss_scale[0] = max(1.0f, scale / 2.0f);
    }
  }
  c.factor = 1.0f / scale;
  if (p.accumulate < 2) return;
  const float total = p.has_weights != 0 ? weight_total[0] : 1.0f;
  c.factor = total == 0.0f ? 0.0f : 1.0f / total;
}

// Adds one item's gradient to its sum, and leaves the sum in the vector.
kernel void accumulate(device float* gradients [[buffer(0)]], device float* sums [[buffer(1)]],
                       device const UpdateControlBlock* control [[buffer(2)]],
                       constant CountParams& p [[buffer(3)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0) return;
  sums[id] = (control[0].first != 0 ? 0.0f : sums[id]) + gradients[id] / control[0].scale;
  gradients[id] = sums[id];
}

kernel void square_sums(device const float* gradients [[buffer(0)]],
                        device const UpdateControlBlock* control [[buffer(1)]],
                        device float* sums [[buffer(2)]], constant PartialParams& p [[buffer(3)]],
                        uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.partials)) return;
  float sum = 0.0f;
  for (uint i = id; i < uint(p.count); i += uint(p.partials)) {
    float g = gradients[i] * control[0].factor;
    if (p.limit >= 0.0f) g = max(-p.limit, min(p.limit, g));
    sum += g * g;
  }
  sums[id] = sum;
}

kernel void conclude(device const float* sums [[buffer(0)]], device int* counters [[buffer(1)]],
                     device float* loss_scale [[buffer(2)]],
                     device UpdateControlBlock* control [[buffer(3)]],
                     constant DecideParams& p [[buffer(4)]], uint id [[thread_position_in_grid]]) {
  if (id != 0u) return;
  device UpdateControlBlock& c = control[0];
  if (c.accepted == 0 || c.ready == 0) return;
  if (p.clip_norm >= 0.0f) {
    float sum = 0.0f;
    for (int i = 0; i < p.partials; ++i) sum += sums[i];
    c.shrink = min(1.0f, p.clip_norm / (sqrt(sum) + 1e-6f));
  }
  if (p.has_items == 0) return;
  counters[0] = counters[0] + 1;
  c.updated = 1;
  if (p.dynamic == 0) return;
  counters[1] = counters[1] + 1;
  if (counters[1] >= p.growth_interval) {
    counters[1] = 0;
    loss_scale[0] = min(p.most_scale, loss_scale[0] * 2.0f);
  }
}

// 1 - exp(x) without cancellation near 0, for x <= 0.
inline float one_minus_exp(float x) {
  if (x < -0.25f) return 1.0f - exp(x);
  return -x * (1.0f + x / 2.0f * (1.0f + x / 3.0f * (1.0f + x / 4.0f * (1.0f + x / 5.0f))));
}

inline float prepared(float gradient, float weight, float factor, float shrink, float limit,
                      float decay) {
  float g = gradient * factor;
  if (limit >= 0.0f) g = max(-limit, min(limit, g));
  return g * shrink + decay * weight;
}

kernel void apply_sgd(device const float* gradients [[buffer(0)]],
                      device float* weights [[buffer(1)]], device float* momentum [[buffer(2)]],
                      device const UpdateControlBlock* control [[buffer(3)]],
                      constant ApplyParams& p [[buffer(4)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0 || control[0].ready == 0) return;
  const float w = weights[id];
  float g = prepared(gradients[id], w, control[0].factor, control[0].shrink, p.clip_value,
                     p.weight_decay);
  if (p.momentum != 0.0f) {
    const float b = control[0].step == 1 ? g : p.momentum * momentum[id] + p.undamped * g;
    momentum[id] = b;
    g = p.nesterov != 0 ? g + p.momentum * b : b;
  }
  weights[id] = w - p.rate * g;
}

kernel void apply_adam(device const float* gradients [[buffer(0)]],
                       device float* weights [[buffer(1)]], device float* first [[buffer(2)]],
                       device float* second [[buffer(3)]],
                       device const UpdateControlBlock* control [[buffer(4)]],
                       constant ApplyParams& p [[buffer(5)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0 || control[0].ready == 0) return;
  float w = weights[id];
  const float g = prepared(gradients[id], w, control[0].factor, control[0].shrink, p.clip_value,
                           p.decoupled != 0 ? 0.0f : p.weight_decay);
  if (p.decoupled != 0) w *= 1.0f - p.rate * p.weight_decay;
  const float t = float(control[0].step);
  const float m = p.beta1 * first[id] + p.rest1 * g, v = p.beta2 * second[id] + p.rest2 * g * g;
  first[id] = m;
  second[id] = v;
  const float correct1 = one_minus_exp(t * p.log_beta1), correct2 = one_minus_exp(t * p.log_beta2);
  weights[id] = w - p.rate / correct1 * m / (sqrt(v) / sqrt(correct2) + p.epsilon);
}

kernel void apply_rmsprop(device const float* gradients [[buffer(0)]],
                          device float* weights [[buffer(1)]], device float* square [[buffer(2)]],
                          device float* momentum [[buffer(3)]], device float* mean [[buffer(4)]],
                          device const UpdateControlBlock* control [[buffer(5)]],
                          constant ApplyParams& p [[buffer(6)]],
                          uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0 || control[0].ready == 0) return;
  const float w = weights[id];
  const float g = prepared(gradients[id], w, control[0].factor, control[0].shrink, p.clip_value,
                           p.weight_decay);
  const float v = p.alpha * square[id] + p.rest_alpha * g * g;
  square[id] = v;
  float average = v;
  if (p.centered != 0) {
    const float m = p.alpha * mean[id] + p.rest_alpha * g;
    mean[id] = m;
    average -= m * m;
  }
  float change = g / (sqrt(average) + p.epsilon);
  if (p.momentum != 0.0f) {
    change += p.momentum * momentum[id];
    momentum[id] = change;
  }
  weights[id] = w - p.rate * change;
}

// What the host is to update with.
kernel void leave_gradient(device const float* gradients [[buffer(0)]],
                           device float* to [[buffer(1)]],
                           device const UpdateControlBlock* control [[buffer(2)]],
                           constant ApplyParams& p [[buffer(3)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0 || control[0].ready == 0) return;
  to[id] = prepared(gradients[id], 0.0f, control[0].factor, control[0].shrink, p.clip_value, 0.0f);
}

kernel void move_average(device const float* weights [[buffer(0)]],
                         device float* average [[buffer(1)]],
                         device const UpdateControlBlock* control [[buffer(2)]],
                         constant AverageParams& p [[buffer(3)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0 || control[0].ready == 0) return;
  average[id] = control[0].step == 1 ? weights[id] : p.keep * average[id] + p.rest * weights[id];
}

kernel void running_statistic(device float* running [[buffer(0)]],
                              device const float* batch [[buffer(1)]],
                              device const UpdateControlBlock* control [[buffer(2)]],
                              constant StatisticParams& p [[buffer(3)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0) return;
  running[id] += p.momentum * (p.factor * batch[id] - running[id]);
}

kernel void finish(device int* counters [[buffer(0)]],
                   device const UpdateControlBlock* control [[buffer(1)]],
                   constant CountParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count) && control[0].accepted != 0) counters[2] = 0;
}
