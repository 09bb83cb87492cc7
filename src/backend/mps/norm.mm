// batch_norm on MPS's four kernels, which share one state of the step. Scale, shift and running
// statistics are read from their parameters' buffers. With fixed statistics, whose gradient MPS
// does not have, the gradient is our own.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

@interface MpsnnNorm : NSObject <MPSCNNBatchNormalizationDataSource>
- (instancetype)initWithChannels:(NSUInteger)channels epsilon:(float)epsilon label:(NSString*)label;
@end

@implementation MpsnnNorm {
  NSUInteger _channels;
  float _epsilon;
  NSString* _label;
  std::vector<float> _zeros;
}
- (instancetype)initWithChannels:(NSUInteger)channels
                         epsilon:(float)epsilon
                           label:(NSString*)label {
  if ((self = [super init])) {
    _channels = channels;
    _epsilon = epsilon;
    _label = label;
  }
  return self;
}
- (NSUInteger)numberOfFeatureChannels {
  return _channels;
}
- (float*)gamma {
  return _zeros.data();
}
- (float*)beta {
  return _zeros.data();
}
- (float*)mean {
  return _zeros.data();
}
- (float*)variance {
  return _zeros.data();
}
- (BOOL)load {
  _zeros.assign(_channels, 0.0f);
  return YES;
}
- (void)purge {
  _zeros = {};
}
- (NSString*)label {
  return _label;
}
- (float)epsilon {
  return _epsilon;
}
- (id)copyWithZone:(NSZone*)zone {
  return [[MpsnnNorm allocWithZone:zone] initWithChannels:_channels epsilon:_epsilon label:_label];
}
@end

namespace mpsnn::backend::mps {
namespace {

class BatchNorm final : public Operation {
 public:
  explicit BatchNorm(Builder& b)
      : node_(b.node()),
        images_(geometry_of(b.y_shape())),
        forward_(b.forward()),
        training_(b.attrs().flag("training")),
        trained_(training_ && b.gradients() > 0),
        bytes_(static_cast<std::size_t>(images_.c) * 4) {
    MpsnnNorm* source =
        [[MpsnnNorm alloc] initWithChannels:static_cast<NSUInteger>(images_.c)
                                    epsilon:static_cast<float>(b.attrs().number("epsilon"))
                                      label:@(b.layer().c_str())];
    kernel_ = [[MPSCNNBatchNormalization alloc] initWithDevice:b.gpu().device() dataSource:source];
    kernel_.epsilon = static_cast<float>(b.attrs().number("epsilon"));
    label(kernel_, b.layer());
    // A buffer that holds more than the channels (a staged input) is copied out first.
    for (int i = 1; i < b.node().nx; ++i)
      if (b.node().x(i) != kNone && b.value(b.node().x(i)).kind == ValueKind::input)
        copies_[i - 1] = b.gpu().buffer(bytes_, Use::gpu);
    if (!training_) return;
    statistics_ = [[MPSCNNBatchNormalizationStatistics alloc] initWithDevice:b.gpu().device()];
    label(statistics_, b.layer());
  }

  void encode(Encoding& e) override {
    BufferRef gamma = whole(e, 1), beta = whole(e, 2);
    [kernel_ reloadGammaAndBetaWithCommandBuffer:e.commands()
                               gammaAndBetaState:[[MPSCNNNormalizationGammaAndBetaState alloc]
                                                     initWithGamma:gamma
                                                              beta:beta]];
    if (!training_) {
      encode_fixed(e);
      return;
    }
    MPSImageBatch *x = e.read(node_.x(0), images_, 2), *y = e.write(node_.y(0), images_);
    MPSCNNBatchNormalizationState* state =
        [kernel_ temporaryResultStateForCommandBuffer:e.commands()
                                          sourceImage:x[0]
                                         sourceStates:nil
                                     destinationImage:y[0]];
    // Both encodes here and the copies below; then both encodes of the gradient, and its copies.
    state.readCount = trained_ ? 6 : 3;
    [statistics_ encodeBatchToCommandBuffer:e.commands()
                               sourceImages:x
                    batchNormalizationState:state];
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                           sourceImages:x
                batchNormalizationState:state
                      destinationImages:y];
    e.copy({state.mean, 0}, e.buffer(node_.state(0)), bytes_);
    e.copy({state.variance, 0}, e.buffer(node_.state(1)), bytes_);
    state.readCount -= 1;
    if (trained_) e.keep_states(forward_, @[ state ], 3);
  }

  std::string detail() const override { return "MPSCNNBatchNormalization"; }

 private:
  void encode_fixed(Encoding& e) {
    BufferRef mean = whole(e, 3), variance = whole(e, 4);
    [kernel_ reloadMeanAndVarianceWithCommandBuffer:e.commands()
                               meanAndVarianceState:[[MPSCNNNormalizationMeanAndVarianceState alloc]
                                                        initWithMean:mean
                                                            variance:variance]];
    MPSImageBatch *x = e.read(node_.x(0), images_), *y = e.write(node_.y(0), images_);
    [kernel_ encodeBatchToCommandBuffer:e.commands() sourceImages:x destinationImages:y];
    e.copy({mean, 0}, e.buffer(node_.state(0)), bytes_);
    e.copy({variance, 0}, e.buffer(node_.state(1)), bytes_);
  }

  // Operand i in a buffer of its own.
  BufferRef whole(Encoding& e, int i) {
    const Buffer from = e.buffer(node_.x(i));
    BufferRef copy = copies_[i - 1];
    if (copy == nil) return from.buffer;
    e.copy(from, {copy, 0}, bytes_);
    return copy;
  }

  const Node& node_;
  Geometry images_;
  int forward_;
  bool training_, trained_;
  std::size_t bytes_;
  BufferRef copies_[4];
  MPSCNNBatchNormalization* kernel_;
  MPSCNNBatchNormalizationStatistics* statistics_ = nil;
};

class BatchNormGradient final : public Operation {
 public:
  explicit BatchNormGradient(Builder& b)
      : node_(b.node()),
        images_(geometry_of(b.y_shape())),
        forward_(b.forward()),
        dtype_(b.plan().dtype),
        bytes_(static_cast<std::size_t>(images_.c) * 4) {
    statistics_ =
        [[MPSCNNBatchNormalizationStatisticsGradient alloc] initWithDevice:b.gpu().device()
                                                     fusedNeuronDescriptor:nil];
    kernel_ = [[MPSCNNBatchNormalizationGradient alloc] initWithDevice:b.gpu().device()
                                                 fusedNeuronDescriptor:nil];
    label(statistics_, b.layer());
    label(kernel_, b.layer());
  }

  void encode(Encoding& e) override {
    auto* state = static_cast<MPSCNNBatchNormalizationState*>(e.take_states(forward_)[0]);
    const bool data = node_.gx(0) != kNone;
    const int reads = data ? 2 : 1;
    MPSImageBatch *gy = e.read(node_.gy(0), images_, reads),
                  *x = e.read(node_.x(0), images_, reads);
    [statistics_ encodeBatchToCommandBuffer:e.commands()
                            sourceGradients:gy
                               sourceImages:x
                    batchNormalizationState:state];
    if (data)
      [kernel_ encodeBatchToCommandBuffer:e.commands()
                          sourceGradients:gy
                             sourceImages:x
                  batchNormalizationState:state
                     destinationGradients:e.write(node_.gx(0), images_)];
    if (node_.gx(1) != kNone) e.copy({state.gradientForGamma, 0}, e.buffer(node_.gx(1)), bytes_);
    if (node_.gx(2) != kNone) e.copy({state.gradientForBeta, 0}, e.buffer(node_.gx(2)), bytes_);
    state.readCount -= data ? 1 : 2;
  }

  std::string detail() const override { return "MPSCNNBatchNormalizationGradient"; }

 private:
  const Node& node_;
  Geometry images_;
  int forward_;
  DType dtype_;
  std::size_t bytes_;
  MPSCNNBatchNormalizationStatisticsGradient* statistics_;
  MPSCNNBatchNormalizationGradient* kernel_;
};

class FixedNormGradient final : public Operation {
 public:
  explicit FixedNormGradient(Builder& b)
      : node_(b.node()), x_(b.dense(node_.x(0))), gy_(b.dense(node_.gy(0))) {
    const Geometry g = geometry_of(b.y_shape());
    parameters_ = {static_cast<int>(g.n * g.h * g.w), static_cast<int>(g.c),
                   static_cast<float>(b.attrs().number("epsilon"))};
    const auto bytes = static_cast<std::size_t>(g.c) * 4;
    sums_[0] = b.scratch(bytes);
    sums_[1] = b.scratch(bytes);
    if (node_.gx(0) != kNone) gx_ = b.dense(node_.gx(0));
  }
  void encode(Encoding& e) override {
    const Buffer x = e.load(x_), gy = e.load(gy_), variance = e.buffer(node_.x(4));
    const auto sum = [&](int i) {
      return node_.gx(i) != kNone ? e.buffer(node_.gx(i)) : e.scratch(sums_[i - 1]);
    };
    e.run(e.gpu().pipeline("fixed_norm_sums"),
          {x, gy, e.buffer(node_.x(3)), variance, sum(1), sum(2)}, parameters_,
          parameters_.channels);
    if (node_.gx(0) == kNone) return;
    e.run(e.gpu().pipeline("fixed_norm_gradient"),
          {gy, variance, e.buffer(node_.x(1)), e.target(gx_)}, parameters_,
          static_cast<int64_t>(parameters_.rows) * parameters_.channels);
    e.store(gx_);
  }
  std::string detail() const override { return "own kernels"; }

 private:
  const Node& node_;
  Dense x_, gy_, gx_;
  NormParams parameters_;
  std::size_t sums_[2];
};

}  // namespace

std::unique_ptr<Operation> make_batch_norm(Builder& b) {
  if (!b.node().gradient) return std::make_unique<BatchNorm>(b);
  if (!b.attrs().flag("training")) return std::make_unique<FixedNormGradient>(b);
  return std::make_unique<BatchNormGradient>(b);
}

}  // namespace mpsnn::backend::mps
