#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

KernelPtr make_add(Builder& b, const Node& node) {
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1)), y = b.out(node.outputs[0]);
  const int64_t n = count(b.shape(node.outputs[0]));
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t i, int64_t e) {
      select().add(x0.get<float>() + i, x1.get<float>() + i, y.get<float>() + i, e - i);
    });
  });
}

}  // namespace mpsnn::backend::cpu
