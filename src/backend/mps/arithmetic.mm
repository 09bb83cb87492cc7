// add: MPSCNNAdd on images; our own kernel where gradients of one parameter are summed.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

namespace mpsnn::backend::mps {
namespace {

class AddImages final : public Operation {
 public:
  explicit AddImages(Builder& b)
      : a_(b.node().x(0)), b_(b.node().x(1)), y_(b.node().y(0)), images_(b.home(y_)) {
    kernel_ = [[MPSCNNAdd alloc] initWithDevice:b.gpu().device()];
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *first = e.read(a_, images_), *second = e.read(b_, images_);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                          primaryImages:first
                        secondaryImages:second
                      destinationImages:e.write(y_, images_)];
  }
  std::string detail() const override { return "MPSCNNAdd"; }

 private:
  ValueId a_, b_, y_;
  Geometry images_;
  MPSCNNAdd* kernel_;
};

class AddArrays final : public Operation {
 public:
  explicit AddArrays(Builder& b)
      : a_(b.dense(b.node().x(0))),
        b_(b.dense(b.node().x(1))),
        y_(b.dense(b.node().y(0))),
        kernel_(b.gpu().pipeline("add_arrays")),
        count_{static_cast<int>(count(b.y_shape()))} {}
  void encode(Encoding& e) override {
    const Buffer first = e.load(a_), second = e.load(b_);
    e.run(kernel_, {first, second, e.target(y_)}, count_, count_.count);
    e.store(y_);
  }
  std::string detail() const override { return "own kernel"; }

 private:
  Dense a_, b_, y_;
  PipelineRef kernel_;
  CountParams count_;
};

}  // namespace

std::unique_ptr<Operation> make_add(Builder& b) {
  if (b.in_images(b.node().y(0))) return std::make_unique<AddImages>(b);
  return std::make_unique<AddArrays>(b);
}

}  // namespace mpsnn::backend::mps
