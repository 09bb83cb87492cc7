// Small matrix products, single-threaded: 6 rows by 2 vectors of registers, B streamed by rows. The
// last columns go through a packed panel, so that every inner loop is whole vectors.
#include "backend/cpu/kernels/kernels.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

template <int kRows, int kVecs>
inline void tile(int64_t depth, const float* a, int64_t ar, int64_t aj, const float* b, int64_t ldb,
                 Vec (&acc)[kRows][kVecs]) {
  for (int64_t j = 0; j < depth; ++j) {
    Vec row[kVecs];
    for (int v = 0; v < kVecs; ++v) row[v] = load(b + j * ldb + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const float x = a[r * ar + j * aj];
      for (int v = 0; v < kVecs; ++v) acc[r][v] += x * row[v];
    }
  }
}

// `cols` of the vectors are there, all of them unless kPart.
template <int kRows, int kVecs, bool kPart>
void block(int64_t depth, const float* a, int64_t ar, int64_t aj, const float* b, int64_t ldb,
           const float* bias, bool add, float* c, int64_t ldc, int64_t cols) {
  Vec acc[kRows][kVecs];
  for (int v = 0; v < kVecs; ++v) {
    Vec start = {};
    if (bias != nullptr) {
      if (kPart)
        for (int64_t k = v * kLanes; k < cols; ++k) start[k - v * kLanes] = bias[k];
      else
        start = load(bias + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) acc[r][v] = start;
  }
  tile<kRows, kVecs>(depth, a, ar, aj, b, ldb, acc);
  if (kPart) {
    for (int r = 0; r < kRows; ++r)
      for (int64_t k = 0; k < cols; ++k) {
        float* to = c + r * ldc + k;
        *to = (add ? *to : 0.0f) + acc[r][k / kLanes][k % kLanes];
      }
  } else if (add) {
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVecs; ++v)
        store(c + r * ldc + v * kLanes, load(c + r * ldc + v * kLanes) + acc[r][v]);
  } else {
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVecs; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
  }
}

template <int kVecs, bool kPart>
void panel(int64_t rows, int64_t depth, const float* a, int64_t ar, int64_t aj, const float* b,
           int64_t ldb, const float* bias, bool add, float* c, int64_t ldc, int64_t cols) {
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    block<kRows, kVecs, kPart>(depth, a + r * ar, ar, aj, b, ldb, bias, add, c + r * ldc, ldc,
                               cols);
  for (; r + 2 <= rows; r += 2)
    block<2, kVecs, kPart>(depth, a + r * ar, ar, aj, b, ldb, bias, add, c + r * ldc, ldc, cols);
  for (; r < rows; ++r)
    block<1, kVecs, kPart>(depth, a + r * ar, ar, aj, b, ldb, bias, add, c + r * ldc, ldc, cols);
}

}  // namespace

void gemm(int64_t rows, int64_t cols, int64_t depth, const float* a, int64_t ar, int64_t aj,
          const float* b, int64_t ldb, const float* bias, bool add, float* c, int64_t ldc,
          float* pack) {
  int64_t k = 0;
  const auto at = [&](int64_t column) { return bias == nullptr ? nullptr : bias + column; };
  for (; k + 2 * kLanes <= cols; k += 2 * kLanes)
    panel<2, false>(rows, depth, a, ar, aj, b + k, ldb, at(k), add, c + k, ldc, 2 * kLanes);
  for (; k + kLanes <= cols; k += kLanes)
    panel<1, false>(rows, depth, a, ar, aj, b + k, ldb, at(k), add, c + k, ldc, kLanes);
  if (k == cols) return;
  const int64_t left = cols - k;
  for (int64_t j = 0; j < depth; ++j)
    for (int64_t i = 0; i < kLanes; ++i)
      pack[j * kLanes + i] = i < left ? b[j * ldb + k + i] : 0.0f;
  panel<1, true>(rows, depth, a, ar, aj, pack, kLanes, at(k), add, c + k, ldc, left);
}

namespace {

// Exchanges, for each step of halves, a block beside the diagonal with the one across it.
template <int kStep>
inline void exchange(Vec (&rows)[kLanes]) {
  Lanes upper, lower;
  for (int l = 0; l < kLanes; ++l) {
    upper[l] = (l & kStep) != 0 ? kLanes + l - kStep : l;
    lower[l] = (l & kStep) != 0 ? kLanes + l : l + kStep;
  }
  for (int r = 0; r < kLanes; ++r) {
    if ((r & kStep) != 0) continue;
    const Vec a = rows[r], b = rows[r + kStep];
    rows[r] = shuffled(a, b, upper);
    rows[r + kStep] = shuffled(a, b, lower);
  }
  if constexpr (kStep > 1) exchange<kStep / 2>(rows);
}

// What is less than a whole block: four by four.
void transpose_part(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y,
                    int64_t ldy) {
#if defined(__SSE2__)
  const int64_t done_rows = rows & -4, done_cols = cols & -4;
  for (int64_t r = 0; r < done_rows; r += 4)
    for (int64_t c = 0; c < done_cols; c += 4) {
      const float* from = x + r * ldx + c;
      __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + ldx), d = _mm_loadu_ps(from + 2 * ldx),
             e = _mm_loadu_ps(from + 3 * ldx);
      _MM_TRANSPOSE4_PS(a, b, d, e);
      float* to = y + c * ldy + r;
      _mm_storeu_ps(to, a);
      _mm_storeu_ps(to + ldy, b);
      _mm_storeu_ps(to + 2 * ldy, d);
      _mm_storeu_ps(to + 3 * ldy, e);
    }
#else
  const int64_t done_rows = 0, done_cols = 0;
#endif
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < done_rows ? done_cols : 0; c < cols; ++c) y[c * ldy + r] = x[r * ldx + c];
}

}  // namespace

void transpose(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy) {
  // Along the longer side: of the other, few lines are in use at a time.
  const bool down = rows > cols;
  for (int64_t outer = 0; outer < (down ? cols : rows); outer += kLanes)
    for (int64_t inner = 0; inner < (down ? rows : cols); inner += kLanes) {
      const int64_t r0 = down ? inner : outer, c0 = down ? outer : inner;
      const float* from = x + r0 * ldx + c0;
      float* to = y + c0 * ldy + r0;
      const int64_t height = rows - r0 < kLanes ? rows - r0 : kLanes,
                    width = cols - c0 < kLanes ? cols - c0 : kLanes;
      if (height < kLanes || width < kLanes) {
        transpose_part(from, ldx, height, width, to, ldy);
        continue;
      }
      Vec block[kLanes];
      for (int r = 0; r < kLanes; ++r) block[r] = load(from + r * ldx);
      exchange<kLanes / 2>(block);
      for (int c = 0; c < kLanes; ++c) store(to + c * ldy, block[c]);
    }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
