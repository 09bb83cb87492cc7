// Operations made of our own kernels: on dense float32 arrays, one dispatch after another.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

namespace mpsnn::backend::mps {

// Encodes with `body`, which holds what the operation needs.
std::unique_ptr<Operation> own_kernels(std::function<void(Encoding&)> body);

// Reserves nothing for an operand that is absent.
Dense dense_or_none(Builder& builder, ValueId id);

// A buffer that our kernels read, with these bytes.
BufferRef constant_buffer(Gpu& gpu, const void* from, std::size_t bytes);

// Elements of a box `size` in arrays with these distances between neighbours along each axis.
StridedParams strided(const Shape& size, const std::vector<int64_t>& a,
                      const std::vector<int64_t>& b = {});

// Sums, times `factor`, or extremes of dense arrays over some axes.
class Reduction {
 public:
  Reduction() = default;
  Reduction(Builder& builder, const Shape& shape, const std::vector<int64_t>& axes,
            ReduceKind kind = kReduceSum, double factor = 1);
  void run(Encoding& e, Buffer from, Buffer to) const;

 private:
  ReduceParams first_{}, second_{};  // parts == 0: not there
  std::size_t parts_ = 0;
};

// Sums over the rows of (rows, columns).
Reduction column_sums(Builder& builder, int64_t rows, int64_t columns, double factor = 1);

}  // namespace mpsnn::backend::mps
