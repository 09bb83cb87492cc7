// Ops that only move elements: flatten and reshape (where they are no views), permute, slice,
// concat (but for the parts that are in place).
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"
#include "backend/cpu/loops.h"

namespace mpsnn::backend::cpu {
namespace {

void copy_rows(const Tile<2>& tile, const float* from, float* to) {
  if (tile.inner[0] == 1 && tile.inner[1] == 1)
    return select().copy_rows(from, 4 * tile.outer[0], tile.rows, 4 * tile.n, to,
                              4 * tile.outer[1]);
  for (int64_t r = 0; r < tile.rows; ++r, from += tile.outer[0], to += tile.outer[1])
    for (int64_t i = 0; i < tile.n; ++i) to[i * tile.inner[1]] = from[i * tile.inner[0]];
}

}  // namespace

KernelPtr make_flatten(Builder& b, const Node& node) {
  const auto from = b.in(node.inputs[0]), to = b.out(node.outputs[0]);
  const int64_t n = count(b.shape(node.outputs[0]));
  return kernel([=](const runtime::StepContext&) {
    std::memcpy(to.get(), from.get(), static_cast<std::size_t>(n) * sizeof(float));
  });
}

KernelPtr make_reshape(Builder& b, const Node& node) { return make_flatten(b, node); }

// Copies rows where the last axis stays the last, else transposes tiles: of the two axes that are
// dense in source and target, the first becomes the second last, the other is the last.
KernelPtr make_permute(Builder& b, const Node& node) {
  const ValueId x = node.gradient ? node.gy(0) : node.x(0),
                y = node.gradient ? node.gx(0) : node.y(0);
  const Shape &source = b.shape(x), &target = b.shape(y);
  const auto& dims = node.attrs.integers("dims");
  const auto own = ir::dense_strides(source);
  std::vector<int64_t> strides(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto axis = static_cast<std::size_t>(dims[i]);
    if (node.gradient)
      strides[axis] = own[i];
    else
      strides[i] = own[axis];
  }
  Loops<2> loops(target, {strides, ir::dense_strides(target)});
  loops.move_inwards(0);
  const auto from = b.in(x), to = b.out(y);
  return kernel([=](const runtime::StepContext&) {
    loops.run([&](const auto& at, const Tile<2>& tile) {
      const float* source_tile = from.get<float>() + at[0];
      float* target_tile = to.get<float>() + at[1];
      if (tile.inner[0] == 1 || tile.n == 1)
        copy_rows(tile, source_tile, target_tile);
      else
        select().transpose(source_tile, tile.inner[0], tile.n, tile.rows, target_tile,
                           tile.outer[1]);
    });
  });
}

KernelPtr make_slice(Builder& b, const Node& node) {
  const bool gradient = node.gradient;
  const ValueId whole_id = gradient ? node.gx(0) : node.x(0),
                part_id = gradient ? node.gy(0) : node.y(0);
  const Shape &whole_shape = b.shape(whole_id), &part_shape = b.shape(part_id);
  const auto strides = ir::dense_strides(whole_shape), own = ir::dense_strides(part_shape);
  const auto& starts = node.attrs.integers("starts");
  int64_t first = 0;
  for (std::size_t i = 0; i < starts.size(); ++i) first += starts[i] * strides[i + 1];
  const Loops<2> loops(
      part_shape, gradient ? Loops<2>::Strides{own, strides} : Loops<2>::Strides{strides, own});
  const int64_t n = count(whole_shape);
  const auto from = b.in(gradient ? part_id : whole_id), to = b.out(gradient ? whole_id : part_id);
  return kernel([=](const runtime::StepContext&) {
    const float* source = from.get<float>() + (gradient ? 0 : first);
    float* target = to.get<float>() + (gradient ? first : 0);
    if (gradient)
      pointwise(n, [&](int64_t i, int64_t end) {
        std::memset(to.get<float>() + i, 0, static_cast<std::size_t>(end - i) * sizeof(float));
      });
    loops.run([&](const auto& at, const Tile<2>& tile) {
      copy_rows(tile, source + at[0], target + at[1]);
    });
  });
}

KernelPtr make_concat(Builder& b, const Node& node) {
  const bool gradient = node.gradient;
  const ValueId together = gradient ? node.gy(0) : node.y(0);
  const Shape& shape = b.shape(together);
  const auto axis = static_cast<std::size_t>(node.attrs.integer("dim"));
  int64_t rows = 1, inner = 1;  // a row is what lies behind the axes before the joined one
  for (std::size_t i = 0; i < axis; ++i) rows *= shape[i];
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  const auto& sizes = node.attrs.integers("sizes");
  const auto part = [&](int i) { return gradient ? node.gx(i) : node.x(i); };
  bool alike = true;  // then nothing is converted
  for (int i = 0; i < node.nx; ++i)
    alike = alike && (part(i) == kNone || b.dtype(part(i)) == b.dtype(together));
  const auto unit = alike ? static_cast<int64_t>(size_of(b.dtype(together))) : 4;
  const auto read = [&](ValueId id) { return alike ? b.raw(id) : b.in(id); };
  const auto write = [&](ValueId id) { return alike ? b.raw(id) : b.out(id); };
  std::vector<runtime::Ref> refs;
  std::vector<RowPart> parts;
  int64_t offset = 0;
  for (int i = 0; i < node.nx; ++i) {
    const int64_t size = sizes[static_cast<std::size_t>(i)] * inner * unit;
    if (part(i) != kNone && !b.in_place(part(i), together, offset / unit)) {
      refs.push_back(gradient ? write(part(i)) : read(part(i)));
      parts.push_back({nullptr, offset, size});
    }
    offset += size;
  }
  const auto whole = gradient ? read(together) : write(together);
  const int64_t row = shape[axis] * inner * unit;
  return kernel([=](const runtime::StepContext&) mutable {
    for (std::size_t i = 0; i < refs.size(); ++i) parts[i].at = refs[i].get<char>();
    threads::parallel_for(rows, 1 + 65536 / row, [&](int64_t begin, int64_t end) {
      select().join_rows(parts.data(), static_cast<int64_t>(parts.size()), gradient, begin, end,
                         whole.get<char>(), row);
    });
  });
}

}  // namespace mpsnn::backend::cpu
