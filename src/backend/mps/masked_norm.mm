// batch_norm of sequences with lengths, by our own kernels: MPS's statistics know no padding.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/own.h"

namespace mpsnn::backend::mps {
namespace {

MaskedNormParams parameters(Builder& b) {
  const Shape& x = b.x_shape(0);
  MaskedNormParams p{};
  p.images = static_cast<int>(x[0]);
  p.width = static_cast<int>(x[x.size() - 2]);
  p.channels = static_cast<int>(x.back());
  p.rows = static_cast<int>(count(x) / x.back());
  p.training = b.attrs().flag("training") ? 1 : 0;
  p.epsilon = static_cast<float>(b.attrs().number("epsilon"));
  return p;
}

std::unique_ptr<Operation> forward(Builder& b) {
  const Node& n = b.node();
  const MaskedNormParams p = parameters(b);
  const int elements = p.rows * p.channels;
  const auto channel_bytes = static_cast<std::size_t>(p.channels) * 4;
  const Dense x = b.dense(n.x(0)), y = b.dense(n.y(0));
  const std::size_t terms = b.scratch(static_cast<std::size_t>(elements) * 4);
  const Reduction sums = column_sums(b, p.rows, p.channels);
  return own_kernels([=, &n](Encoding& e) {
    const auto run = [&](const char* kernel, std::initializer_list<Buffer> buffers, int threads) {
      e.run(e.gpu().pipeline(kernel), buffers, p, threads);
    };
    const Buffer from = e.load(x), lengths = e.buffer(n.x(5)), mean = e.buffer(n.state(0)),
                 variance = e.buffer(n.state(1)), number = e.buffer(n.state(2));
    run("count_rows", {lengths, number}, 1);
    if (p.training == 0) {
      e.copy(e.buffer(n.x(3)), mean, channel_bytes);
      e.copy(e.buffer(n.x(4)), variance, channel_bytes);
    } else {
      run("masked_values", {from, lengths, e.scratch(terms)}, elements);
      sums.run(e, e.scratch(terms), mean);
      run("divide_by_rows", {number, mean}, p.channels);
      run("masked_squares", {from, lengths, mean, e.scratch(terms)}, elements);
      sums.run(e, e.scratch(terms), variance);
      run("divide_by_rows", {number, variance}, p.channels);
    }
    run("masked_norm",
        {from, lengths, mean, variance, e.buffer(n.x(1)), e.buffer(n.x(2)), e.target(y)}, elements);
    e.store(y);
  });
}

std::unique_ptr<Operation> gradient(Builder& b) {
  const Node& n = b.node();
  const MaskedNormParams p = parameters(b);
  const int elements = p.rows * p.channels;
  const auto array = [&](int values) { return b.scratch(static_cast<std::size_t>(values) * 4); };
  const Dense x = b.dense(n.x(0)), gy = b.dense(n.gy(0)), gx = dense_or_none(b, n.gx(0));
  const std::size_t counted = array(elements), dots = array(elements), by_bias = array(p.channels),
                    by_weight = array(p.channels);
  const Reduction sums = column_sums(b, p.rows, p.channels);
  return own_kernels([=, &n](Encoding& e) {
    const auto run = [&](const char* kernel, std::initializer_list<Buffer> buffers, int threads) {
      e.run(e.gpu().pipeline(kernel), buffers, p, threads);
    };
    const Buffer from = e.load(x), g = e.load(gy), lengths = e.buffer(n.x(5)),
                 mean = e.buffer(p.training != 0 ? n.state(0) : n.x(3)),
                 variance = e.buffer(p.training != 0 ? n.state(1) : n.x(4)),
                 gw = n.gx(1) != kNone ? e.buffer(n.gx(1)) : e.scratch(by_weight),
                 gb = n.gx(2) != kNone ? e.buffer(n.gx(2)) : e.scratch(by_bias);
    run("masked_gradient_terms",
        {from, g, lengths, mean, variance, e.scratch(counted), e.scratch(dots)}, elements);
    sums.run(e, e.scratch(counted), gb);
    sums.run(e, e.scratch(dots), gw);
    if (gx.value == kNone) return;
    run("masked_norm_gradient",
        {from, g, lengths, mean, variance, e.buffer(n.x(1)), gb, gw, e.buffer(n.state(2)),
         e.target(gx)},
        elements);
    e.store(gx);
  });
}

}  // namespace

std::unique_ptr<Operation> make_masked_norm(Builder& b) {
  return b.node().gradient ? gradient(b) : forward(b);
}

}  // namespace mpsnn::backend::mps
