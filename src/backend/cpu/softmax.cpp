#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

namespace {

using Forward = decltype(KernelTable::softmax);
using Gradient = decltype(KernelTable::softmax_gradient);

KernelPtr over_rows(Builder& b, const Node& node, Forward forward, Gradient gradient) {
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const int64_t c = shape.back(), rows = count(shape) / c, grain = 1 + 4096 / c;
  if (!node.gradient) {
    const auto x = b.in(node.x(0)), y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      threads::parallel_for(rows, grain, [&](int64_t i, int64_t e) {
        forward(x.get<float>() + i * c, y.get<float>() + i * c, e - i, c);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), y = b.in(node.y(0)), gx = b.out(node.gx(0));
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(rows, grain, [&](int64_t i, int64_t e) {
      gradient(y.get<float>() + i * c, gy.get<float>() + i * c, gx.get<float>() + i * c, e - i, c);
    });
  });
}

}  // namespace

KernelPtr make_softmax(Builder& b, const Node& node) {
  return over_rows(b, node, select().softmax, select().softmax_gradient);
}

KernelPtr make_log_softmax(Builder& b, const Node& node) {
  return over_rows(b, node, select().log_softmax, select().log_softmax_gradient);
}

}  // namespace mpsnn::backend::cpu
