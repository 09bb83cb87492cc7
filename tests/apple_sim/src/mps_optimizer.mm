// Optimizers (mps-reference 6): the vector forms and the convolution-state forms.
#include <array>

#import "mps.h"

using namespace apple_sim;

@implementation MPSNNOptimizerDescriptor
- (instancetype)init {
  if ((self = [super init])) {
    _learningRate = 1e-3f;
    _gradientRescale = 1;
  }
  return self;
}
- (instancetype)initWithLearningRate:(float)rate
                     gradientRescale:(float)rescale
               applyGradientClipping:(BOOL)clip
                     gradientClipMax:(float)high
                     gradientClipMin:(float)low
                  regularizationType:(MPSNNRegularizationType)type
                 regularizationScale:(float)scale {
  if ((self = [super init])) {
    _learningRate = rate;
    _gradientRescale = rescale;
    _applyGradientClipping = clip;
    _gradientClipMax = high;
    _gradientClipMin = low;
    _regularizationType = type;
    _regularizationScale = scale;
  }
  return self;
}
- (instancetype)initWithLearningRate:(float)rate
                     gradientRescale:(float)rescale
                  regularizationType:(MPSNNRegularizationType)type
                 regularizationScale:(float)scale {
  return [self initWithLearningRate:rate
                    gradientRescale:rescale
              applyGradientClipping:NO
                    gradientClipMax:0
                    gradientClipMin:0
                 regularizationType:type
                regularizationScale:scale];
}
+ (instancetype)optimizerDescriptorWithLearningRate:(float)rate
                                    gradientRescale:(float)rescale
                                 regularizationType:(MPSNNRegularizationType)type
                                regularizationScale:(float)scale {
  return [[self alloc] initWithLearningRate:rate
                            gradientRescale:rescale
                         regularizationType:type
                        regularizationScale:scale];
}
+ (instancetype)optimizerDescriptorWithLearningRate:(float)rate
                                    gradientRescale:(float)rescale
                              applyGradientClipping:(BOOL)clip
                                    gradientClipMax:(float)high
                                    gradientClipMin:(float)low
                                 regularizationType:(MPSNNRegularizationType)type
                                regularizationScale:(float)scale {
  return [[self alloc] initWithLearningRate:rate
                            gradientRescale:rescale
                      applyGradientClipping:clip
                            gradientClipMax:high
                            gradientClipMin:low
                         regularizationType:type
                        regularizationScale:scale];
}
@end

namespace {
struct Slice {  // floats of one vector
  StorePtr store;
  size_t offset = 0, count = 0;
  float* data() const { return store ? store->floats() + offset / 4 : nullptr; }
};
Slice slice(MPSVector* v) {
  if (v && v.dataType != MPSDataTypeFloat32) violate("optimizer: a vector is not float32");
  return v ? Slice{store_of(v.data), v.offset, v.length} : Slice{};
}
Slice slice(id<MTLBuffer> b, NSUInteger offset) {
  return b ? Slice{store_of(b), offset, (b.length - offset) / 4} : Slice{};
}
// One step of one parameter; m and v are NULL where the optimizer has no such moment.
using Rule = std::function<void(float g, float& w, float* m, float* v)>;
}  // namespace

@interface MPSNNOptimizer ()
- (instancetype)initWithDevice:(id<MTLDevice>)device simDescriptor:(MPSNNOptimizerDescriptor*)d;
- (Rule)simRule;
@end
@implementation MPSNNOptimizer
- (instancetype)initWithDevice:(id<MTLDevice>)device simDescriptor:(MPSNNOptimizerDescriptor*)d {
  if ((self = [super initWithDevice:device])) {
    _learningRate = d.learningRate;
    _gradientRescale = d.gradientRescale;
    _applyGradientClipping = d.applyGradientClipping;
    _gradientClipMax = d.gradientClipMax;
    _gradientClipMin = d.gradientClipMin;
    _regularizationType = d.regularizationType;
    _regularizationScale = d.regularizationScale;
  }
  return self;
}
- (void)setLearningRate:(float)rate {
  _learningRate = rate;
}
- (Rule)simRule {
  [self doesNotRecognizeSelector:_cmd];
  return nullptr;
}
- (void)simEncode:(id<MTLCommandBuffer>)cb
            parts:(std::vector<std::array<Slice, 5>>)parts {  // gradient, values, m, v, result
  KernelUse use(_busy, name_of(self));
  Stores reads, writes;
  for (const auto& p : parts) {
    for (const Slice& s : p)
      if (s.store && s.count < p[4].count) violate("%s: a vector is too short", name_of(self));
    reads.push_back(p[0].store);
    for (int i = 2; i < 5; ++i)
      if (p[static_cast<size_t>(i)].store) writes.push_back(p[static_cast<size_t>(i)].store);
  }
  encode(cb, name_of(self), self.label, reads, writes,
         [=, rule = [self simRule], clip = static_cast<bool>(_applyGradientClipping),
          high = _gradientClipMax, low = _gradientClipMin, rescale = _gradientRescale,
          type = _regularizationType, scale = _regularizationScale] {
           for (const auto& p : parts)
             for (size_t i = 0; i < p[4].count; ++i) {
               float g = p[0].data()[i], w = p[1].data()[i];
               if (clip) g = std::min(std::max(g, low), high);
               g *= rescale;
               if (type == MPSNNRegularizationTypeL2) g += scale * w;
               if (type == MPSNNRegularizationTypeL1)
                 g += scale * static_cast<float>((w > 0) - (w < 0));
               rule(g, w, p[2].store ? p[2].data() + i : nullptr,
                    p[3].store ? p[3].data() + i : nullptr);
               p[4].data()[i] = w;
             }
         });
}
- (void)simEncode:(id<MTLCommandBuffer>)cb
         gradient:(MPSCNNConvolutionGradientState*)gradient
           source:(MPSCNNConvolutionWeightsAndBiasesState*)source
                m:(NSArray<MPSVector*>*)m
                v:(NSArray<MPSVector*>*)v
           result:(MPSCNNConvolutionWeightsAndBiasesState*)result {
  check_states(self, cb, @[ gradient, source ], "read");
  std::vector<std::array<Slice, 5>> parts;
  const NSUInteger given = m ? m.count : v ? v.count : 2;  // one vector: the biases stay
  parts.push_back({slice(gradient.gradientForWeights, 0),
                   slice(source.weights, source.weightsOffset), slice(m.count > 0 ? m[0] : nil),
                   slice(v.count > 0 ? v[0] : nil), slice(result.weights, result.weightsOffset)});
  if (given > 1 && source.biases && result.biases)
    parts.push_back({slice(gradient.gradientForBiases, 0),
                     slice(source.biases, source.biasesOffset), slice(m.count > 1 ? m[1] : nil),
                     slice(v.count > 1 ? v[1] : nil), slice(result.biases, result.biasesOffset)});
  [self simEncode:cb parts:parts];
  consume_states(cb, @[ gradient, source ]);
}
@end

@implementation MPSNNOptimizerStochasticGradientDescent
- (instancetype)initWithDevice:(id<MTLDevice>)device learningRate:(float)rate {
  MPSNNOptimizerDescriptor* d = [[MPSNNOptimizerDescriptor alloc] init];
  d.learningRate = rate;
  return [self initWithDevice:device momentumScale:0 useNesterovMomentum:NO optimizerDescriptor:d];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 momentumScale:(float)momentum
           useNesterovMomentum:(BOOL)nesterov
           optimizerDescriptor:(MPSNNOptimizerDescriptor*)descriptor {
  if ((self = [super initWithDevice:device simDescriptor:descriptor])) {
    _momentumScale = momentum;
    _useNesterovMomentum = nesterov;
  }
  return self;
}
- (Rule)simRule {
  return [lr = self.learningRate, mu = _momentumScale,
          nesterov = static_cast<bool>(_useNesterovMomentum)](float g, float& w, float* m, float*) {
    if (!m) {
      w -= lr * g;
    } else if (nesterov) {
      *m = mu * *m + g;
      w -= lr * (g + mu * *m);
    } else {
      *m = mu * *m + lr * g;
      w -= *m;
    }
  };
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
          inputGradientVector:(MPSVector*)g
            inputValuesVector:(MPSVector*)w
          inputMomentumVector:(MPSVector*)m
           resultValuesVector:(MPSVector*)out {
  [self simEncode:cb parts:{{slice(g), slice(w), slice(m), Slice(), slice(out)}}];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
     convolutionGradientState:(MPSCNNConvolutionGradientState*)gradient
       convolutionSourceState:(MPSCNNConvolutionWeightsAndBiasesState*)source
         inputMomentumVectors:(NSArray<MPSVector*>*)m
                  resultState:(MPSCNNConvolutionWeightsAndBiasesState*)result {
  [self simEncode:cb gradient:gradient source:source m:m v:nil result:result];
}
@end

@implementation MPSNNOptimizerRMSProp
- (instancetype)initWithDevice:(id<MTLDevice>)device
                         decay:(double)decay
                       epsilon:(float)epsilon
           optimizerDescriptor:(MPSNNOptimizerDescriptor*)descriptor {
  if ((self = [super initWithDevice:device simDescriptor:descriptor])) {
    _decay = decay;
    _epsilon = epsilon;
  }
  return self;
}
- (Rule)simRule {
  return [lr = self.learningRate, d = static_cast<float>(_decay), e = _epsilon](float g, float& w,
                                                                                float*, float* s) {
    *s = d * *s + (1 - d) * g * g;
    w -= lr * g / (std::sqrt(*s) + e);
  };
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
          inputGradientVector:(MPSVector*)g
            inputValuesVector:(MPSVector*)w
      inputSumOfSquaresVector:(MPSVector*)s
           resultValuesVector:(MPSVector*)out {
  [self simEncode:cb parts:{{slice(g), slice(w), Slice(), slice(s), slice(out)}}];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
     convolutionGradientState:(MPSCNNConvolutionGradientState*)gradient
       convolutionSourceState:(MPSCNNConvolutionWeightsAndBiasesState*)source
     inputSumOfSquaresVectors:(NSArray<MPSVector*>*)s
                  resultState:(MPSCNNConvolutionWeightsAndBiasesState*)result {
  [self simEncode:cb gradient:gradient source:source m:nil v:s result:result];
}
@end

@implementation MPSNNOptimizerAdam
- (instancetype)initWithDevice:(id<MTLDevice>)device
                         beta1:(double)beta1
                         beta2:(double)beta2
                       epsilon:(float)epsilon
                      timeStep:(NSUInteger)step
           optimizerDescriptor:(MPSNNOptimizerDescriptor*)descriptor {
  if ((self = [super initWithDevice:device simDescriptor:descriptor])) {
    _beta1 = beta1;
    _beta2 = beta2;
    _epsilon = epsilon;
    _timeStep = step;
  }
  return self;
}
- (Rule)simRule {  // the epsilon is outside the bias correction; every encode is a step
  const double t = static_cast<double>(++_timeStep);
  const double lr = static_cast<double>(self.learningRate) * std::sqrt(1 - std::pow(_beta2, t)) /
                    (1 - std::pow(_beta1, t));
  return [lr = static_cast<float>(lr), b1 = static_cast<float>(_beta1),
          b2 = static_cast<float>(_beta2), e = _epsilon](float g, float& w, float* m, float* v) {
    *m = b1 * *m + (1 - b1) * g;
    *v = b2 * *v + (1 - b2) * g * g;
    w -= lr * *m / (std::sqrt(*v) + e);
  };
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
          inputGradientVector:(MPSVector*)g
            inputValuesVector:(MPSVector*)w
          inputMomentumVector:(MPSVector*)m
          inputVelocityVector:(MPSVector*)v
           resultValuesVector:(MPSVector*)out {
  [self simEncode:cb parts:{{slice(g), slice(w), slice(m), slice(v), slice(out)}}];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
     convolutionGradientState:(MPSCNNConvolutionGradientState*)gradient
       convolutionSourceState:(MPSCNNConvolutionWeightsAndBiasesState*)source
         inputMomentumVectors:(NSArray<MPSVector*>*)m
         inputVelocityVectors:(NSArray<MPSVector*>*)v
                  resultState:(MPSCNNConvolutionWeightsAndBiasesState*)result {
  [self simEncode:cb gradient:gradient source:source m:m v:v result:result];
}
@end
