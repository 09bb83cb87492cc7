// Counting is checked: a shape may come from a file or a caller's arithmetic.
#include "mpsnn/shape.h"

#include "mpsnn/error.h"

namespace mpsnn {

int64_t count(const Shape& shape) {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size < 0) throw ShapeError("shape " + to_string(shape) + " has a negative size");
    if (__builtin_mul_overflow(product, size, &product)) {
      throw OutOfMemoryError("shape " + to_string(shape) + " has more than 2^63 elements");
    }
  }
  return product;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace mpsnn
