// Sums (or extremes) over axes of an array of a term of one or two operands. Sums are kept in
// double. Threads share out the results where there are enough of them, else the columns where they
// are more than the rows, else the rows, whose parts are then added in order: bits depend on the
// number of threads only.
#pragma once

#include "backend/cpu/loops.h"

namespace mpsnn::backend::cpu {

class Reducer {
 public:
  Reducer() = default;
  // strides: of the operands a and b, and of the result, 0 along what is reduced. The results are
  // dense, in the order of the kept axes.
  Reducer(Builder& b, Reduce kind, const Shape& shape, const Loops<3>::Strides& strides,
          int64_t outputs);
  explicit operator bool() const { return outputs_ > 0; }

  // y = scale * result; b is nullptr where the term has no second operand.
  void run(const float* a, const float* b, float scale, float* y) const;

 private:
  enum class Split : uint8_t { results, columns, rows };
  void some_rows(const float* a, const float* b, int64_t begin, int64_t end, double* to) const;
  void some_columns(const float* a, const float* b, int64_t begin, int64_t end, double* to) const;

  Reduce kind_ = Reduce::sum;
  Loops<3> loops_;
  Split split_ = Split::results;
  int64_t outputs_ = 0, parts_ = 1, kept_ = 1;  // kept_: results of the leading kept axes
  double start_ = 0;
  runtime::Ref sums_;  // parts_ x outputs_, apart
};

}  // namespace mpsnn::backend::cpu
