
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
