
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
  if (p.joined != 0) c.factor = 1.0f;
}

// The sum of weights of another loss than the first.
kernel void add_share_weights(device const float* weights [[buffer(0)]],
                              device float* total [[buffer(1)]],
                              device const UpdateControlBlock* control [[buffer(2)]],
                              constant CountParams& p [[buffer(3)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0) return;
  total[0] = (control[0].first != 0 ? 0.0f : total[0]) + weights[0];
}

// An item's sum over the accumulated steps by one loss, into that by all of them.
kernel void join_share(device const float* sums [[buffer(0)]],
                       device const float* total [[buffer(1)]],
                       device float* gradients [[buffer(2)]],
                       device const UpdateControlBlock* control [[buffer(3)]],
                       constant JoinParams& p [[buffer(4)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0) return;
  float v = sums[id];
  if (p.divides != 0) v = total[0] == 0.0f ? 0.0f : v / total[0];
  gradients[id] = (p.adds != 0 ? gradients[id] : 0.0f) + v;
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
  const float correct1 = -exp_minus_one(t * p.log_beta1),
              correct2 = -exp_minus_one(t * p.log_beta2);
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
                              device const float* rows [[buffer(2)]],
                              device const UpdateControlBlock* control [[buffer(3)]],
                              constant StatisticParams& p [[buffer(4)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count) || control[0].accepted == 0) return;
  float factor = p.factor;
  if (p.counted != 0 && rows[0] > 1.0f) factor = rows[0] / (rows[0] - 1.0f);
  running[id] += p.momentum * (factor * batch[id] - running[id]);
}

kernel void finish(device int* counters [[buffer(0)]],
                   device const UpdateControlBlock* control [[buffer(1)]],
                   constant CountParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count) && control[0].accepted != 0) counters[2] = 0;
}
