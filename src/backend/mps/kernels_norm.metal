
// ---- resize2d and pad2d, by tables of what each row and column is made of

kernel void resample(device const float* from [[buffer(0)]],
                     device const int* row_starts [[buffer(1)]],
                     device const ResampleTap* rows [[buffer(2)]],
                     device const int* column_starts [[buffer(3)]],
                     device const ResampleTap* columns [[buffer(4)]],
                     device float* to [[buffer(5)]], constant ResampleParams& p [[buffer(6)]],
                     uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int i = int(id);
  const int c = i % p.c, column = i / p.c % p.w, row = i / p.c / p.w % p.h, n = i / p.c / p.w / p.h;
  const int first_row = row_starts[row], rows_end = row_starts[row + 1];
  const int first_column = column_starts[column], columns_end = column_starts[column + 1];
  float sum = 0.0f;
  for (int r = first_row; r < rows_end; ++r)
    for (int q = first_column; q < columns_end; ++q)
      sum += rows[r].weight * columns[q].weight *
             from[((n * p.from_h + rows[r].index) * p.from_w + columns[q].index) * p.c + c];
  to[i] = first_row == rows_end || first_column == columns_end ? p.fill : sum;
}

// ---- group_norm and layer_norm: sets of values that are normalised together. `place` of an
// element is its set, then its channel; channels share a weight and a bias.

kernel void centred_squares(device const float* x [[buffer(0)]],
                            device const float* means [[buffer(1)]], device float* to [[buffer(2)]],
                            constant StridedParams& p [[buffer(3)]],
                            uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float d = x[id] - means[place_in_a(p, int(id))];
  to[id] = d * d;
}

kernel void inverse_deviations(device float* variances [[buffer(0)]],
                               constant ScaleParams& p [[buffer(1)]],
                               uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) variances[id] = 1.0f / sqrt(variances[id] + p.factor);
}

kernel void normalize_sets(device const float* x [[buffer(0)]],
                           device const float* means [[buffer(1)]],
                           device const float* inverses [[buffer(2)]],
                           device const float* weights [[buffer(3)]],
                           device const float* biases [[buffer(4)]], device float* y [[buffer(5)]],
                           constant SetParams& p [[buffer(6)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.place.count)) return;
  const int set = place_in_a(p.place, int(id)), channel = place_in_b(p.place, int(id));
  float v = (x[id] - means[set]) * inverses[set];
  if (p.weighted != 0) v *= weights[channel];
  if (p.biased != 0) v += biases[channel];
  y[id] = v;
}

// An element's parts of the gradients: by the normalised value and times it, for the set; by the
// weight, for the channel.
kernel void set_gradient_parts(
    device const float* x [[buffer(0)]], device const float* gradient [[buffer(1)]],
    device const float* means [[buffer(2)]], device const float* inverses [[buffer(3)]],
    device const float* weights [[buffer(4)]], device float* inner [[buffer(5)]],
    device float* dots [[buffer(6)]], device float* by_weight [[buffer(7)]],
    constant SetParams& p [[buffer(8)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.place.count)) return;
  const int set = place_in_a(p.place, int(id)), channel = place_in_b(p.place, int(id));
  const float normal = (x[id] - means[set]) * inverses[set];
  const float g = p.weighted != 0 ? gradient[id] * weights[channel] : gradient[id];
  inner[id] = g;
  dots[id] = g * normal;
  by_weight[id] = gradient[id] * normal;
}

// `sums` and `dots` are means over the set.
kernel void set_gradient(device const float* x [[buffer(0)]],
                         device const float* inner [[buffer(1)]],
                         device const float* means [[buffer(2)]],
                         device const float* inverses [[buffer(3)]],
                         device const float* sums [[buffer(4)]],
                         device const float* dots [[buffer(5)]], device float* to [[buffer(6)]],
                         constant StridedParams& p [[buffer(7)]],
                         uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int set = place_in_a(p, int(id));
  const float inverse = inverses[set], normal = (x[id] - means[set]) * inverse;
  to[id] = inverse * (inner[id] - sums[set] - normal * dots[set]);
}

// ---- normalisation by windows: `before` to the front of an element and `after` to the back, over
// channels or over rows and columns; beyond the image there are zeros, and the divisor stays.

// For each element a, the sums over its window of `first` and of `second`.
kernel void window_sums(device const float* first [[buffer(0)]],
                        device const float* second [[buffer(1)]],
                        device float* first_sums [[buffer(2)]],
                        device float* second_sums [[buffer(3)]],
                        constant LocalParams& p [[buffer(4)]],
                        uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int i = int(id), c = i % p.c;
  float a = 0.0f, b = 0.0f;
  if (p.space == 0) {
    for (int q = max(0, c - p.before); q <= min(p.c - 1, c + p.after); ++q) {
      a += first[i - c + q];
      b += second[i - c + q];
    }
  } else {
    const int column = i / p.c % p.w, row = i / p.c / p.w % p.h, image = i / p.c / p.w / p.h;
    for (int r = max(0, row - p.before); r <= min(p.h - 1, row + p.after); ++r)
      for (int q = max(0, column - p.before); q <= min(p.w - 1, column + p.after); ++q) {
        const int at = ((image * p.h + r) * p.w + q) * p.c + c;
        a += first[at];
        b += second[at];
      }
  }
  first_sums[i] = a;
  second_sums[i] = b;
}

kernel void squares(device const float* x [[buffer(0)]], device float* to [[buffer(1)]],
                    constant CountParams& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id < uint(p.count)) to[id] = x[id] * x[id];
}

kernel void response_norm(device const float* x [[buffer(0)]],
                          device const float* sums [[buffer(1)]], device float* y [[buffer(2)]],
                          constant LocalParams& p [[buffer(3)]],
                          uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  y[id] = x[id] * pow(p.delta + p.alpha * sums[id] / p.divisor, -p.beta);
}

// What an element passes on directly, and what it gives to each of its window.
kernel void response_gradient_parts(device const float* x [[buffer(0)]],
                                    device const float* sums [[buffer(1)]],
                                    device const float* gradient [[buffer(2)]],
                                    device float* direct [[buffer(3)]],
                                    device float* spread [[buffer(4)]],
                                    constant LocalParams& p [[buffer(5)]],
                                    uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float scale = p.delta + p.alpha * sums[id] / p.divisor;
  direct[id] = gradient[id] * pow(scale, -p.beta);
  spread[id] = direct[id] * x[id] / scale;
}

kernel void response_gradient(device const float* x [[buffer(0)]],
                              device const float* direct [[buffer(1)]],
                              device const float* sums [[buffer(2)]],
                              device float* to [[buffer(3)]], constant LocalParams& p [[buffer(4)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  to[id] = direct[id] - 2.0f * p.alpha * p.beta / p.divisor * x[id] * sums[id];
}

// In place of the sums the means; and delta + alpha variance, from differences to the mean, as
// nothing would be left of a difference of sums where an image hardly varies.
kernel void contrast_statistics(device const float* x [[buffer(0)]],
                                device float* sums [[buffer(1)]],
                                device float* scales [[buffer(2)]],
                                constant LocalParams& p [[buffer(3)]],
                                uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const int i = int(id), c = i % p.c;
  const int column = i / p.c % p.w, row = i / p.c / p.w % p.h, image = i / p.c / p.w / p.h;
  const float mean = sums[i] / p.divisor;
  float sum = 0.0f, inside = 0.0f;
  for (int r = max(0, row - p.before); r <= min(p.h - 1, row + p.after); ++r)
    for (int q = max(0, column - p.before); q <= min(p.w - 1, column + p.after); ++q) {
      const float d = x[((image * p.h + r) * p.w + q) * p.c + c] - mean;
      sum += d * d;
      inside += 1.0f;
    }
  sums[i] = mean;
  scales[i] = p.delta + p.alpha * (sum + (p.divisor - inside) * mean * mean) / p.divisor;
}

kernel void contrast_norm(device const float* x [[buffer(0)]],
                          device const float* means [[buffer(1)]],
                          device const float* scales [[buffer(2)]], device float* y [[buffer(3)]],
                          constant LocalParams& p [[buffer(4)]],
                          uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  y[id] = p.pm + p.ps * (x[id] - p.p0 * means[id]) * pow(scales[id], -p.beta);
}

// What an element gives to each of its window: a constant part, and one times the other's value.
kernel void contrast_gradient_parts(
    device const float* x [[buffer(0)]], device const float* means [[buffer(1)]],
    device const float* scales [[buffer(2)]], device const float* gradient [[buffer(3)]],
    device float* direct [[buffer(4)]], device float* constants [[buffer(5)]],
    device float* slopes [[buffer(6)]], constant LocalParams& p [[buffer(7)]],
    uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  const float passed = p.ps * gradient[id] * pow(scales[id], -p.beta);
  const float through = -2.0f * p.beta * p.alpha * passed * (x[id] - p.p0 * means[id]) / scales[id];
  direct[id] = passed;
  constants[id] = -p.p0 * passed - through * means[id];
  slopes[id] = through;
}

kernel void contrast_gradient(device const float* x [[buffer(0)]],
                              device const float* direct [[buffer(1)]],
                              device const float* constants [[buffer(2)]],
                              device const float* slopes [[buffer(3)]],
                              device float* to [[buffer(4)]], constant LocalParams& p [[buffer(5)]],
                              uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.count)) return;
  to[id] = direct[id] + (constants[id] + slopes[id] * x[id]) / p.divisor;
}

// ---- batch_norm where rows past an image's length are padding: they give zeros, and do not count

bool row_counts(constant MaskedNormParams& p, device const int* lengths, int row) {
  return row % p.width < lengths[row / (p.rows / p.images)];
}

kernel void count_rows(device const int* lengths [[buffer(0)]], device float* number [[buffer(1)]],
                       constant MaskedNormParams& p [[buffer(2)]],
                       uint id [[thread_position_in_grid]]) {
  if (id > 0) return;
  int columns = 0;
  for (int n = 0; n < p.images; ++n) columns += min(max(lengths[n], 0), p.width);
  number[0] = float(columns * (p.rows / p.images / p.width));
}

kernel void divide_by_rows(device const float* number [[buffer(0)]],
                           device float* values [[buffer(1)]],
                           constant MaskedNormParams& p [[buffer(2)]],
                           uint id [[thread_position_in_grid]]) {
  if (id < uint(p.channels)) values[id] /= max(number[0], 1.0f);
}

kernel void masked_values(device const float* x [[buffer(0)]],
                          device const int* lengths [[buffer(1)]], device float* to [[buffer(2)]],
                          constant MaskedNormParams& p [[buffer(3)]],
                          uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  to[id] = row_counts(p, lengths, int(id) / p.channels) ? x[id] : 0.0f;
}

kernel void masked_squares(device const float* x [[buffer(0)]],
                           device const int* lengths [[buffer(1)]],
                           device const float* mean [[buffer(2)]], device float* to [[buffer(3)]],
                           constant MaskedNormParams& p [[buffer(4)]],
                           uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  const float d = x[id] - mean[int(id) % p.channels];
  to[id] = row_counts(p, lengths, int(id) / p.channels) ? d * d : 0.0f;
}

kernel void masked_norm(device const float* x [[buffer(0)]],
                        device const int* lengths [[buffer(1)]],
                        device const float* mean [[buffer(2)]],
                        device const float* variance [[buffer(3)]],
                        device const float* weight [[buffer(4)]],
                        device const float* bias [[buffer(5)]], device float* y [[buffer(6)]],
                        constant MaskedNormParams& p [[buffer(7)]],
                        uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  const int c = int(id) % p.channels;
  const float v = (x[id] - mean[c]) * (weight[c] / sqrt(variance[c] + p.epsilon)) + bias[c];
  y[id] = row_counts(p, lengths, int(id) / p.channels) ? v : 0.0f;
}

// What an element gives to the gradients of its channel's bias and weight.
kernel void masked_gradient_terms(
    device const float* x [[buffer(0)]], device const float* gradient [[buffer(1)]],
    device const int* lengths [[buffer(2)]], device const float* mean [[buffer(3)]],
    device const float* variance [[buffer(4)]], device float* counted [[buffer(5)]],
    device float* dots [[buffer(6)]], constant MaskedNormParams& p [[buffer(7)]],
    uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  const int c = int(id) % p.channels;
  const float g = row_counts(p, lengths, int(id) / p.channels) ? gradient[id] : 0.0f;
  const float normal = (x[id] - mean[c]) / sqrt(variance[c] + p.epsilon);
  counted[id] = g;
  dots[id] = row_counts(p, lengths, int(id) / p.channels) ? g * normal : 0.0f;
}

kernel void masked_norm_gradient(
    device const float* x [[buffer(0)]], device const float* gradient [[buffer(1)]],
    device const int* lengths [[buffer(2)]], device const float* mean [[buffer(3)]],
    device const float* variance [[buffer(4)]], device const float* weight [[buffer(5)]],
    device const float* sums [[buffer(6)]], device const float* dots [[buffer(7)]],
    device const float* number [[buffer(8)]], device float* to [[buffer(9)]],
    constant MaskedNormParams& p [[buffer(10)]], uint id [[thread_position_in_grid]]) {
  if (id >= uint(p.rows * p.channels)) return;
  const int c = int(id) % p.channels;
  const float inverse = 1.0f / sqrt(variance[c] + p.epsilon), n = max(number[0], 1.0f);
  float g = gradient[id];
  if (p.training != 0) g -= sums[c] / n + (x[id] - mean[c]) * inverse * dots[c] / n;
  to[id] = row_counts(p, lengths, int(id) / p.channels) ? g * weight[c] * inverse : 0.0f;
}
