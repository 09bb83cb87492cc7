// Dropout by the stream of core/random.h; state: one byte a drawn number, 1 where it is kept. A
// number is drawn for each element of an image or, `spatial`, for each channel.
#include "backend/reference/reference.h"
#include "core/random.h"

namespace mpsnn::backend::reference {
namespace {

int64_t drawn(const Call& c, const Shape& shape) {
  return c.attrs().flag("spatial") ? shape.back() : count(shape) / shape[0];
}

}  // namespace

void dropout(Call& c) {
  const int64_t images = c.x_shape(0)[0], size = count(c.x_shape(0)) / images,
                numbers = drawn(c, c.x_shape(0));
  const double rate = c.attrs().number("rate");
  const std::string& layer = c.node().layer;
  const uint32_t path = path_hash(std::string_view(layer).substr(layer.find(' ') + 1));
  const uint32_t threshold = dropout_threshold(rate);
  auto* kept = c.raw_state<uint8_t>(0);
  const double* x = c.x(0);
  double* y = c.y(0);
  each(images, 50 * size, [&](int64_t n) {
    for (int64_t e = 0; e < numbers; ++e) {
      const Philox words = dropout_words(c.step().seed, path, c.step().scalars.index, n, e / 4);
      const bool keep = words[static_cast<std::size_t>(e % 4)] >= threshold;
      if (kept != nullptr) kept[n * numbers + e] = keep;
      for (int64_t at = n * size + e; at < (n + 1) * size; at += numbers)
        y[at] = keep ? x[at] / (1 - rate) : 0;
    }
  });
}

void dropout_gradient(Call& c) {
  const double rate = c.attrs().number("rate");
  const auto* kept = c.raw_state<uint8_t>(0);
  const int64_t images = c.y_shape()[0], size = count(c.y_shape()) / images,
                numbers = drawn(c, c.y_shape());
  const double* gy = c.gy(0);
  double* gx = c.gx(0);
  each(images * size, 1, [&](int64_t i) {
    gx[i] = kept[i / size * numbers + i % numbers] != 0 ? gy[i] / (1 - rate) : 0;
  });
}

}  // namespace mpsnn::backend::reference
