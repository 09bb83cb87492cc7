
// ---- recurrent layers (ir/rnn.h), one step: all arrays of a step are (images, hidden) or
// (images, gates * hidden). Products have been added to `gates` already, biases not.

inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp(-x)); }

// Cells whose last gate sees the gated state: the gate, and gate times h.
kernel void rnn_gate_state(device float* gates [[buffer(0)]],
                           device const float* bias [[buffer(1)]],
                           device const float* h [[buffer(2)]], device float* gated [[buffer(3)]],
                           constant RnnParams& p [[buffer(4)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.hidden)) return;
  const int b = int(id) / p.hidden, j = int(id) % p.hidden, at = b * p.gates * p.hidden + j;
  const float gate = sigmoid_of(gates[at] + (p.biased != 0 ? bias[j] : 0.0f));
  gates[at] = gate;
  gated[id] = gate * h[id];
}

kernel void rnn_cell(device float* gates [[buffer(0)]], device const float* bias [[buffer(1)]],
                     device const float* bias_hn [[buffer(2)]],
                     device const float* peephole [[buffer(3)]],
                     device const int* lengths [[buffer(4)]], device const float* h [[buffer(5)]],
                     device const float* c [[buffer(6)]], device float* product [[buffer(7)]],
                     device float* next_h [[buffer(8)]], device float* next_c [[buffer(9)]],
                     device float* y [[buffer(10)]], constant RnnParams& p [[buffer(11)]],
                     uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.hidden)) return;
  const int b = int(id) / p.hidden, j = int(id) % p.hidden, n = p.hidden;
  const int at = b * p.gates * n + j, out = (b * p.steps + p.time) * n + j;
  if (p.limited != 0 && p.time >= lengths[b]) {
    next_h[id] = h[id];
    if (p.cell == kCellLstm) next_c[id] = c[id];
    y[out] = 0.0f;
    return;
  }
  float pre[4];
  for (int g = 0; g < p.gates; ++g)
    pre[g] = gates[at + g * n] + (p.biased != 0 ? bias[g * n + j] : 0.0f);
  float made = 0.0f;
  if (p.cell == kCellLstm) {
    if (p.peepholes != 0) {
      pre[0] += peephole[j] * c[id];
      pre[1] += peephole[n + j] * c[id];
    }
    const float i = sigmoid_of(pre[0]), f = sigmoid_of(pre[1]), g = tanh(pre[2]);
    const float cell = f * c[id] + i * g;
    if (p.peepholes != 0) pre[3] += peephole[2 * n + j] * cell;
    const float o = sigmoid_of(pre[3]);
    gates[at] = i;
    gates[at + n] = f;
    gates[at + 2 * n] = g;
    gates[at + 3 * n] = o;
    next_c[id] = cell;
    made = o * tanh(cell);
  } else if (p.cell == kCellGru) {
    const float r = sigmoid_of(pre[0]), z = sigmoid_of(pre[1]);
    const float hn = product[id] + (p.biased_hn != 0 ? bias_hn[j] : 0.0f);
    const float candidate = tanh(pre[2] + r * hn);
    product[id] = hn;
    gates[at] = r;
    gates[at + n] = z;
    gates[at + 2 * n] = candidate;
    made = (1.0f - z) * candidate + z * h[id];
  } else if (p.cell == kCellGruResetBefore) {  // the first gate is done already
    const float z = sigmoid_of(pre[1]), candidate = tanh(pre[2]);
    gates[at + n] = z;
    gates[at + 2 * n] = candidate;
    made = (1.0f - z) * candidate + z * h[id];
  } else if (p.cell == kCellMgu) {
    const float f = gates[at], candidate = tanh(pre[1]);
    gates[at + n] = candidate;
    made = (1.0f - f) * h[id] + f * candidate;
  } else {
    made = neuron_value(p.neuron, 1.0f, 1.0f, 0.0f, pre[0]);
    gates[at] = made;
  }
  next_h[id] = made;
  y[out] = made;
}

// From the gradients by the state behind a step to those by its gates; those by the state before it
// lack what goes through the products.
kernel void rnn_cell_gradient(
    device const float* gates [[buffer(0)]], device const float* peephole [[buffer(1)]],
    device const int* lengths [[buffer(2)]], device const float* h [[buffer(3)]],
    device const float* c [[buffer(4)]], device const float* next_c [[buffer(5)]],
    device const float* product [[buffer(6)]], device const float* gradient [[buffer(7)]],
    device float* delta [[buffer(8)]], device float* delta_hn [[buffer(9)]],
    device float* gh [[buffer(10)]], device float* gc [[buffer(11)]],
    constant RnnParams& p [[buffer(12)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.hidden)) return;
  const int b = int(id) / p.hidden, j = int(id) % p.hidden, n = p.hidden;
  const int at = b * p.gates * n + j;
  if (p.limited != 0 && p.time >= lengths[b]) {
    for (int g = 0; g < p.gates; ++g) delta[at + g * n] = 0.0f;
    if (p.cell == kCellGru) delta_hn[id] = 0.0f;
    return;
  }
  float by_h = gh[id];
  if (p.given != 0) by_h += gradient[(b * p.steps + p.time) * n + j];
  float keep = 0.0f;
  if (p.cell == kCellLstm) {
    const float i = gates[at], f = gates[at + n], g = gates[at + 2 * n], o = gates[at + 3 * n];
    const float t = tanh(next_c[id]);
    const float by_o = by_h * t * o * (1.0f - o);
    float by_c = gc[id] + by_h * o * (1.0f - t * t);
    if (p.peepholes != 0) by_c += by_o * peephole[2 * n + j];
    const float by_i = by_c * g * i * (1.0f - i), by_f = by_c * c[id] * f * (1.0f - f);
    delta[at] = by_i;
    delta[at + n] = by_f;
    delta[at + 2 * n] = by_c * i * (1.0f - g * g);
    delta[at + 3 * n] = by_o;
    float before = by_c * f;
    if (p.peepholes != 0) before += by_i * peephole[j] + by_f * peephole[n + j];
    gc[id] = before;
  } else if (p.cell == kCellGru) {
    const float r = gates[at], z = gates[at + n], candidate = gates[at + 2 * n];
    const float by_n = by_h * (1.0f - z) * (1.0f - candidate * candidate);
    delta[at] = by_n * product[id] * r * (1.0f - r);
    delta[at + n] = by_h * (h[id] - candidate) * z * (1.0f - z);
    delta[at + 2 * n] = by_n;
    delta_hn[id] = by_n * r;
    keep = z;
  } else if (p.cell == kCellGruResetBefore) {
    const float z = gates[at + n], candidate = gates[at + 2 * n];
    delta[at + n] = by_h * (h[id] - candidate) * z * (1.0f - z);
    delta[at + 2 * n] = by_h * (1.0f - z) * (1.0f - candidate * candidate);
    keep = z;
  } else if (p.cell == kCellMgu) {
    const float f = gates[at], candidate = gates[at + n];
    delta[at] = by_h * (candidate - h[id]) * f * (1.0f - f);
    delta[at + n] = by_h * f * (1.0f - candidate * candidate);
    keep = 1.0f - f;
  } else {
    delta[at] = by_h * slope_from_output(p.neuron, 1.0f, 1.0f, 0.0f, gates[at]);
  }
  gh[id] = by_h * keep;
}

// Through the gated state, given the gradient by it.
kernel void rnn_gate_state_gradient(
    device const float* gates [[buffer(0)]], device const int* lengths [[buffer(1)]],
    device const float* h [[buffer(2)]], device const float* by_gated [[buffer(3)]],
    device float* delta [[buffer(4)]], device float* gh [[buffer(5)]],
    constant RnnParams& p [[buffer(6)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.images * p.hidden)) return;
  const int b = int(id) / p.hidden, j = int(id) % p.hidden, at = b * p.gates * p.hidden + j;
  if (p.limited != 0 && p.time >= lengths[b]) return;
  const float gate = gates[at], own = by_gated[id] * h[id] * gate * (1.0f - gate);
  delta[at] = p.cell == kCellMgu ? delta[at] + own : own;
  gh[id] += by_gated[id] * gate;
}

// Of all steps: each (step, image)'s part of the gradient by the peephole weights (3, hidden).
kernel void rnn_peephole_parts(device const float* delta [[buffer(0)]],
                               device const float* c [[buffer(1)]],
                               device float* parts [[buffer(2)]],
                               constant RnnParams& p [[buffer(3)]],
                               uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.steps * p.images * p.hidden)) return;
  const int row = int(id) / p.hidden, j = int(id) % p.hidden, n = p.hidden;
  const int at = row * 4 * n + j, to = row * 3 * n + j;
  parts[to] = delta[at] * c[id];
  parts[to + n] = delta[at + n] * c[id];
  parts[to + 2 * n] = delta[at + 3 * n] * c[int(id) + p.images * n];
}

// ---- embedding

kernel void embed(device const int* indices [[buffer(0)]], device const float* weight [[buffer(1)]],
                  device float* y [[buffer(2)]], constant EmbeddingParams& p [[buffer(3)]],
                  uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count * p.size)) return;
  const int row = indices[int(id) / p.size];
  y[id] = row >= 0 && row < p.rows ? weight[row * p.size + int(id) % p.size] : 0.0f;
}

// Places with one index are a list: the first of them, and the next behind each.
kernel void embedding_links(device const int* indices [[buffer(0)]],
                            device int* first [[buffer(1)]], device int* next [[buffer(2)]],
                            constant EmbeddingParams& p [[buffer(3)]],
                            uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int own = indices[id];
  bool begins = own >= 0 && own < p.rows && own != p.padding;
  for (int i = 0; begins && i < int(id); ++i) begins = indices[i] != own;
  int after = int(id) + 1;
  while (after < p.count && indices[after] != own) ++after;
  first[id] = begins ? 1 : 0;
  next[id] = after;
}

kernel void embedding_gradient(device const int* indices [[buffer(0)]],
                               device const int* first [[buffer(1)]],
                               device const int* next [[buffer(2)]],
                               device const float* gradient [[buffer(3)]],
                               device float* to [[buffer(4)]],
                               constant EmbeddingParams& p [[buffer(5)]],
                               uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count * p.size)) return;
  const int begin = int(id) / p.size, k = int(id) % p.size;
  if (first[begin] == 0) return;
  float sum = 0.0f;
  for (int i = begin; i < p.count; i = next[i]) sum += gradient[i * p.size + k];
  to[indices[begin] * p.size + k] = sum;
}
