#include "backend/cpu/reducer.h"

#include <cmath>

namespace mpsnn::backend::cpu {

Reducer::Reducer(Builder& b, Reduce kind, const Shape& shape, const Loops<3>::Strides& strides,
                 int64_t outputs)
    : kind_(kind), loops_(shape, strides), outputs_(outputs) {
  const auto& axes = loops_.axes();
  for (std::size_t i = 0; i + 1 < axes.size() && axes[i].strides[2] != 0; ++i)
    kept_ *= axes[i].size;
  const int64_t team = threads::team();
  const bool small = loops_.rows() * loops_.row() < 32768;
  if (small || kept_ >= team) {
    split_ = Split::results;
  } else if (axes.back().strides[2] != 0 && loops_.row() >= 64 * team &&
             loops_.row() > loops_.rows()) {
    split_ = Split::columns;
  } else {
    split_ = Split::rows;
    parts_ = team;
  }
  if (kind == Reduce::max) start_ = -HUGE_VAL;
  if (kind == Reduce::min) start_ = HUGE_VAL;
  sums_ = b.scratch(static_cast<std::size_t>(parts_ * apart<double>(outputs_)) * sizeof(double));
}

void Reducer::some_rows(const float* a, const float* b, int64_t begin, int64_t end,
                        double* to) const {
  loops_.tiles(begin, end, [&](const auto& at, const Tile<3>& tile) {
    select().reduce(kind_, tile, a + at[0], b + at[1], to + at[2]);
  });
}

void Reducer::some_columns(const float* a, const float* b, int64_t begin, int64_t end,
                           double* to) const {
  loops_.tiles(0, loops_.rows(), [&](const auto& at, Tile<3> tile) {
    tile.n = end - begin;
    select().reduce(kind_, tile, a + at[0] + begin * tile.inner[0],
                    b + at[1] + begin * tile.inner[1], to + at[2] + begin * tile.inner[2]);
  });
}

void Reducer::run(const float* a, const float* b, float scale, float* y) const {
  auto* sums = sums_.get<double>();
  if (b == nullptr) b = a;  // not read, but offsets are added to it
  const int64_t rows = loops_.rows(), row = loops_.row();
  const auto finish = [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < parts_; ++part)
      for (int64_t i = begin; i < end; ++i) {
        double& value = sums[i];
        const double other = sums[part * apart<double>(outputs_) + i];
        if (start_ == 0)
          value += other;
        else if (other != other || (start_ < 0 ? other > value : other < value))
          value = other;
      }
    for (int64_t i = begin; i < end; ++i)
      y[i] = static_cast<float>(sums[i] * static_cast<double>(scale));
  };
  switch (split_) {
    case Split::results:
      return threads::parallel_for(kept_, 1 + 32768 * kept_ / (rows * row),
                                   [&](int64_t i, int64_t end) {
                                     const int64_t results = outputs_ / kept_, many = rows / kept_;
                                     std::fill(sums + i * results, sums + end * results, start_);
                                     some_rows(a, b, i * many, end * many, sums);
                                     finish(i * results, end * results);
                                   });
    case Split::columns:
      std::fill_n(sums, outputs_, start_);
      threads::parallel_for(row, 64,
                            [&](int64_t i, int64_t end) { some_columns(a, b, i, end, sums); });
      break;
    case Split::rows:
      threads::parallel_for(parts_, 1, [&](int64_t part, int64_t last) {
        for (; part < last; ++part) {
          double* own = sums + part * apart<double>(outputs_);
          std::fill_n(own, outputs_, start_);
          if (rows > 1)
            some_rows(a, b, rows * part / parts_, rows * (part + 1) / parts_, own);
          else
            some_columns(a, b, row * part / parts_, row * (part + 1) / parts_, own);
        }
      });
      break;
  }
  pointwise(outputs_, finish);
}

}  // namespace mpsnn::backend::cpu
