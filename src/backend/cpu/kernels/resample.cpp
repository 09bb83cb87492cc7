// Rows of resized and padded images, vectorised over channels. Runs of neighbouring pixels, which
// is all of a padded image but its edges, are copied at once.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

void resample(const float* low, const float* high, float part, const ResampleTap* taps, int64_t ow,
              int64_t c, float fill, float* y) {
  for (int64_t j = 0; j < ow; ++j) {
    const ResampleTap& t = taps[j];
    float* to = y + j * c;
    if (t.low < 0) {
      for (int64_t k = 0; k < c; ++k) to[k] = fill;
      continue;
    }
    const float *a = low + t.low * c, *b = low + t.high * c;
    if (part == 0.0f && t.part == 0.0f) {
      int64_t run = 1;
      while (j + run < ow && taps[j + run].low == t.low + run && taps[j + run].part == 0.0f) ++run;
      copy_rows(a, 0, 1, run * c * 4, to, 0);
      j += run - 1;
      continue;
    }
    // A tap of weight 0 is not read: it may be infinite.
    const float right = t.part, left = 1.0f - right;
    if (right == 0.0f) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) to[k] = a[k];
    } else {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) to[k] = left * a[k] + right * b[k];
    }
    if (part == 0.0f) continue;
    const float *d = high + t.low * c, *e = high + t.high * c;
    if (right == 0.0f) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) to[k] = (1.0f - part) * to[k] + part * d[k];
    } else {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k)
        to[k] = (1.0f - part) * to[k] + part * (left * d[k] + right * e[k]);
    }
  }
}

void resample_gradient(const float* gy, const ResampleTap* taps, int64_t ow, int64_t c, float part,
                       float* low, float* high) {
  const auto add = [c](const float* from, float weight, float* to) {
    if (weight == 0.0f) return;
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) to[k] += weight * from[k];
  };
  for (int64_t j = 0; j < ow; ++j) {
    const ResampleTap& t = taps[j];
    if (t.low < 0) continue;
    const float* from = gy + j * c;
    add(from, (1.0f - part) * (1.0f - t.part), low + t.low * c);
    add(from, (1.0f - part) * t.part, low + t.high * c);
    add(from, part * (1.0f - t.part), high + t.low * c);
    add(from, part * t.part, high + t.high * c);
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
