// Dropout by the stream of core/random.h; state: one byte a drawn number. A number is drawn for
// each element of an image or, `spatial`, for each channel.
#include "backend/cpu/lambda.h"
#include "core/random.h"

namespace mpsnn::backend::cpu {
namespace {

// How an image's numbers are drawn.
struct Draw {
  explicit Draw(const Node& node) : rate(node.attrs.number("rate")) {
    const std::string_view layer = node.layer;
    path = path_hash(layer.substr(layer.find(' ') + 1));
    threshold = dropout_threshold(rate);
    scale = static_cast<float>(1 / (1 - rate));
  }
  void run(const runtime::StepContext& context, int64_t image, const float* x, float* y,
           uint8_t* kept, int64_t n) const {
    select().dropout(context.seed, path, context.scalars.index, image, threshold, scale, x, y, kept,
                     n);
  }
  double rate;
  uint32_t path, threshold;
  float scale;
};

KernelPtr elements(Builder& b, const Node& node) {
  const Draw draw(node);
  const auto kept = b.raw(node.state(0));
  if (node.gradient) {
    const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0));
    const int64_t n = count(b.shape(node.gy(0)));
    return kernel([=](const runtime::StepContext&) {
      pointwise(n, [&](int64_t i, int64_t e) {
        select().dropout_gradient(draw.scale, kept.get<uint8_t>() + i, gy.get<float>() + i,
                                  gx.get<float>() + i, e - i);
      });
    });
  }
  const auto x = b.in(node.x(0)), y = b.out(node.y(0));
  const int64_t images = b.shape(node.x(0))[0], size = count(b.shape(node.x(0))) / images;
  return kernel([=](const runtime::StepContext& context) {
    threads::parallel_for(images, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        draw.run(context, n, x.get<float>() + n * size, y.get<float>() + n * size,
                 kept ? kept.get<uint8_t>() + n * size : nullptr, size);
    });
  });
}

// Each image has a row of factors, 0 or the scale, in `rows`.
KernelPtr channels(Builder& b, const Node& node) {
  const Draw draw(node);
  const bool gradient = node.gradient;
  const auto kept = b.raw(node.state(0)), from = b.in(gradient ? node.gy(0) : node.x(0)),
             to = b.out(gradient ? node.gx(0) : node.y(0));
  const Shape& shape = b.shape(gradient ? node.gy(0) : node.y(0));
  const int64_t images = shape[0], size = count(shape) / images, c = shape.back();
  const auto rows = b.workspace(static_cast<std::size_t>((images + 2) * c));
  return kernel([=](const runtime::StepContext& context) {
    float *zeros = rows.get<float>() + images * c, *ones = zeros + c;
    for (int64_t k = 0; k < c; ++k) zeros[k] = 0.0f, ones[k] = 1.0f;
    threads::parallel_for(images, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        float* row = rows.get<float>() + n * c;
        auto* bytes = kept ? kept.get<uint8_t>() + n * c : nullptr;
        if (gradient)
          select().dropout_gradient(draw.scale, bytes, ones, row, c);
        else
          draw.run(context, n, ones, row, bytes, c);
        select().single.norm_apply({size / c, c, c, row, zeros, 0, 0}, from.get<float>() + n * size,
                                   to.get<float>() + n * size);
      }
    });
  });
}

}  // namespace

KernelPtr make_dropout(Builder& b, const Node& node) {
  return node.attrs.flag("spatial") ? channels(b, node) : elements(b, node);
}

}  // namespace mpsnn::backend::cpu
