// Loops over the elements of an array and, in step with them, over K operands with strides of their
// own. Axes that every operand walks in one stride are merged, so that kernels see few long rows.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/cpu.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::cpu {

template <int K>
class Loops {
 public:
  using Strides = std::array<std::vector<int64_t>, K>;
  using At = std::array<int64_t, K>;

  Loops() = default;
  Loops(const Shape& shape, const Strides& strides) {
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis] == 1) continue;
      Axis next{shape[axis], {}};
      for (std::size_t k = 0; k < K; ++k) next.strides[k] = strides[k][axis];
      if (!axes_.empty() && merges(axes_.back(), next))
        next.size *= axes_.back().size, axes_.back() = next;
      else
        axes_.push_back(next);
    }
    while (axes_.size() < 2) axes_.insert(axes_.begin(), Axis{1, {}});
  }

  struct Axis {
    int64_t size;
    At strides;
  };
  const std::vector<Axis>& axes() const { return axes_; }  // outermost first; at least two

  // The axis that operand k walks densely becomes the second last, unless it is the last.
  void move_inwards(std::size_t k) {
    for (auto axis = axes_.begin(); axis + 1 != axes_.end(); ++axis)
      if (axis->size > 1 && axis->strides[k] == 1) {
        std::rotate(axis, axis + 1, axes_.end() - 1);
        return;
      }
  }

  int64_t row() const { return axes_.back().size; }
  int64_t rows() const {
    int64_t n = 1;
    for (std::size_t i = 0; i + 1 < axes_.size(); ++i) n *= axes_[i].size;
    return n;
  }

  // f(offsets, tile) for rows begin..end, in tiles of the two innermost axes.
  template <class F>
  void tiles(int64_t begin, int64_t end, F f) const {
    const std::size_t inner = axes_.size() - 2;
    const Axis& second = axes_[inner];
    Tile<K> tile{0, row(), {}, {}};
    for (std::size_t k = 0; k < K; ++k)
      tile.outer[k] = second.strides[k], tile.inner[k] = axes_[inner + 1].strides[k];
    while (begin < end) {
      const int64_t i = begin % second.size;
      tile.rows = std::min(second.size - i, end - begin);
      At at;
      for (std::size_t k = 0; k < K; ++k) at[k] = i * second.strides[k];
      int64_t rest = begin / second.size;
      for (std::size_t axis = inner; axis-- > 0; rest /= axes_[axis].size)
        for (std::size_t k = 0; k < K; ++k)
          at[k] += rest % axes_[axis].size * axes_[axis].strides[k];
      f(at, tile);
      begin += tile.rows;
    }
  }

  // The same for all elements, by all threads; a single row is shared out as well.
  template <class F>
  void run(F f) const {
    if (rows() > 1) {
      threads::parallel_for(rows(), 1 + 16384 / row(),
                            [&](int64_t begin, int64_t end) { tiles(begin, end, f); });
      return;
    }
    pointwise(row(), [&](int64_t begin, int64_t end) {
      tiles(0, 1, [&](At at, Tile<K> tile) {
        for (std::size_t k = 0; k < K; ++k) at[k] += begin * tile.inner[k];
        tile.n = end - begin;
        f(at, tile);
      });
    });
  }

 private:
  static bool merges(const Axis& outer, const Axis& inner) {
    for (std::size_t k = 0; k < K; ++k)
      if (outer.strides[k] != inner.strides[k] * inner.size) return false;
    return true;
  }
  std::vector<Axis> axes_;
};

}  // namespace mpsnn::backend::cpu
