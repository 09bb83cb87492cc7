// Which element of an operand meets which of a result where shapes differ: NumPy's rules, but for
// the batch. Two operands that have a batch axis have one batch, as in MPS, so that what is
// broadcast does not depend on the size of the batch.
#pragma once

#include <optional>
#include <vector>

#include "mpsnn/shape.h"

namespace mpsnn::ir {

// The shape of an element-wise result; none where the operands do not fit. Axes are aligned at the
// end; one of size 1, or missing, is repeated.
std::optional<Shape> broadcast(const Shape& a, const Shape& b);

std::vector<int64_t> dense_strides(const Shape& shape);

// The distance, in elements of x, between neighbours along each axis of y; 0 where x is repeated.
std::vector<int64_t> broadcast_strides(const Shape& x, const Shape& y);

// x with size 1 along `dims`: what a reduction keeps.
Shape reduced(Shape x, const std::vector<int64_t>& dims);

}  // namespace mpsnn::ir
