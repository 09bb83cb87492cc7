#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

KernelPtr make_neuron(Builder& b, const Node& node) {
  const int kind = static_cast<int>(ir::parse_neuron(node.attrs.text("kind")));
  const auto a = static_cast<float>(node.attrs.number("a"));
  if (!node.gradient) {
    const auto x = b.in(node.x(0)), y = b.out(node.y(0));
    const int64_t n = count(b.shape(node.y(0)));
    return kernel([=](const runtime::StepContext&) {
      pointwise(n, [&](int64_t i, int64_t e) {
        select().neuron(kind, a, x.get<float>() + i, y.get<float>() + i, e - i);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), x = b.in(node.x(0)), y = b.in(node.y(0)),
             gx = b.out(node.gx(0));
  const int64_t n = count(b.shape(node.gy(0)));
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t i, int64_t e) {
      select().neuron_gradient(kind, a, gy.get<float>() + i, x ? x.get<float>() + i : nullptr,
                               y ? y.get<float>() + i : nullptr, gx.get<float>() + i, e - i);
    });
  });
}

}  // namespace mpsnn::backend::cpu
