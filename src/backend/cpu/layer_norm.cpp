// Rows are shared out to the threads; the gradients by weight and bias are sums over each one's.
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

KernelPtr make_layer_norm(Builder& b, const Node& node) {
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const auto axes = static_cast<std::ptrdiff_t>(node.attrs.integer("axes"));
  const int64_t c = count(Shape(shape.end() - axes, shape.end())), rows = count(shape) / c;
  const auto epsilon = static_cast<float>(node.attrs.number("epsilon"));
  const auto x = b.in(node.x(0)), mean = b.raw(node.state(0)), inverse = b.raw(node.state(1));
  const auto w = node.nx > 1 && node.x(1) != kNone ? b.in(node.x(1)) : runtime::Ref();
  const int64_t grain = 1 + 8192 / c;
  if (!node.gradient) {
    const auto bias = node.nx > 2 && node.x(2) != kNone ? b.in(node.x(2)) : runtime::Ref(),
               y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      threads::parallel_for(rows, grain, [&](int64_t i, int64_t e) {
        select().layer_norm(x.get<float>() + i * c, w ? w.get<float>() : nullptr,
                            bias ? bias.get<float>() : nullptr, e - i, c, epsilon,
                            y.get<float>() + i * c, mean.get<float>() + i,
                            inverse.get<float>() + i);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0)),
             gw = node.nx > 1 ? b.out(node.gx(1)) : runtime::Ref(),
             gb = node.nx > 2 ? b.out(node.gx(2)) : runtime::Ref();
  const int64_t team = rows * c < 16384 ? 1 : threads::team();
  const int64_t pitch = apart<double>(2 * c), block_pitch = apart<float>(2 * c);
  const auto parts = b.scratch(static_cast<std::size_t>(team * pitch) * sizeof(double));
  const auto blocks = b.scratch(static_cast<std::size_t>(team * block_pitch) * sizeof(float));
  constexpr int64_t kBlock = 64;  // rows that are summed in float
  return kernel([=](const runtime::StepContext&) {
    auto* sums = parts.get<double>();
    std::memset(sums, 0, static_cast<std::size_t>(team * pitch) * sizeof(double));
    threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t last = rows * (t + 1) / team;
        float* own = gw || gb ? blocks.get<float>() + t * block_pitch : nullptr;
        for (int64_t i = rows * t / team; i < last; i += kBlock) {
          const int64_t many = std::min(kBlock, last - i);
          if (own != nullptr) std::memset(own, 0, static_cast<std::size_t>(2 * c) * sizeof(float));
          const float *g = gy.get<float>() + i * c, *in = x.get<float>() + i * c,
                      *m = mean.get<float>() + i, *r = inverse.get<float>() + i;
          if (gx)
            select().layer_norm_gradient(g, in, w ? w.get<float>() : nullptr, m, r, many, c,
                                         gx.get<float>() + i * c, own,
                                         own == nullptr ? nullptr : own + c);
          else if (own != nullptr)
            select().layer_norm_weights(g, in, m, r, many, c, own, own + c);
          for (int64_t k = 0; own != nullptr && k < 2 * c; ++k)
            sums[t * pitch + k] += static_cast<double>(own[k]);
        }
      }
    });
    if (!gw && !gb) return;
    for (int64_t k = 0; k < c; ++k) {
      double dot = 0, sum = 0;
      for (int64_t t = 0; t < team; ++t) {
        dot += sums[t * pitch + k];
        sum += sums[t * pitch + c + k];
      }
      if (gw) gw.get<float>()[k] = static_cast<float>(dot);
      if (gb) gb.get<float>()[k] = static_cast<float>(sum);
    }
  });
}

}  // namespace mpsnn::backend::cpu
