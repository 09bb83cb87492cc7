// Ops that only move elements: flatten and reshape (where they are no views), permute, slice,
// concat.
#include <algorithm>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {

void flatten(Call& c) { std::copy_n(c.x(0), count(c.y_shape()), c.y(0)); }
void flatten_gradient(Call& c) { std::copy_n(c.gy(0), count(c.y_shape()), c.gx(0)); }
void reshape(Call& c) { flatten(c); }
void reshape_gradient(Call& c) { flatten_gradient(c); }

namespace {

// f(element of the input, of the output) for every element of the output, whose axis i lies along
// axis axis_of(i) of the input and begins there at start_of(i).
template <class A, class S, class F>
void moved(const Shape& x, const Shape& y, A axis_of, S start_of, F f) {
  const int64_t n = count(y);
  for (int64_t to = 0; to < n; ++to) {
    int64_t from = 0, rest = to;
    for (std::size_t axis = y.size(); axis-- > 0; rest /= y[axis]) {
      int64_t stride = 1;
      for (std::size_t i = x.size(); --i > axis_of(axis);) stride *= x[i];
      from += (rest % y[axis] + start_of(axis)) * stride;
    }
    f(from, to);
  }
}

template <class F>
void permuted(Call& c, F f) {
  const auto& dims = c.attrs().integers("dims");
  moved(
      c.x_shape(0), c.y_shape(), [&](std::size_t i) { return static_cast<std::size_t>(dims[i]); },
      [](std::size_t) { return 0; }, f);
}

template <class F>
void sliced(Call& c, F f) {
  const auto& starts = c.attrs().integers("starts");  // of all axes but the batch
  moved(
      c.x_shape(0), c.y_shape(), [](std::size_t i) { return i; },
      [&](std::size_t i) { return i == 0 ? 0 : starts[i - 1]; }, f);
}

}  // namespace

void permute(Call& c) {
  permuted(c, [&](int64_t from, int64_t to) { c.y(0)[to] = c.x(0)[from]; });
}
void permute_gradient(Call& c) {
  permuted(c, [&](int64_t from, int64_t to) { c.gx(0)[from] = c.gy(0)[to]; });
}

void slice(Call& c) {
  sliced(c, [&](int64_t from, int64_t to) { c.y(0)[to] = c.x(0)[from]; });
}
void slice_gradient(Call& c) {
  sliced(c, [&](int64_t from, int64_t to) { c.gx(0)[from] = c.gy(0)[to]; });
}

namespace {

// f(part, offset in the row, size, rows, row) for every part: a row is what lies behind the axes
// before the joined one. Parts without a gradient keep their place.
template <class F>
void parts(Call& c, F f) {
  const auto axis = static_cast<std::size_t>(c.attrs().integer("dim"));
  const Shape& y = c.y_shape();
  int64_t inner = 1, rows = 1, offset = 0;
  for (std::size_t i = 0; i < axis; ++i) rows *= y[i];
  for (std::size_t i = axis + 1; i < y.size(); ++i) inner *= y[i];
  const auto& sizes = c.attrs().integers("sizes");
  for (int i = 0; i < c.node().nx; ++i) {
    const int64_t size = sizes[static_cast<std::size_t>(i)] * inner;
    f(i, offset, size, rows, y[axis] * inner);
    offset += size;
  }
}

}  // namespace

void concat(Call& c) {
  parts(c, [&](int i, int64_t offset, int64_t size, int64_t rows, int64_t row) {
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(c.x(i) + r * size, size, c.y(0) + r * row + offset);
  });
}

void concat_gradient(Call& c) {
  parts(c, [&](int i, int64_t offset, int64_t size, int64_t rows, int64_t row) {
    if (c.gx(i) == nullptr) return;
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(c.gy(0) + r * row + offset, size, c.gx(i) + r * size);
  });
}

}  // namespace mpsnn::backend::reference
