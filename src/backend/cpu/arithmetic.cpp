// Sums, differences and products of two images, and the mean of one. They are as fast as memory, so
// plain loops do.
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

KernelPtr make_add(Builder& b, const Node& node) {
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1)), y = b.out(node.outputs[0]);
  const int64_t n = count(b.shape(node.outputs[0]));
  const Epilogue epilogue(node.attrs);
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t begin, int64_t end) {
      constexpr int64_t kTile = 4096;
      for (int64_t i = begin; i < end; i += kTile) {
        const int64_t size = std::min(kTile, end - i);
        select().add(x0.get<float>() + i, x1.get<float>() + i, y.get<float>() + i, size);
        epilogue.apply_here(y.get<float>() + i, size);
      }
    });
  });
}

KernelPtr make_add_n(Builder& b, const Node& node) {
  std::vector<runtime::Ref> x;
  for (const ValueId v : node.inputs) x.push_back(b.in(v));
  const auto y = b.out(node.y(0));
  const int64_t n = count(b.shape(node.y(0)));
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t begin, int64_t end) {
      constexpr int64_t kTile = 2048;
      for (int64_t i = begin; i < end; i += kTile) {
        const auto size = std::min(kTile, end - i);
        auto* to = y.get<float>() + i;
        const auto* from = x[0].get<float>() + i;
        for (std::size_t k = 1; k < x.size(); ++k) {
          select().add(from, x[k].get<float>() + i, to, size);
          from = to;
        }
        if (x.size() == 1) std::memcpy(to, from, static_cast<std::size_t>(size) * sizeof(float));
      }
    });
  });
}

KernelPtr make_subtract(Builder& b, const Node& node) {
  if (node.gradient) {
    const auto gy = b.in(node.gy(0)), g0 = b.out(node.gx(0)), g1 = b.out(node.gx(1));
    const int64_t n = count(b.shape(node.gy(0)));
    return kernel([=](const runtime::StepContext&) {
      pointwise(n, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; g0 && i < end; ++i) g0.get<float>()[i] = gy.get<float>()[i];
        for (int64_t i = begin; g1 && i < end; ++i) g1.get<float>()[i] = -gy.get<float>()[i];
      });
    });
  }
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1)), y = b.out(node.y(0));
  const int64_t n = count(b.shape(node.y(0)));
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t begin, int64_t end) {
      const float *p0 = x0.get<float>(), *p1 = x1.get<float>();
      auto* to = y.get<float>();
      for (int64_t i = begin; i < end; ++i) to[i] = p0[i] - p1[i];
    });
  });
}

KernelPtr make_multiply(Builder& b, const Node& node) {
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1));
  if (node.gradient) {
    const auto gy = b.in(node.gy(0)), g0 = b.out(node.gx(0)), g1 = b.out(node.gx(1));
    const int64_t n = count(b.shape(node.gy(0)));
    return kernel([=](const runtime::StepContext&) {
      pointwise(n, [&](int64_t begin, int64_t end) {
        const auto* g = gy.get<float>();
        for (int64_t i = begin; g0 && i < end; ++i) g0.get<float>()[i] = g[i] * x1.get<float>()[i];
        for (int64_t i = begin; g1 && i < end; ++i) g1.get<float>()[i] = g[i] * x0.get<float>()[i];
      });
    });
  }
  const auto y = b.out(node.y(0));
  const int64_t n = count(b.shape(node.y(0)));
  return kernel([=](const runtime::StepContext&) {
    pointwise(n, [&](int64_t begin, int64_t end) {
      const float *p0 = x0.get<float>(), *p1 = x1.get<float>();
      auto* to = y.get<float>();
      for (int64_t i = begin; i < end; ++i) to[i] = p0[i] * p1[i];
    });
  });
}

KernelPtr make_image_mean(Builder& b, const Node& node) {
  const auto x = node.gradient ? b.out(node.gx(0)) : b.in(node.x(0));
  const auto y = node.gradient ? b.in(node.gy(0)) : b.out(node.y(0));
  const Shape& shape = b.shape(node.gradient ? node.gx(0) : node.x(0));
  const int64_t images = shape[0], size = count(shape) / images;
  const bool gradient = node.gradient;
  return kernel([=](const runtime::StepContext&) {
    threads::parallel_for(images, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        auto *image = x.get<float>() + n * size, *mean = y.get<float>() + n;
        double sum = 0;
        for (int64_t i = 0; !gradient && i < size; ++i) sum += static_cast<double>(image[i]);
        if (!gradient) *mean = static_cast<float>(sum / static_cast<double>(size));
        for (int64_t i = 0; gradient && i < size; ++i) image[i] = *mean / static_cast<float>(size);
      }
    });
  });
}

}  // namespace mpsnn::backend::cpu
