// Sums, means and extremes over axes of each image.
#include "backend/cpu/lambda.h"
#include "backend/cpu/reducer.h"

namespace mpsnn::backend::cpu {
namespace {

// Of x and, repeated along the reduced axes, of the result.
struct Strides {
  Strides(const Shape& x, const Attrs& attrs)
      : dense(ir::dense_strides(x)),
        kept(ir::broadcast_strides(ir::reduced(x, attrs.integers("dims")), x)) {}
  std::vector<int64_t> dense, kept;
};

KernelPtr forward(Builder& b, const Node& node, Reduce kind, float scale) {
  const Shape& shape = b.shape(node.x(0));
  const Strides s(shape, node.attrs);
  const Reducer reducer(b, kind, shape, {s.dense, s.dense, s.kept}, count(b.shape(node.y(0))));
  const auto x = b.in(node.x(0)), y = b.out(node.y(0));
  return kernel([=](const runtime::StepContext&) {
    reducer.run(x.get<float>(), nullptr, scale, y.get<float>());
  });
}

KernelPtr sum_gradient(Builder& b, const Node& node, float scale) {
  const Shape& shape = b.shape(node.gx(0));
  const Strides s(shape, node.attrs);
  const Loops<3> loops(shape, {s.kept, std::vector<int64_t>(shape.size(), 0), s.dense});
  const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    loops.run([&](const auto& at, const Tile<3>& tile) {
      select().binary(Binary::multiply, tile, gy.get<float>() + at[0], &scale,
                      gx.get<float>() + at[2]);
    });
  });
}

// Elements that share an extreme share its gradient, as in PyTorch's amax.
KernelPtr extreme_gradient(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.gx(0));
  const Strides s(shape, node.attrs);
  const int64_t outputs = count(b.shape(node.gy(0)));
  const Reducer ties(b, Reduce::equal, shape, {s.dense, s.kept, s.kept}, outputs);
  const Loops<3> loops(shape, {s.dense, s.kept, s.dense});
  const auto shares = b.workspace(static_cast<std::size_t>(outputs));
  const auto gy = b.in(node.gy(0)), x = b.in(node.x(0)), y = b.in(node.y(0)),
             gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    const auto *from = x.get<float>(), *best = y.get<float>(), *g = gy.get<float>();
    auto* share = shares.get<float>();
    ties.run(from, best, 1, share);
    pointwise(outputs, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) share[i] = g[i] / share[i];
    });
    loops.run([&](const auto& at, const Tile<3>& tile) {
      select().ties(tile, from + at[0], best + at[1], share + at[1], gx.get<float>() + at[2]);
    });
  });
}

// The inverse of the number of terms of a result.
float share_of(Builder& b, const Node& node) {
  const ValueId x = node.gradient ? node.gx(0) : node.x(0),
                y = node.gradient ? node.gy(0) : node.y(0);
  return static_cast<float>(static_cast<double>(count(b.shape(y))) /
                            static_cast<double>(count(b.shape(x))));
}

}  // namespace

KernelPtr make_reduce_sum(Builder& b, const Node& node) {
  return node.gradient ? sum_gradient(b, node, 1) : forward(b, node, Reduce::sum, 1);
}

KernelPtr make_reduce_mean(Builder& b, const Node& node) {
  const float share = share_of(b, node);
  return node.gradient ? sum_gradient(b, node, share) : forward(b, node, Reduce::sum, share);
}

KernelPtr make_reduce_max(Builder& b, const Node& node) {
  return node.gradient ? extreme_gradient(b, node) : forward(b, node, Reduce::max, 1);
}

KernelPtr make_reduce_min(Builder& b, const Node& node) {
  return node.gradient ? extreme_gradient(b, node) : forward(b, node, Reduce::min, 1);
}

}  // namespace mpsnn::backend::cpu
