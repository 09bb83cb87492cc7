// Sums and means by MPS's reductions over one axis after the other, which no gradient kernels
// belong to: these are our own, and so are extremes and reductions of more axes than images have.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>
#include <array>
#include <vector>

#include "backend/mps/own.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::mps {
namespace {

enum Along { kChannels, kRow, kColumn };

using Make = MPSNNReduceUnary* (*)(DeviceRef);
template <class Kernel>
MPSNNReduceUnary* made(DeviceRef device) {
  return [[Kernel alloc] initWithDevice:device];
}

MPSNNReduceUnary* make_kernel(Op op, Along along, DeviceRef device) {
  constexpr Make kSum[] = {made<MPSNNReduceFeatureChannelsSum>, made<MPSNNReduceRowSum>,
                           made<MPSNNReduceColumnSum>};
  constexpr Make kMean[] = {made<MPSNNReduceFeatureChannelsMean>, made<MPSNNReduceRowMean>,
                            made<MPSNNReduceColumnMean>};
  return (op == Op::reduce_sum ? kSum : kMean)[along](device);
}

// Between two reductions images are float32, in half graphs too.
class Stages final : public Operation {
 public:
  Stages(Builder& b, const Geometry& images, const std::array<bool, 3>& axes)
      : x_(b.node().x(0)), y_(b.node().y(0)), images_(images) {
    Geometry to = images_;
    const auto add = [&](Along along, int64_t& size) {
      size = 1;
      stages_.push_back({make_kernel(b.node().op, along, b.gpu().device()), to});
      label(stages_.back().kernel, b.layer());
    };
    if (axes[kChannels] && to.c != 1) add(kChannels, to.c);
    if (axes[kRow] && to.w != 1) add(kRow, to.w);
    if (axes[kColumn] && to.h != 1) add(kColumn, to.h);
    if (!stages_.empty()) return;  // else all are 1 already: any makes the copy
    if (axes[kChannels])
      add(kChannels, to.c);
    else if (axes[kRow])
      add(kRow, to.w);
    else
      add(kColumn, to.h);
  }
  void encode(Encoding& e) override {
    MPSImageBatch* from = e.read(x_, images_);
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Geometry& g = stages_[i].to;
      MPSImageBatch* to =
          i + 1 == stages_.size() ? e.write(y_, g) : e.temporary(g, DType::float32, 1);
      [stages_[i].kernel encodeBatchToCommandBuffer:e.commands()
                                       sourceImages:from
                                  destinationImages:to];
      from = to;
    }
  }
  std::string detail() const override { return "MPSNNReduce*"; }

 private:
  struct Stage {
    MPSNNReduceUnary* kernel;
    Geometry to;
  };
  ValueId x_, y_;
  Geometry images_;
  std::vector<Stage> stages_;
};

std::unique_ptr<Operation> own_reduction(Builder& b, const std::vector<int64_t>& dims) {
  const Op op = b.node().op;
  const Shape& shape = b.x_shape(0);
  const double terms = static_cast<double>(count(shape)) / static_cast<double>(count(b.y_shape()));
  const Dense x = b.dense(b.node().x(0)), y = b.dense(b.node().y(0));
  const Reduction reduction(b, shape, dims,
                            op == Op::reduce_max   ? kReduceMax
                            : op == Op::reduce_min ? kReduceMin
                                                   : kReduceSum,
                            op == Op::reduce_mean ? 1 / terms : 1);
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x);
    reduction.run(e, from, e.target(y));
    e.store(y);
  });
}

std::unique_ptr<Operation> gradient(Builder& b, const std::vector<int64_t>& dims) {
  const Node& n = b.node();
  const Shape& shape = b.x_shape(0);
  const auto places = ir::broadcast_strides(ir::reduced(shape, dims), shape);
  const Dense gy = b.dense(n.gy(0)), gx = b.dense(n.gx(0));
  if (n.op == Op::reduce_sum || n.op == Op::reduce_mean) {
    StridedParams p = strided(shape, places);
    if (n.op == Op::reduce_mean)
      p.factor = static_cast<float>(count(b.y_shape())) / static_cast<float>(count(shape));
    return own_kernels([=](Encoding& e) {
      const Buffer from = e.load(gy);
      e.run(e.gpu().pipeline("expand_array"), {from, e.target(gx)}, p, p.count);
      e.store(gx);
    });
  }
  const StridedParams p = strided(shape, std::vector<int64_t>(shape.size(), 0), places);
  const Dense x = b.dense(n.x(0)), y = b.dense(n.y(0));
  const std::size_t wins = b.scratch(static_cast<std::size_t>(count(shape)) * 4),
                    ties = b.scratch(static_cast<std::size_t>(count(b.y_shape())) * 4);
  const Reduction sum(b, shape, dims);
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x), extreme = e.load(y), g = e.load(gy);
    e.run(e.gpu().pipeline("find_equal"), {from, extreme, e.scratch(wins)}, p, p.count);
    sum.run(e, e.scratch(wins), e.scratch(ties));
    e.run(e.gpu().pipeline("share_gradient"), {e.scratch(wins), e.scratch(ties), g, e.target(gx)},
          p, p.count);
    e.store(gx);
  });
}

}  // namespace

std::unique_ptr<Operation> make_reduction(Builder& b) {
  const auto& dims = b.attrs().integers("dims");
  if (b.node().gradient) return gradient(b, dims);
  const std::size_t rank = b.x_shape(0).size();
  // MPS does not say what becomes of NaN among extremes; here it is the extreme.
  const bool extreme = b.node().op == Op::reduce_max || b.node().op == Op::reduce_min;
  if (extreme || dims.empty() || (rank > 4 && dims.size() + 1 != rank))
    return own_reduction(b, dims);
  // Of whole images any form will do, that of a view too.
  if (dims.size() + 1 == rank)
    return std::make_unique<Stages>(b, b.home(b.node().x(0)),
                                    std::array<bool, 3>{true, true, true});
  const auto has = [&](std::size_t from_end) {
    return std::find(dims.begin(), dims.end(), static_cast<int64_t>(rank - from_end)) != dims.end();
  };
  const std::array<bool, 3> axes{has(1), has(2), rank == 4 && has(3)};
  return std::make_unique<Stages>(b, geometry_of(b.x_shape(0)), axes);
}

}  // namespace mpsnn::backend::mps
