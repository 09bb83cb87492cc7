#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/unary.h"

namespace mpsnn::backend::mps {
namespace {

class Unary final : public Operation {
 public:
  Unary(Builder& b, KernelRef kernel, const char* name, bool keeps)
      : x_(b.node().x(0)),
        y_(b.node().y(0)),
        images_(geometry_of(b.y_shape())),
        keeper_(keeps ? b.keeper() : -1),
        kernel_(kernel),
        name_(name) {
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(x_, images_), *y = e.write(y_, images_);
    e.forward(kernel_, x, y, keeper_);
  }
  std::string detail() const override { return name_; }

 private:
  ValueId x_, y_;
  Geometry images_;
  int keeper_;
  KernelRef kernel_;
  const char* name_;
};

class UnaryGradient final : public Operation {
 public:
  UnaryGradient(Builder& b, GradientKernelRef kernel, ValueId source, const char* name)
      : source_(source),
        gy_(b.node().gy(0)),
        gx_(b.node().gx(0)),
        images_(geometry_of(b.y_shape())),
        forward_(b.forward()),
        kernel_(kernel),
        name_(name) {
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *gy = e.read(gy_, images_), *source = e.read(source_, images_);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                        sourceGradients:gy
                           sourceImages:source
                         gradientStates:e.take_states(forward_)
                   destinationGradients:e.write(gx_, images_)];
  }
  std::string detail() const override { return name_; }

 private:
  ValueId source_, gy_, gx_;
  Geometry images_;
  int forward_;
  GradientKernelRef kernel_;
  const char* name_;
};

}  // namespace

std::unique_ptr<Operation> make_unary(Builder& b, KernelRef kernel, const char* name, bool keeps) {
  return std::make_unique<Unary>(b, kernel, name, keeps);
}
std::unique_ptr<Operation> make_unary_gradient(Builder& b, GradientKernelRef kernel, ValueId source,
                                               const char* name) {
  return std::make_unique<UnaryGradient>(b, kernel, source, name);
}

}  // namespace mpsnn::backend::mps
