// Many rows times a few packed columns: a 1x1 convolution.
#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/kernels/packed.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

void pack_columns(const float* w, int64_t depth, int64_t cols, float* packed) {
  for (int64_t k = 0; k < cols; k += 2 * kLanes) {
    const int64_t width = cols - k < 2 * kLanes ? kLanes : 2 * kLanes;
    transpose(w + k * depth, depth, width, depth, packed + k * depth, width);
  }
}

void packed_rows(int64_t rows, int64_t depth, int64_t cols, const float* x, const float* packed,
                 const float* bias, float* y) {
  constexpr int64_t kRows = 96;  // that stay in the second cache while columns change
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t many = rows - r < kRows ? rows - r : kRows;
    float* to = y + r * cols;
    packed_product(many, depth, cols, x + r * depth, depth, 1, packed, depth, 0, false, to, cols);
    for (int64_t k = 0; bias != nullptr && k < cols; k += kLanes) {
      const Vec more = load(bias + k);
      for (int64_t i = 0; i < many; ++i) store(to + i * cols + k, load(to + i * cols + k) + more);
    }
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
