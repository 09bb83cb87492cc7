// Dropout on MPSCNNDropout, whose random stream is its own: masks differ from the other devices'.
// Whether a kernel draws anew at each encode is not documented, so each step makes its kernels,
// with a seed of (graph's seed, layer, step): a mask depends on these alone, and a resumed run
// repeats.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/executable.h"
#include "core/random.h"

namespace mpsnn::backend::mps {
namespace {

struct Mask {
  explicit Mask(Builder& b)
      : rate(b.attrs().number("rate")),
        spatial(b.attrs().flag("spatial")),
        seed(b.plan().seed),
        layer(b.layer()) {
    path = path_hash(std::string_view(layer).substr(layer.find(' ') + 1));
  }
  float keep() const { return static_cast<float>(1 - rate); }
  NSUInteger draw(int64_t step) const {
    const Philox words = dropout_words(seed, path, step, 0, 0);
    return (static_cast<NSUInteger>(words[1]) << 32) | words[0];
  }
  // One draw an element, or a channel; a flat view has no channels but its images'.
  MTLSize stride() const { return spatial ? MTLSizeMake(0, 0, 1) : MTLSizeMake(1, 1, 1); }
  Geometry images(Builder& b, ValueId value) const {
    return spatial ? geometry_of(b.value(value).shape) : b.home(value);
  }
  double rate;
  bool spatial;
  uint64_t seed;
  std::string layer;
  uint32_t path;
};

class Dropout final : public Operation {
 public:
  explicit Dropout(Builder& b)
      : mask_(b),
        x_(b.node().x(0)),
        y_(b.node().y(0)),
        images_(mask_.images(b, y_)),
        forward_(b.forward()),
        trained_(b.gradients() > 0),
        device_(b.gpu().device()) {
    if (mask_.rate != 0) return;  // MPS wants a probability inside of (0, 1)
    copy_ = [[MPSCNNNeuron alloc] initWithDevice:device_ neuronDescriptor:describe({})];
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(x_, images_), *y = e.write(y_, images_);
    if (copy_ != nil) {
      [copy_ encodeBatchToCommandBuffer:e.commands() sourceImages:x destinationImages:y];
      return;
    }
    MPSCNNDropout* kernel = [[MPSCNNDropout alloc] initWithDevice:device_
                                                  keepProbability:mask_.keep()
                                                             seed:mask_.draw(e.scalars().index)
                                               maskStrideInPixels:mask_.stride()];
    label(kernel, mask_.layer);
    MPSStateBatch* states = e.make_states(kernel, x, y);
    [kernel encodeBatchToCommandBuffer:e.commands()
                          sourceImages:x
                     destinationStates:states
                     destinationImages:y];
    if (trained_) {
      e.keep_states(forward_, states);
      return;
    }
    for (MPSState* state in states) state.readCount = 0;
  }
  std::string detail() const override { return copy_ != nil ? "MPSCNNNeuron" : "MPSCNNDropout"; }

 private:
  Mask mask_;
  ValueId x_, y_;
  Geometry images_;
  int forward_;
  bool trained_;
  DeviceRef device_;
  MPSCNNNeuron* copy_ = nil;
};

class DropoutGradient final : public Operation {
 public:
  explicit DropoutGradient(Builder& b)
      : mask_(b),
        gy_(b.node().gy(0)),
        gx_(b.node().gx(0)),
        images_(mask_.images(b, gx_)),
        forward_(b.forward()),
        dtype_(b.plan().dtype),
        device_(b.gpu().device()) {
    if (mask_.rate == 0)
      copy_ = [[MPSCNNNeuron alloc] initWithDevice:device_ neuronDescriptor:describe({})];
  }
  void encode(Encoding& e) override {
    MPSImageBatch *gy = e.read(gy_, images_), *gx = e.write(gx_, images_);
    if (copy_ != nil) {
      [copy_ encodeBatchToCommandBuffer:e.commands() sourceImages:gy destinationImages:gx];
      return;
    }
    MPSCNNDropoutGradient* kernel =
        [[MPSCNNDropoutGradient alloc] initWithDevice:device_
                                      keepProbability:mask_.keep()
                                                 seed:mask_.draw(e.scalars().index)
                                   maskStrideInPixels:mask_.stride()];
    label(kernel, mask_.layer);
    ImagesRef sources = e.sizes(images_, dtype_);
    [kernel encodeBatchToCommandBuffer:e.commands()
                       sourceGradients:gy
                          sourceImages:sources
                        gradientStates:e.take_states(forward_)
                  destinationGradients:gx];
  }
  std::string detail() const override {
    return copy_ != nil ? "MPSCNNNeuron" : "MPSCNNDropoutGradient";
  }

 private:
  Mask mask_;
  ValueId gy_, gx_;
  Geometry images_;
  int forward_;
  DType dtype_;
  DeviceRef device_;
  MPSCNNNeuron* copy_ = nil;
};

}  // namespace

std::unique_ptr<Operation> make_dropout(Builder& b) {
  if (b.node().gradient) return std::make_unique<DropoutGradient>(b);
  return std::make_unique<Dropout>(b);
}

}  // namespace mpsnn::backend::mps
