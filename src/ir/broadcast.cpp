#include "ir/broadcast.h"

namespace mpsnn::ir {

std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  const Shape &longer = a.size() >= b.size() ? a : b, &shorter = a.size() >= b.size() ? b : a;
  const std::size_t missing = longer.size() - shorter.size();
  Shape y = longer;
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    int64_t& size = y[missing + i];
    if (size == shorter[i]) continue;
    const bool batch = missing + i == 0;
    if (batch || (size != 1 && shorter[i] != 1)) return std::nullopt;
    if (size == 1) size = shorter[i];
  }
  return y;
}

std::vector<int64_t> dense_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::vector<int64_t> broadcast_strides(const Shape& x, const Shape& y) {
  const std::size_t missing = y.size() - x.size();
  const auto own = dense_strides(x);
  std::vector<int64_t> strides(y.size(), 0);
  for (std::size_t i = 0; i < x.size(); ++i)
    if (x[i] == y[missing + i]) strides[missing + i] = own[i];
  return strides;
}

Shape reduced(Shape x, const std::vector<int64_t>& dims) {
  for (const int64_t dim : dims) x[static_cast<std::size_t>(dim)] = 1;
  return x;
}

}  // namespace mpsnn::ir
