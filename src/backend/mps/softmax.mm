// Softmax over channels. MPSCNNSoftMaxGradient takes the forward output.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/executable.h"

namespace mpsnn::backend::mps {
namespace {

class Softmax final : public Operation {
 public:
  explicit Softmax(Builder& b)
      : x_(b.node().x(0)),
        y_(b.node().y(0)),
        images_(geometry_of(b.y_shape())),
        forward_(b.forward()),
        trained_(b.has_gradient()) {
    kernel_ = [[MPSCNNSoftMax alloc] initWithDevice:b.gpu().device()];
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(x_, images_), *y = e.write(y_, images_);
    if (!trained_) {
      [kernel_ encodeBatchToCommandBuffer:e.commands() sourceImages:x destinationImages:y];
      return;
    }
    MPSStateBatch* states = e.make_states(kernel_, x, y);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                           sourceImages:x
                      destinationStates:states
                      destinationImages:y];
    e.keep_states(forward_, states);
  }
  std::string detail() const override { return "MPSCNNSoftMax"; }

 private:
  ValueId x_, y_;
  Geometry images_;
  int forward_;
  bool trained_;
  MPSCNNSoftMax* kernel_;
};

class SoftmaxGradient final : public Operation {
 public:
  explicit SoftmaxGradient(Builder& b)
      : y_(b.node().y(0)),
        gy_(b.node().gy(0)),
        gx_(b.node().gx(0)),
        images_(geometry_of(b.y_shape())),
        forward_(b.forward()) {
    kernel_ = [[MPSCNNSoftMaxGradient alloc] initWithDevice:b.gpu().device()];
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *gy = e.read(gy_, images_), *y = e.read(y_, images_);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                        sourceGradients:gy
                           sourceImages:y
                         gradientStates:e.take_states(forward_)
                   destinationGradients:e.write(gx_, images_)];
  }
  std::string detail() const override { return "MPSCNNSoftMaxGradient"; }

 private:
  ValueId y_, gy_, gx_;
  Geometry images_;
  int forward_;
  MPSCNNSoftMaxGradient* kernel_;
};

}  // namespace

std::unique_ptr<Operation> make_softmax(Builder& b) {
  if (b.node().gradient) return std::make_unique<SoftmaxGradient>(b);
  return std::make_unique<Softmax>(b);
}

}  // namespace mpsnn::backend::mps
