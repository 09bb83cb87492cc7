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

// ---- strided arrays: axes that are repeated, permuted or cut

inline int place_in_a(constant StridedParams& p, int i) {
  int at = p.a_offset;
  for (int axis = p.rank - 1; axis >= 0; --axis) {
    at += i % p.size[axis] * p.a[axis];
    i /= p.size[axis];
  }
  return at;
}

inline int place_in_b(constant StridedParams& p, int i) {
  int at = p.b_offset;
  for (int axis = p.rank - 1; axis >= 0; --axis) {
    at += i % p.size[axis] * p.b[axis];
    i /= p.size[axis];
  }
  return at;
}

kernel void fill_array(device float* to [[buffer(0)]], constant ScaleParams& p [[buffer(1)]],
                       uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = p.factor;
}

kernel void move_elements(device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
                          constant StridedParams& p [[buffer(2)]],
                          uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[place_in_b(p, int(id))] = from[place_in_a(p, int(id))];
}

// to = factor * from, repeated.
kernel void expand_array(device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
                         constant StridedParams& p [[buffer(2)]],
                         uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = p.factor * from[place_in_a(p, int(id))];
}

kernel void combine(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]],
                    device float* to [[buffer(2)]], constant StridedParams& p [[buffer(3)]],
                    uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float x = a[place_in_a(p, int(id))], z = b[place_in_b(p, int(id))];
  float y = x + z;
  if (p.kind == kBinarySubtract) y = x - z;
  if (p.kind == kBinaryMultiply) y = x * z;
  if (p.kind == kBinaryDivide) y = x / z;
  to[id] = y;
}

// Every element's part of the gradient by the first operand, or (`second`) by the other.
kernel void combine_gradient(device const float* a [[buffer(0)]],
                             device const float* b [[buffer(1)]],
                             device const float* gradient [[buffer(2)]],
                             device float* to [[buffer(3)]],
                             constant StridedParams& p [[buffer(4)]],
                             uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float g = gradient[id];
  float part = g;
  if (p.kind == kBinarySubtract) part = p.second != 0 ? -g : g;
  if (p.kind == kBinaryMultiply)
    part = g * (p.second != 0 ? a[place_in_a(p, int(id))] : b[place_in_b(p, int(id))]);
  if (p.kind == kBinaryDivide) {
    const float divisor = b[place_in_b(p, int(id))];
    part = g / divisor;
    if (p.second != 0) part = -a[place_in_a(p, int(id))] * part / divisor;
  }
  to[id] = part;
}

// Sums or extremes over the axes from `outer` on; `parts` threads a result, whose results a second
// run of the same kernel brings together.
kernel void reduce_axes(device const float* from [[buffer(0)]], device float* to [[buffer(1)]],
                        constant ReduceParams& p [[buffer(2)]],
                        uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count * p.parts)) return;
  int start = 0, rest = int(id) / p.parts;
  for (int axis = p.outer - 1; axis >= 0; --axis) {
    start += rest % p.size[axis] * p.stride[axis];
    rest /= p.size[axis];
  }
  float value = 0.0f;
  for (int i = int(id) % p.parts; i < p.inner; i += p.parts) {
    int at = start, within = i;
    for (int axis = p.rank - 1; axis >= p.outer; --axis) {
      at += within % p.size[axis] * p.stride[axis];
      within /= p.size[axis];
    }
    const float v = from[at];
    if (p.kind == kReduceSum)
      value += v;
    else if (i < p.parts || (p.kind == kReduceMax ? v > value : v < value) || v != v)
      value = v;
  }
  to[id] = p.factor * value;
}

kernel void find_equal(device const float* x [[buffer(0)]], device const float* y [[buffer(1)]],
                       device float* to [[buffer(2)]], constant StridedParams& p [[buffer(3)]],
                       uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = x[id] == y[place_in_b(p, int(id))] ? 1.0f : 0.0f;
}

// The gradient of an extreme: shared by the elements that tie.
kernel void share_gradient(device const float* wins [[buffer(0)]],
                           device const float* ties [[buffer(1)]],
                           device const float* gradient [[buffer(2)]],
                           device float* to [[buffer(3)]], constant StridedParams& p [[buffer(4)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int result = place_in_b(p, int(id));
  to[id] = wins[id] * (gradient[result] / ties[result]);
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

// ---- neurons (ir/neuron.h) that MPS lacks, and gradients: from the output where that is enough

// exp(x) - 1 without cancellation near 0.
inline float exp_minus_one(float x) {
  if (fabs(x) > 0.25f) return exp(x) - 1.0f;
  return x * (1.0f + x / 2.0f * (1.0f + x / 3.0f * (1.0f + x / 4.0f * (1.0f + x / 5.0f))));
}

inline float gelu_inner(float x) { return 0.7978845608f * (x + 0.044715f * x * x * x); }

inline float neuron_value(int kind, float a, float b, float c, float x) {
  if (kind == kNeuronRelu) return x < 0.0f ? 0.0f : x;
  if (kind == kNeuronLeakyRelu) return x > 0.0f ? x : a * x;
  if (kind == kNeuronSigmoid) return 1.0f / (1.0f + exp(-x));
  if (kind == kNeuronTanh) return a * tanh(b * x);
  if (kind == kNeuronLinear) return a * x + b;
  if (kind == kNeuronElu) return b * (x > 0.0f ? x : a * exp_minus_one(c * x));
  if (kind == kNeuronExponential) return exp((c == -1.0f ? 1.0f : log(c)) * (a * x + b));
  if (kind == kNeuronGeluTanh) return 0.5f * x * (1.0f + tanh(gelu_inner(x)));
  if (kind == kNeuronHardSwish) return x <= -3.0f ? 0.0f : x >= 3.0f ? x : x * (x / 6.0f + 0.5f);
  return x;
}

inline float slope_from_output(int kind, float a, float b, float c, float y) {
  if (kind == kNeuronRelu) return y > 0.0f ? 1.0f : 0.0f;
  if (kind == kNeuronLeakyRelu) return y > 0.0f ? 1.0f : a;
  if (kind == kNeuronSigmoid) return y * (1.0f - y);
  if (kind == kNeuronTanh) return b * (a - y * y / a);
  if (kind == kNeuronLinear) return a;
  if (kind == kNeuronElu) return y > 0.0f ? b : c * (y + a * b);
  if (kind == kNeuronExponential) return a * (c == -1.0f ? 1.0f : log(c)) * y;
  if (kind == kNeuronRelun) return y > 0.0f ? (y < b ? 1.0f : 0.0f) : a;
  return 1.0f;
}

inline float slope_from_input(int kind, float a, float b, float c, float x) {
  if (kind == kNeuronElu) return x > 0.0f ? b : a * b * c * exp(c * x);
  if (kind == kNeuronRelun) return x > 0.0f ? (x < b ? 1.0f : 0.0f) : (a * x < b ? a : 0.0f);
  if (kind == kNeuronGeluTanh) {
    const float t = tanh(gelu_inner(x));
    return 0.5f * (1.0f + t) +
           0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 0.134145f * x * x);
  }
  if (kind == kNeuronHardSwish) return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x / 3.0f + 0.5f;
  return 1.0f;
}

kernel void neuron(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                   constant NeuronParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) y[id] = neuron_value(p.kind, p.a, p.b, p.c, x[id]);
}

kernel void neuron_gradient(device const float* x [[buffer(0)]],
                            device const float* gradient [[buffer(1)]],
                            device float* to [[buffer(2)]], constant NeuronParams& p [[buffer(3)]],
                            uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = gradient[id] * slope_from_input(p.kind, p.a, p.b, p.c, x[id]);
}

kernel void neuron_gradient_of_output(device const float* y [[buffer(0)]],
                                      device const float* gradient [[buffer(1)]],
                                      device float* to [[buffer(2)]],
                                      constant NeuronParams& p [[buffer(3)]],
                                      uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = gradient[id] * slope_from_output(p.kind, p.a, p.b, p.c, y[id]);
}

kernel void prelu(device const float* x [[buffer(0)]], device const float* slopes [[buffer(1)]],
                  device float* y [[buffer(2)]], constant MeanParams& p [[buffer(3)]],
                  uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) y[id] = x[id] > 0.0f ? x[id] : slopes[int(id) % p.size] * x[id];
}

// By x, and each element's part of that by its slope.
kernel void prelu_gradient(device const float* x [[buffer(0)]],
                           device const float* slopes [[buffer(1)]],
                           device const float* gradient [[buffer(2)]],
                           device float* to [[buffer(3)]], device float* parts [[buffer(4)]],
                           constant MeanParams& p [[buffer(5)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const bool passes = x[id] > 0.0f;
  to[id] = passes ? gradient[id] : slopes[int(id) % p.size] * gradient[id];
  parts[id] = passes ? 0.0f : x[id] * gradient[id];
}

// ---- max pooling with dilation and padding together, where clamping would add pixels to a window

kernel void max_pool(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                     device int* winner [[buffer(2)]], constant WindowParams& p [[buffer(3)]],
                     uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.n * p.oh * p.ow * p.c)) return;
  const int i = int(id);
  const int c = i % p.c, q = i / p.c % p.ow, r = i / p.c / p.ow % p.oh, n = i / p.c / p.ow / p.oh;
  int best = -1;
  float most = -INFINITY;  // of padding alone
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
  y[i] = neuron_value(p.neuron, p.neuron_a, p.neuron_b, p.neuron_c, most);
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

kernel void l2_pool_gradient(device const float* x [[buffer(0)]],
                             device const float* norms [[buffer(1)]],
                             device const float* gradient [[buffer(2)]],
                             device float* to [[buffer(3)]], constant WindowParams& p [[buffer(4)]],
                             uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.n * p.h * p.w * p.c)) return;
  const int i = int(id);
  const int c = i % p.c, column = i / p.c % p.w, row = i / p.c / p.w % p.h, n = i / p.c / p.w / p.h;
  float sum = 0.0f;
  for (int ky = 0; ky < p.kh; ++ky)
    for (int kx = 0; kx < p.kw; ++kx) {
      const int top = row + p.top - ky, left = column + p.left - kx;
      if (top < 0 || left < 0 || top % p.sh != 0 || left % p.sw != 0) continue;
      const int r = top / p.sh, q = left / p.sw;
      if (r >= p.oh || q >= p.ow) continue;
      const int at = ((n * p.oh + r) * p.ow + q) * p.c + c;
      if (norms[at] != 0.0f) sum += gradient[at] / norms[at];
    }
  to[i] = x[i] * sum;
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
