// Dropout by the stream of core/random.h; state: one byte an element.
#include "backend/cpu/lambda.h"
#include "core/random.h"

namespace mpsnn::backend::cpu {

KernelPtr make_dropout(Builder& b, const Node& node) {
  const double rate = node.attrs.number("rate");
  const auto scale = static_cast<float>(1 / (1 - rate));
  const auto kept = b.raw(node.state(0));
  if (node.gradient) {
    const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0));
    const int64_t n = count(b.shape(node.gy(0)));
    return kernel([=](const runtime::StepContext&) {
      pointwise(n, [&](int64_t i, int64_t e) {
        select().dropout_gradient(scale, kept.get<uint8_t>() + i, gy.get<float>() + i,
                                  gx.get<float>() + i, e - i);
      });
    });
  }
  const std::string_view layer = node.layer;
  const uint32_t path = path_hash(layer.substr(layer.find(' ') + 1)),
                 threshold = dropout_threshold(rate);
  const auto x = b.in(node.x(0)), y = b.out(node.y(0));
  const int64_t images = b.shape(node.x(0))[0], size = count(b.shape(node.x(0))) / images;
  return kernel([=](const runtime::StepContext& context) {
    threads::parallel_for(images, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        select().dropout(context.seed, path, context.scalars.index, n, threshold, scale,
                         x.get<float>() + n * size, y.get<float>() + n * size,
                         kept ? kept.get<uint8_t>() + n * size : nullptr, size);
    });
  });
}

}  // namespace mpsnn::backend::cpu
