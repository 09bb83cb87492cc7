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
    const float right = t.part, left = 1.0f - right, down = part, up = 1.0f - part;
    const float *d = high + t.low * c, *e = high + t.high * c;
    if (right == 0.0f && down == 0.0f) {
      for (int64_t k = 0; k < c; ++k) to[k] = a[k];
    } else if (down == 0.0f) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) to[k] = left * a[k] + right * b[k];
    } else if (right == 0.0f) {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k) to[k] = up * a[k] + down * d[k];
    } else {
#pragma GCC ivdep
      for (int64_t k = 0; k < c; ++k)
        to[k] = up * (left * a[k] + right * b[k]) + down * (left * d[k] + right * e[k]);
    }
  }
}

namespace {

// Some channels, from k on, of a source's pixel: `many` output pixels give it their gradients,
// which go to two rows, or to those that are there. Of one output pixel the n channels may be those
// of its neighbours, too.
template <int kVecs, bool kLow, bool kHigh>
int64_t gather(const float* gy, const ResampleTerm* terms, int64_t many, int64_t k, int64_t n,
               int64_t c, float by_low, float* low, float by_high, float* high) {
  for (; k + kVecs * kLanes <= n; k += kVecs * kLanes) {
    Vec sum[kVecs] = {};
    for (int64_t i = 0; i < many; ++i) {
      const float* from = gy + terms[i].from * c + k;
      const float weight = terms[i].weight;
      for (int v = 0; v < kVecs; ++v) sum[v] += load(from + v * kLanes) * weight;
    }
    for (int v = 0; v < kVecs; ++v) {
      const int64_t at = k + v * kLanes;
      if (kLow) store(low + at, load(low + at) + sum[v] * by_low);
      if (kHigh) store(high + at, load(high + at) + sum[v] * by_high);
    }
  }
  return k;
}

// The row that lies `ahead` is brought near meanwhile: reads from several pixels at once are not
// foreseen.
template <bool kLow, bool kHigh>
void gather_row(const float* gy, const ResampleTerm* terms, const int64_t* ends, int64_t w,
                int64_t c, float by_low, float* low, float by_high, float* high, int64_t ahead) {
  constexpr int64_t kLine = 64 / sizeof(float), kRun = 256;
  for (int64_t q = 0, begin = 0, run = 1; q < w; begin = ends[q + run - 1], q += run) {
    const int64_t many = ends[q] - begin;
    const ResampleTerm* own = terms + begin;
    run = 1;
    const auto goes_on = [&] {  // as in a padded image but for its edges
      return (run + 1) * c <= kRun && q + run < w && ends[q + run] == begin + run + 1 &&
             own[run].weight == own->weight && own[run].from == own->from + run;
    };
    while (many == 1 && goes_on()) ++run;
    const int64_t n = run * c;
    float *to_low = low + q * c, *to_high = high + q * c;
    if (many == 0) continue;
    const int64_t last = own[many - 1].from * c + n;
    for (int64_t i = own[0].from * c; i < last; i += kLine) __builtin_prefetch(gy + ahead + i);
    int64_t k = gather<4, kLow, kHigh>(gy, own, many, 0, n, c, by_low, to_low, by_high, to_high);
    k = gather<1, kLow, kHigh>(gy, own, many, k, n, c, by_low, to_low, by_high, to_high);
    for (; k < n; ++k) {
      float sum = 0.0f;
      for (int64_t i = 0; i < many; ++i) sum += gy[own[i].from * c + k] * own[i].weight;
      if (kLow) to_low[k] += sum * by_low;
      if (kHigh) to_high[k] += sum * by_high;
    }
  }
}

}  // namespace

void resample_gradient(const float* gy, const ResampleTerm* terms, const int64_t* ends, int64_t w,
                       int64_t c, float by_low, float* low, float by_high, float* high,
                       int64_t ahead) {
  if (low == nullptr)
    return gather_row<false, true>(gy, terms, ends, w, c, 0, high, by_high, high, ahead);
  if (high == nullptr)
    return gather_row<true, false>(gy, terms, ends, w, c, by_low, low, 0, low, ahead);
  gather_row<true, true>(gy, terms, ends, w, c, by_low, low, by_high, high, ahead);
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
