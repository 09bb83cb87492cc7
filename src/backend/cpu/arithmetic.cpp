// Sums, differences, products and quotients of broadcast operands. A gradient by a repeated operand
// is a reduction: Reducer sums it without an array of the terms.
#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"
#include "backend/cpu/loops.h"
#include "backend/cpu/reducer.h"

namespace mpsnn::backend::cpu {
namespace {

KernelPtr forward(Builder& b, const Node& node, Binary op) {
  const Shape& shape = b.shape(node.y(0));
  const Loops<3> loops(shape,
                       {ir::broadcast_strides(b.shape(node.x(0)), shape),
                        ir::broadcast_strides(b.shape(node.x(1)), shape), b.strides(node.y(0))});
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1)), y = b.out(node.y(0));
  return kernel([=](const runtime::StepContext&) {
    loops.run([&](const auto& at, const Tile<3>& tile) {
      select().binary(op, tile, x0.get<float>() + at[0], x1.get<float>() + at[1],
                      y.get<float>() + at[2]);
    });
  });
}

// Of one shape: the neuron is applied while the sum is in cache.
KernelPtr sum_and_neuron(Builder& b, const Node& node) {
  const auto x0 = b.in(node.x(0)), x1 = b.in(node.x(1)), y = b.out(node.y(0));
  const int64_t n = count(b.shape(node.y(0)));
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

// gx = sum of op(gy, other) over the repetitions of x, times `scale`; `other` is absent for a sum
// of gy alone. Where x has the result's shape, nothing is summed. Then gx is divided twice by
// `divisor`, if there is one: the gradient by a divisor.
class OperandGradient {
 public:
  OperandGradient(Builder& b, const Node& node, int k, Binary op, ValueId other, ValueId divisor,
                  float scale)
      : op_(op), scale_(scale), outputs_(count(b.shape(node.gx(k)))) {
    const Shape &shape = b.shape(node.gy(0)), &x = b.shape(node.gx(k));
    gy_ = b.in(node.gy(0));
    other_ = b.in(other);
    divisor_ = b.in(divisor);
    gx_ = b.out(node.gx(k));
    const auto g = b.strides(node.gy(0));
    const auto o = other == kNone ? std::vector<int64_t>(shape.size(), 0)
                                  : ir::broadcast_strides(b.shape(other), shape);
    const auto to = ir::broadcast_strides(x, shape);
    if (outputs_ == count(shape))
      loops_ = Loops<3>(shape, {g, o, to});
    else
      reducer_ = Reducer(b, reduction(), shape, {g, o, to}, outputs_);
  }

  void run() const {
    if (reducer_) {
      reducer_.run(gy_.get<float>(), other_.get<float>(), scale_, gx_.get<float>());
    } else {
      loops_.run([&](const auto& at, const Tile<3>& tile) { some(at, tile); });
    }
    if (divisor_) pointwise(outputs_, [&](int64_t begin, int64_t end) { divide(begin, end); });
  }
  // Whether elements begin..end of gx are those of every operand.
  bool dense() const { return !reducer_ && loops_.rows() == 1; }
  void run(int64_t begin, int64_t end) const {
    loops_.tiles(0, 1, [&](Loops<3>::At at, Tile<3> tile) {
      for (std::size_t k = 0; k < 3; ++k) at[k] += begin * tile.inner[k];
      tile.n = end - begin;
      some(at, tile);
    });
    divide(begin, end);
  }

 private:
  void some(const Loops<3>::At& at, const Tile<3>& tile) const {
    const float* factor = other_ ? other_.get<float>() : &scale_;
    select().binary(op_, tile, gy_.get<float>() + at[0], factor + at[1], gx_.get<float>() + at[2]);
  }
  void divide(int64_t begin, int64_t end) const {
    if (!divisor_) return;
    auto* gx = gx_.get<float>();
    const auto* divisor = divisor_.get<float>();
    for (int64_t i = begin; i < end; ++i) gx[i] = -gx[i] / divisor[i] / divisor[i];
  }
  Reduce reduction() const {
    if (!other_) return Reduce::sum;
    return op_ == Binary::multiply ? Reduce::dot : Reduce::quotient;
  }
  Binary op_;
  float scale_;
  int64_t outputs_;
  runtime::Ref gy_, other_, divisor_, gx_;
  Loops<3> loops_;
  Reducer reducer_;
};

struct Term {
  Binary op;
  ValueId other, divisor;
  float scale;
};

KernelPtr gradient(Builder& b, const Node& node, const Term& first, const Term& second) {
  std::vector<OperandGradient> by;
  for (const int k : {1, 0}) {  // output 0 last: it may overwrite the gradient that both read
    const Term& t = k == 0 ? first : second;
    if (node.gx(k) != kNone) by.emplace_back(b, node, k, t.op, t.other, t.divisor, t.scale);
  }
  const bool dense =
      std::all_of(by.begin(), by.end(), [](const OperandGradient& g) { return g.dense(); });
  const int64_t n = count(b.shape(node.gy(0)));
  return kernel([by = std::move(by), dense, n](const runtime::StepContext&) {
    if (!dense) {
      for (const OperandGradient& g : by) g.run();
      return;
    }
    pointwise(n, [&](int64_t begin, int64_t end) {  // both while the operands are in cache
      constexpr int64_t kTile = 2048;
      for (int64_t i = begin; i < end; i += kTile)
        for (const OperandGradient& g : by) g.run(i, std::min(i + kTile, end));
    });
  });
}

}  // namespace

KernelPtr make_add(Builder& b, const Node& node) {
  if (!node.gradient)
    return node.attrs.has("neuron") ? sum_and_neuron(b, node) : forward(b, node, Binary::add);
  const Term sum{Binary::multiply, kNone, kNone, 1};
  return gradient(b, node, sum, sum);
}

namespace {

template <class T>
KernelPtr add_n(Builder& b, const Node& node) {
  std::vector<runtime::Ref> x;
  for (const ValueId v : node.inputs) x.push_back(b.read<T>(v));
  const auto y = b.write<T>(node.y(0));
  const int64_t n = count(b.shape(node.y(0)));
  std::vector<const T*> from(x.size());
  return kernel([=](const runtime::StepContext&) mutable {
    for (std::size_t k = 0; k < x.size(); ++k) from[k] = x[k].template get<T>();
    pointwise(n, [&](int64_t begin, int64_t end) {
      images<T>().sum(from.data(), static_cast<int64_t>(from.size()), begin, end,
                      y.template get<T>());
    });
  });
}

}  // namespace

KernelPtr make_add_n(Builder& b, const Node& node) {
  const auto bfloat = [&](ValueId v) { return b.dtype(v) == DType::bfloat16; };
  const bool all = bfloat(node.y(0)) && std::all_of(node.inputs.begin(), node.inputs.end(), bfloat);
  return all ? add_n<uint16_t>(b, node) : add_n<float>(b, node);
}

KernelPtr make_subtract(Builder& b, const Node& node) {
  if (!node.gradient) return forward(b, node, Binary::subtract);
  return gradient(b, node, {Binary::multiply, kNone, kNone, 1},
                  {Binary::multiply, kNone, kNone, -1});
}

KernelPtr make_multiply(Builder& b, const Node& node) {
  if (!node.gradient) return forward(b, node, Binary::multiply);
  return gradient(b, node, {Binary::multiply, node.x(1), kNone, 1},
                  {Binary::multiply, node.x(0), kNone, 1});
}

KernelPtr make_divide(Builder& b, const Node& node) {
  if (!node.gradient) return forward(b, node, Binary::divide);
  const Shape& shape = b.shape(node.gy(0));
  if (b.shape(node.x(1)) == shape && b.shape(node.x(0)) == shape &&
      b.pitch(node.gy(0)) == b.channels(node.gy(0))) {
    const auto gy = b.in(node.gy(0)), x0 = b.in(node.x(0)), x1 = b.in(node.x(1)),
               gx0 = b.out(node.gx(0)), gx1 = b.out(node.gx(1));
    const auto at = [](const runtime::Ref& ref, int64_t i) {
      return ref ? ref.get<float>() + i : nullptr;
    };
    return kernel([=, n = count(shape)](const runtime::StepContext&) {
      pointwise(n, [&](int64_t i, int64_t end) {
        select().divide_gradient(at(gy, i), at(x0, i), at(x1, i), at(gx0, i), at(gx1, i), end - i);
      });
    });
  }
  return gradient(b, node, {Binary::divide, node.x(1), kNone, 1},
                  {Binary::multiply, node.x(0), node.x(1), 1});
}

}  // namespace mpsnn::backend::cpu
