// neuron and prelu.
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"

namespace mpsnn::backend::cpu {

namespace {

// f(first element of a dense image, the same of one whose pixels are `pitch` apart, elements).
template <class F>
void runs(int64_t n, int64_t c, int64_t pitch, F f) {
  if (pitch == c) return pointwise(n, [&](int64_t i, int64_t e) { f(i, i, e - i); });
  threads::parallel_for(n / c, 1 + 16384 / c, [&](int64_t r, int64_t e) {
    for (; r < e; ++r) f(r * c, r * pitch, c);
  });
}

}  // namespace

KernelPtr make_neuron(Builder& b, const Node& node) {
  const ir::NeuronSpec spec = ir::neuron_of(node.attrs);
  const NeuronParams params = params_of(spec);
  const ValueId whole = node.gradient ? node.gy(0) : node.y(0);
  const int64_t n = count(b.shape(whole)), c = b.channels(whole), pitch = b.pitch(whole);
  if (!node.gradient) {
    const auto x = b.in(node.x(0)), y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      runs(n, c, pitch, [&](int64_t i, int64_t o, int64_t size) {
        select().neuron(params, x.get<float>() + i, y.get<float>() + o, size);
      });
    });
  }
  const auto gy = b.in(node.gy(0)), gx = b.out(node.gx(0)),
             from = b.in(ir::gradient_from_output(spec) ? node.y(0) : node.x(0));
  return kernel([=](const runtime::StepContext&) {
    runs(n, c, pitch, [&](int64_t i, int64_t o, int64_t size) {
      select().neuron_gradient(params, gy.get<float>() + o, from.get<float>() + i,
                               gx.get<float>() + i, size);
    });
  });
}

KernelPtr make_prelu(Builder& b, const Node& node) {
  const auto slopes = b.in(node.x(1)), x = b.in(node.x(0)),
             y = node.gradient ? b.in(node.gy(0)) : b.out(node.y(0));
  const Shape& shape = b.shape(node.gradient ? node.gy(0) : node.y(0));
  const int64_t given = count(b.shape(node.x(1))), n = count(shape);
  // Slopes are repeated, so that loops are long whatever the number of channels.
  const int64_t period = given * ((255 + given) / given), periods = (n + period - 1) / period;
  const auto repeated = b.workspace(static_cast<std::size_t>(period));
  const auto repeat = [=] {
    for (int64_t k = 0; k < period; ++k) repeated.get<float>()[k] = slopes.get<float>()[k % given];
  };
  const int64_t grain = 1 + 16384 / period;
  if (!node.gradient)
    return kernel([=](const runtime::StepContext&) {
      repeat();
      threads::parallel_for(periods, grain, [&](int64_t begin, int64_t end) {
        const int64_t first = begin * period, last = std::min(n, end * period);
        select().prelu(repeated.get<float>(), period, x.get<float>() + first,
                       y.get<float>() + first, last - first);
      });
    });
  const auto gx = b.out(node.gx(0)), gs = b.out(node.gx(1));
  const int64_t team = threads::team();
  const int64_t pitch = apart<double>(period);
  const auto parts = b.scratch(static_cast<std::size_t>(team * pitch) * sizeof(double));
  return kernel([=](const runtime::StepContext&) {
    repeat();
    auto* sums = parts.get<double>();
    std::memset(sums, 0, static_cast<std::size_t>(team * pitch) * sizeof(double));
    threads::parallel_for(team, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t first = periods * t / team * period,
                      last = std::min(n, periods * (t + 1) / team * period);
        select().prelu_gradient(repeated.get<float>(), period, y.get<float>() + first,
                                x.get<float>() + first, gx ? gx.get<float>() + first : nullptr,
                                gs ? sums + t * pitch : nullptr, last - first);
      }
    });
    if (!gs) return;
    for (int64_t k = 0; k < given; ++k) {
      double sum = 0;
      for (int64_t t = 0; t < team; ++t)
        for (int64_t i = k; i < period; i += given) sum += sums[t * pitch + i];
      gs.get<float>()[k] = static_cast<float>(sum);
    }
  });
}

}  // namespace mpsnn::backend::cpu
