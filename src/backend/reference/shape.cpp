// flatten (where it is not a view) and concat along the last axis.
#include <algorithm>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void flatten(Call& c) { std::copy_n(c.x(0), count(c.y_shape()), c.y(0)); }
void flatten_gradient(Call& c) { std::copy_n(c.gy(0), count(c.y_shape()), c.gx(0)); }

namespace {

// f(part, offset in the row, size) for every part; parts without a gradient keep their place.
template <class F>
void parts(Call& c, F f) {
  int64_t offset = 0;
  const auto& sizes = c.attrs().integers("sizes");
  for (int i = 0; i < c.node().nx; ++i) {
    const int64_t size = sizes[static_cast<std::size_t>(i)];
    f(i, offset, size);
    offset += size;
  }
}

}  // namespace

void concat(Call& c) {
  const int64_t row = c.y_shape().back(), rows = count(c.y_shape()) / row;
  parts(c, [&](int i, int64_t offset, int64_t size) {
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(c.x(i) + r * size, size, c.y(0) + r * row + offset);
  });
}

void concat_gradient(Call& c) {
  const int64_t row = c.y_shape().back(), rows = count(c.y_shape()) / row;
  parts(c, [&](int i, int64_t offset, int64_t size) {
    if (c.gx(i) == nullptr) return;
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(c.gy(0) + r * row + offset, size, c.gx(i) + r * size);
  });
}

}  // namespace mpsnn::backend::reference
