// Normalisation by groups, rows and windows, by our own kernels. MPS's group and instance
// normalisation want a weight and a bias and leave their gradients image by image; it has none of
// rows; and of its local ones the gradients, and the contrast's statistics at the edges, are not
// documented well enough.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>

#include "backend/mps/own.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::mps {
namespace {

// Four axes (images, pixels, groups, channels of one), or two (rows, columns); which of them a set
// spans, and which a channel does not.
struct Sets {
  explicit Sets(Builder& b) {
    const Shape& x = b.x_shape(0);
    if (b.node().op == Op::group_norm) {
      const int64_t groups = b.attrs().integer("groups"), channels = x.back();
      shape = {x[0], count(x) / x[0] / channels, groups, channels / groups};
      set = {groups, 0, 1, 0};
      channel = {0, 0, channels / groups, 1};
      spans = {1, 3};
      shared = {0, 1};
    } else {
      const auto axes = static_cast<std::size_t>(b.attrs().integer("axes"));
      const int64_t size = count(Shape(x.end() - static_cast<std::ptrdiff_t>(axes), x.end()));
      shape = {count(x) / size, size};
      set = {1, 0};
      channel = {0, 1};
      spans = {1};
      shared = {0};
    }
    elements = count(shape);
    size = 1;
    for (const int64_t axis : spans) size *= shape[static_cast<std::size_t>(axis)];
  }
  Shape shape;
  std::vector<int64_t> set, channel, spans, shared;
  int64_t elements, size;
};

std::unique_ptr<Operation> set_norm(Builder& b) {
  const Node& n = b.node();
  const Sets s(b);
  SetParams p{};
  p.place = strided(s.shape, s.set, s.channel);
  const auto operand = [&](int i) { return i < n.nx ? n.x(i) : kNone; };
  p.weighted = operand(1) != kNone;
  p.biased = operand(2) != kNone;
  const Dense x = b.dense(n.x(0)), w = dense_or_none(b, operand(1)),
              bias = dense_or_none(b, operand(2)), y = b.dense(n.y(0));
  const ValueId means = n.state(0), inverses = n.state(1);
  const std::size_t squares = b.scratch(static_cast<std::size_t>(s.elements) * 4);
  const Reduction mean(b, s.shape, s.spans, kReduceSum, 1 / static_cast<double>(s.size));
  const ScaleParams invert{static_cast<int>(s.elements / s.size),
                           static_cast<float>(b.attrs().number("epsilon")), 0};
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x), m = e.buffer(means), v = e.buffer(inverses);
    const Buffer weight = p.weighted != 0 ? e.load(w) : from,
                 shift = p.biased != 0 ? e.load(bias) : from;
    mean.run(e, from, m);
    e.run(e.gpu().pipeline("centred_squares"), {from, m, e.scratch(squares)}, p.place,
          p.place.count);
    mean.run(e, e.scratch(squares), v);
    e.run(e.gpu().pipeline("inverse_deviations"), {v}, invert, invert.count);
    e.run(e.gpu().pipeline("normalize_sets"), {from, m, v, weight, shift, e.target(y)}, p,
          p.place.count);
    e.store(y);
  });
}

std::unique_ptr<Operation> set_norm_gradient(Builder& b) {
  const Node& n = b.node();
  const Sets s(b);
  SetParams p{};
  p.place = strided(s.shape, s.set, s.channel);
  const auto wanted = [&](int i) { return i < n.nx ? n.gx(i) : kNone; };
  const ValueId weight = n.nx > 1 ? n.x(1) : kNone;
  p.weighted = weight != kNone;
  const Dense x = b.dense(n.x(0)), w = dense_or_none(b, weight), gy = b.dense(n.gy(0)),
              gx = dense_or_none(b, n.gx(0)), gw = dense_or_none(b, wanted(1)),
              gb = dense_or_none(b, wanted(2));
  const ValueId means = n.state(0), inverses = n.state(1);
  const auto array = [&](int64_t elements) {
    return b.scratch(static_cast<std::size_t>(elements) * 4);
  };
  const std::size_t inner = array(s.elements), dots = array(s.elements),
                    by_weight = array(s.elements), inner_means = array(s.elements / s.size),
                    dot_means = array(s.elements / s.size);
  const Reduction mean(b, s.shape, s.spans, kReduceSum, 1 / static_cast<double>(s.size));
  const Reduction channels(b, s.shape, s.shared);
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x), g = e.load(gy), m = e.buffer(means), v = e.buffer(inverses);
    const Buffer scale = p.weighted != 0 ? e.load(w) : from;
    e.run(e.gpu().pipeline("set_gradient_parts"),
          {from, g, m, v, scale, e.scratch(inner), e.scratch(dots), e.scratch(by_weight)}, p,
          p.place.count);
    if (gw.value != kNone) {
      channels.run(e, e.scratch(by_weight), e.target(gw));
      e.store(gw);
    }
    if (gb.value != kNone) {
      channels.run(e, g, e.target(gb));
      e.store(gb);
    }
    if (gx.value == kNone) return;
    mean.run(e, e.scratch(inner), e.scratch(inner_means));
    mean.run(e, e.scratch(dots), e.scratch(dot_means));
    e.run(
        e.gpu().pipeline("set_gradient"),
        {from, e.scratch(inner), m, v, e.scratch(inner_means), e.scratch(dot_means), e.target(gx)},
        p.place, p.place.count);
    e.store(gx);
  });
}

// `mirrored`: whose window an element is in, for gradients.
LocalParams window(Builder& b, bool mirrored) {
  const Attrs& a = b.attrs();
  const Geometry x = geometry_of(b.x_shape(0));
  const int64_t size = a.integer("size");
  LocalParams p{};
  p.count = static_cast<int>(x.count());
  p.h = static_cast<int>(x.h);
  p.w = static_cast<int>(x.w);
  p.c = static_cast<int>(x.c);
  p.space = a.text("across", "space") == "space" ? 1 : 0;
  p.before = static_cast<int>(std::min<int64_t>(size / 2, INT32_MAX / 4));
  p.after = static_cast<int>(std::min<int64_t>((size - 1) / 2, INT32_MAX / 4));
  if (mirrored) std::swap(p.before, p.after);
  p.divisor = static_cast<float>(size) * (p.space != 0 ? static_cast<float>(size) : 1.0f);
  const auto number = [&](const char* name) { return static_cast<float>(a.number(name)); };
  p.alpha = number("alpha");
  p.beta = number("beta");
  if (b.node().op == Op::local_response_norm) {
    p.delta = number("k");
    return p;
  }
  p.delta = number("delta");
  p.p0 = number("p0");
  p.pm = number("pm");
  p.ps = number("ps");
  return p;
}

}  // namespace

std::unique_ptr<Operation> make_set_norm(Builder& b) {
  return b.node().gradient ? set_norm_gradient(b) : set_norm(b);
}

std::unique_ptr<Operation> make_local_norm(Builder& b) {
  const Node& n = b.node();
  const bool response = n.op == Op::local_response_norm, gradient = n.gradient;
  const LocalParams p = window(b, false), back = window(b, true);
  const Dense x = b.dense(n.x(0)), gy = gradient ? b.dense(n.gy(0)) : Dense{},
              to = b.dense(gradient ? n.gx(0) : n.y(0));
  std::size_t arrays[6];
  for (std::size_t& array : arrays) array = b.scratch(static_cast<std::size_t>(p.count) * 4);
  const std::size_t squares = arrays[0], sums = arrays[1], scales = arrays[2], direct = arrays[3],
                    first = arrays[4], second = arrays[5];
  return own_kernels([=](Encoding& e) {
    const auto run = [&](const char* name, std::initializer_list<Buffer> buffers,
                         const LocalParams& parameters) {
      e.run(e.gpu().pipeline(name), buffers, parameters, parameters.count);
    };
    const Buffer from = e.load(x), mean = e.scratch(sums), scale = e.scratch(scales);
    const Buffer square = e.scratch(squares);
    e.run(e.gpu().pipeline("squares"), {from, square}, CountParams{p.count}, p.count);
    run("window_sums", {from, square, mean, scale}, p);
    if (!response) run("contrast_statistics", {from, mean, scale}, p);
    if (!gradient) {
      if (response)
        run("response_norm", {from, scale, e.target(to)}, p);
      else
        run("contrast_norm", {from, mean, scale, e.target(to)}, p);
      e.store(to);
      return;
    }
    const Buffer g = e.load(gy), passed = e.scratch(direct), a = e.scratch(first),
                 c = e.scratch(second);
    if (response) {
      run("response_gradient_parts", {from, scale, g, passed, a}, p);
      run("window_sums", {a, a, mean, c}, back);
      run("response_gradient", {from, passed, mean, e.target(to)}, p);
    } else {
      run("contrast_gradient_parts", {from, mean, scale, g, passed, a, c}, p);
      run("window_sums", {a, c, mean, square}, back);
      run("contrast_gradient", {from, passed, mean, square, e.target(to)}, p);
    }
    e.store(to);
  });
}

}  // namespace mpsnn::backend::mps
