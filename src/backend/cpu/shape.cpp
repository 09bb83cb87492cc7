// flatten (where it is not a view) and concat along the last axis, but for the parts that are in
// place.
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

KernelPtr make_flatten(Builder& b, const Node& node) {
  const auto from = b.in(node.inputs[0]), to = b.out(node.outputs[0]);
  const int64_t n = count(b.shape(node.outputs[0]));
  return kernel([=](const runtime::StepContext&) {
    std::memcpy(to.get(), from.get(), static_cast<std::size_t>(n) * sizeof(float));
  });
}

KernelPtr make_concat(Builder& b, const Node& node) {
  const bool gradient = node.gradient;
  struct Part {
    runtime::Ref ref;
    int64_t offset, size;
  };
  std::vector<Part> parts;
  const ValueId together = gradient ? node.gy(0) : node.y(0);
  const auto& sizes = node.attrs.integers("sizes");
  int64_t offset = 0;
  for (int i = 0; i < node.nx; ++i) {
    const int64_t size = sizes[static_cast<std::size_t>(i)];
    const ValueId part = gradient ? node.gx(i) : node.x(i);
    if (part != kNone && !b.in_place(part, together))
      parts.push_back({gradient ? b.out(part) : b.in(part), offset, size});
    offset += size;
  }
  const auto whole = gradient ? b.in(together) : b.out(together);
  const Shape& shape = b.shape(together);
  const int64_t row = shape.back(), rows = count(shape) / row;
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(rows, 1 + 16384 / row, [&](int64_t begin, int64_t end) {
      for (const Part& p : parts)
        for (int64_t r = begin; r < end; ++r) {
          float *in_whole = whole.get<float>() + r * row + p.offset,
                *in_part = p.ref.get<float>() + r * p.size;
          std::memcpy(gradient ? in_part : in_whole, gradient ? in_whole : in_part,
                      static_cast<std::size_t>(p.size) * sizeof(float));
        }
    });
  });
}

}  // namespace mpsnn::backend::cpu
