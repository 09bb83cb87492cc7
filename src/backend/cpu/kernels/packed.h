// Products with a packed right operand, for the recurrent layers: B lies in panels of two vectors
// of columns (a last one of one), each (depth, width); every size but the rows of A is a multiple
// of a vector, and C is the caller's own padded memory, so there are no partial vectors.
#pragma once

#include "backend/cpu/kernels/vector.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

constexpr int64_t kDepth = 512;  // of B at a time: a panel of it stays in the second cache

template <int kRows, int kVecs>
inline void packed_block(int64_t depth, const float* a, int64_t ar, int64_t aj, const float* b,
                         bool add, float* c, int64_t ldc) {
  Vec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVecs; ++v) acc[r][v] = add ? load(c + r * ldc + v * kLanes) : Vec{};
  for (int64_t j = 0; j < depth; ++j) {
    Vec row[kVecs];
    for (int v = 0; v < kVecs; ++v) row[v] = load(b + (j * kVecs + v) * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const float x = a[r * ar + j * aj];
      for (int v = 0; v < kVecs; ++v) acc[r][v] += x * row[v];
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVecs; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
}

template <int kVecs>
void packed_panel(int64_t rows, int64_t depth, const float* a, int64_t ar, int64_t aj,
                  const float* b, bool add, float* c, int64_t ldc) {
  constexpr int kRows = kLanes == 16 ? 12 : 6;
  int64_t r = 0;
  for (; r + kRows <= rows && r + 16 != rows; r += kRows)  // 16 are better two blocks of 8
    packed_block<kRows, kVecs>(depth, a + r * ar, ar, aj, b, add, c + r * ldc, ldc);
  for (; kRows > 8 && r + 8 <= rows; r += 8)
    packed_block<8, kVecs>(depth, a + r * ar, ar, aj, b, add, c + r * ldc, ldc);
  for (; r + 4 <= rows; r += 4)
    packed_block<4, kVecs>(depth, a + r * ar, ar, aj, b, add, c + r * ldc, ldc);
  for (; r + 2 <= rows; r += 2)
    packed_block<2, kVecs>(depth, a + r * ar, ar, aj, b, add, c + r * ldc, ldc);
  for (; r < rows; ++r) packed_block<1, kVecs>(depth, a + r * ar, ar, aj, b, add, c + r * ldc, ldc);
}

// C (rows x cols) = [C +] A B; A(r, j) = a[r * ar + j * aj]; B is rows `from`.. of a packed matrix
// of `whole` rows.
inline void packed_product(int64_t rows, int64_t depth, int64_t cols, const float* a, int64_t ar,
                           int64_t aj, const float* packed, int64_t whole, int64_t from, bool add,
                           float* c, int64_t ldc) {
  for (int64_t j = 0; j < depth; j += kDepth) {
    const int64_t part = depth - j < kDepth ? depth - j : kDepth;
    const bool more = add || j > 0;
    int64_t k = 0;
    for (; k + 2 * kLanes <= cols; k += 2 * kLanes)
      packed_panel<2>(rows, part, a + j * aj, ar, aj, packed + k * whole + (from + j) * 2 * kLanes,
                      more, c + k, ldc);
    if (k < cols)
      packed_panel<1>(rows, part, a + j * aj, ar, aj, packed + k * whole + (from + j) * kLanes,
                      more, c + k, ldc);
  }
}

// One row of a packed matrix of `whole` rows and `cols` columns: `size` values of x, then zeros;
// all zeros without x.
inline void pack_row(const float* x, int64_t size, int64_t whole, int64_t cols, int64_t row,
                     float* packed) {
  for (int64_t k = 0; k < cols; k += 2 * kLanes) {
    const int64_t width = cols - k < 2 * kLanes ? kLanes : 2 * kLanes;
    float* to = packed + k * whole + row * width;
    for (int64_t v = 0; v < width; v += kLanes) {
      if (x != nullptr && k + v + kLanes <= size) {
        store(to + v, load(x + k + v));
        continue;
      }
      for (int64_t i = 0; i < kLanes; ++i)
        to[v + i] = x != nullptr && k + v + i < size ? x[k + v + i] : 0.0f;
    }
  }
}

// Rows of the operands that a chunk's weight gradients are products of: one more than it fills, so
// that the panels of a packed row do not all lie in the same set of the first cache.
inline int64_t rnn_gradient_rows(const RnnShape& s) { return s.chunk_g * s.block + 1; }

// Whether sequence b has a step at time t.
inline bool active(const RnnInputs& in, int64_t b, int64_t t) {
  return in.lengths == nullptr || t < in.lengths[b];
}

}  // namespace
}  // namespace mpsnn::backend::cpu::MPSNN_ISA
