#include "runtime/staging.h"

#include <cstring>

namespace mpsnn::runtime {

// Copies a strided view row by row, converting.
void copy_view(const HostView& view, Tensor& to) {
  const std::size_t from_size = size_of(view.dtype), to_size = size_of(to.dtype());
  const auto* from = static_cast<const char*>(view.data);
  auto* out = static_cast<char*>(to.data());
  if (view.strides.empty()) {
    if (view.dtype == to.dtype())
      std::memcpy(out, from, to.bytes());
    else
      convert(from, view.dtype, out, to.dtype(), to.count());
    return;
  }
  const std::size_t rank = view.shape.size();
  const int64_t row = rank == 0 ? 1 : view.shape[rank - 1];
  const int64_t step = rank == 0 ? 0 : view.strides[rank - 1];
  const int64_t rows = row == 0 ? 0 : to.count() / row;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t rest = r, offset = 0;
    for (std::size_t axis = rank - 1; rank > 0 && axis-- > 0;) {
      offset += rest % view.shape[axis] * view.strides[axis];
      rest /= view.shape[axis];
    }
    char* at = out + static_cast<std::size_t>(r * row) * to_size;
    if (step == static_cast<int64_t>(from_size)) {
      convert(from + offset, view.dtype, at, to.dtype(), row);
      continue;
    }
    for (int64_t i = 0; i < row; ++i)
      convert(from + offset + i * step, view.dtype, at + static_cast<std::size_t>(i) * to_size,
              to.dtype(), 1);
  }
}

void fill_ones(Tensor& tensor) {
  const float one = 1;
  for (int64_t i = 0; i < tensor.count(); ++i)
    convert(
        &one, DType::float32,
        static_cast<char*>(tensor.data()) + static_cast<std::size_t>(i) * size_of(tensor.dtype()),
        tensor.dtype(), 1);
}

}  // namespace mpsnn::runtime
