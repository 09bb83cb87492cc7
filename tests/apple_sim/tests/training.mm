// Losses, batch normalisation, dropout, optimizers.
#include <cmath>

#import "check.h"

namespace {
using V = std::vector<float>;

// 5.2: logits {0, ln 3}, label the first class: loss -ln 1/4, gradient {1/4 - 1, 3/4}; weight 2.
const bool loss = add_test("softmax cross-entropy and MSE, per image", [] {
  MPSCNNLossDescriptor* d =
      [MPSCNNLossDescriptor cnnLossDescriptorWithType:MPSCNNLossTypeSoftMaxCrossEntropy
                                        reductionType:MPSCNNReductionTypeSum];
  d.weight = 2;
  const V one_hot = {1, 0};
  MPSCNNLossDataDescriptor* t = [MPSCNNLossDataDescriptor
      cnnLossDataDescriptorWithData:[NSData dataWithBytes:one_hot.data() length:8]
                             layout:MPSDataLayoutHeightxWidthxFeatureChannels
                               size:MTLSizeMake(1, 1, 2)];
  MPSCNNLossLabels* labels = [[MPSCNNLossLabels alloc] initWithDevice:device() labelsDescriptor:t];
  MPSImage *x = image(1, 1, 2, {0, std::log(3.f)}), *g = blank(1, 1, 2);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSCNNLoss* k = [[MPSCNNLoss alloc] initWithDevice:device() lossDescriptor:d];
  [k encodeToCommandBuffer:cb sourceImage:x labels:labels destinationImage:g];
  [labels synchronizeOnCommandBuffer:cb];
  NEAR(run_and_read(cb, g), {-1.5f, 1.5f});
  NEAR(read(labels.lossImage), {2 * std::log(4.f)});

  d = [MPSCNNLossDescriptor cnnLossDescriptorWithType:MPSCNNLossTypeMeanSquaredError
                                        reductionType:MPSCNNReductionTypeMean];
  k = [[MPSCNNLoss alloc] initWithDevice:device() lossDescriptor:d];
  cb = [queue() commandBuffer];
  [k encodeToCommandBuffer:cb sourceImage:image(1, 1, 2, {3, 2}) labels:labels destinationImage:g];
  [labels synchronizeOnCommandBuffer:cb];
  NEAR(run_and_read(cb, g), {4, 4});  // the factor 2; the mean does not scale it
  NEAR(read(labels.lossImage), {4});
});

}  // namespace

@interface Norm : NSObject <MPSCNNBatchNormalizationDataSource>
@end
@implementation Norm {
  float _values[4];
}
- (instancetype)init {
  if ((self = [super init])) {
    _values[0] = 2;   // gamma
    _values[1] = 1;   // beta
    _values[2] = 10;  // mean
    _values[3] = 4;   // variance
  }
  return self;
}
- (NSUInteger)numberOfFeatureChannels {
  return 1;
}
- (float*)gamma {
  return _values;
}
- (float*)beta {
  return _values + 1;
}
- (float*)mean {
  return _values + 2;
}
- (float*)variance {
  return _values + 3;
}
- (BOOL)load {
  return YES;
}
- (void)purge {
}
- (NSString*)label {
  return nil;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return self;
}
@end

namespace {
// 4.4 over two images {0, 2} and {4, 6}: mean 3, biased variance 5, normalised {-3, -1, 1,
// 3}/sqrt 5. g = {1, 0, 0, 0}: dbeta 1, dgamma -3/sqrt 5, dx = 2/sqrt 5 (g - 1/4 - hat dgamma/4).
const bool norm = add_test("batch normalisation: statistics over the batch, gradients", [] {
  MPSCNNBatchNormalization* bn =
      [[MPSCNNBatchNormalization alloc] initWithDevice:device() dataSource:[[Norm alloc] init]];
  MPSCNNBatchNormalizationStatistics* st =
      [[MPSCNNBatchNormalizationStatistics alloc] initWithDevice:device()];
  MPSCNNBatchNormalizationStatisticsGradient* sg =
      [[MPSCNNBatchNormalizationStatisticsGradient alloc] initWithDevice:device()];
  MPSCNNBatchNormalizationGradient* bg =
      [[MPSCNNBatchNormalizationGradient alloc] initWithDevice:device()];
  MPSImageBatch* x = @[ image(1, 2, 1, {0, 2}), image(1, 2, 1, {4, 6}) ];
  MPSImageBatch* g = @[ image(1, 2, 1, {1, 0}), image(1, 2, 1, {0, 0}) ];
  MPSImageBatch* y = @[ blank(1, 2, 1), blank(1, 2, 1) ];
  MPSImageBatch* dx = @[ blank(1, 2, 1), blank(1, 2, 1) ];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSCNNBatchNormalizationState* s =
      (MPSCNNBatchNormalizationState*)[bn resultStateForSourceImage:x[0]
                                                       sourceStates:nil
                                                   destinationImage:y[0]];
  [st encodeBatchToCommandBuffer:cb sourceImages:x batchNormalizationState:s];
  [bn encodeBatchToCommandBuffer:cb sourceImages:x batchNormalizationState:s destinationImages:y];
  [sg encodeBatchToCommandBuffer:cb sourceGradients:g sourceImages:x batchNormalizationState:s];
  [bg encodeBatchToCommandBuffer:cb
                 sourceGradients:g
                    sourceImages:x
         batchNormalizationState:s
            destinationGradients:dx];
  MPSImageBatchSynchronize(y, cb);
  MPSImageBatchSynchronize(dx, cb);
  [s synchronizeOnCommandBuffer:cb];
  [cb commit];
  [cb waitUntilCompleted];
  const float r = std::sqrt(5.f);
  NEAR(read(y[0]), {1 - 6 / r, 1 - 2 / r});
  NEAR(floats(s.mean), {3});
  NEAR(floats(s.variance), {5});
  NEAR(floats(s.gradientForGamma), {-3 / r});
  NEAR(floats(s.gradientForBeta), {1});
  NEAR(read(dx[0]), {2 / r * (0.75f - 9.f / 20), 2 / r * (-0.25f - 3.f / 20)});
  // Inference takes the data source's mean 10 and variance 4: (x - 10) + 1.
  cb = [queue() commandBuffer];
  [bn encodeBatchToCommandBuffer:cb sourceImages:x destinationImages:y];
  NEAR(run_and_read(cb, y[0]), {-9, -7});
});

// 4.7: kept values are scaled by 1/keep, the gradient uses the same mask.
const bool dropout = add_test("dropout: one mask for forward and gradient, by seed and image", [] {
  const long n = 4000;
  V masks[2];
  for (int pass = 0; pass < 2; ++pass) {
    MPSCNNDropout* k = [[MPSCNNDropout alloc] initWithDevice:device()
                                             keepProbability:0.75f
                                                        seed:7
                                          maskStrideInPixels:MTLSizeMake(1, 1, 1)];
    MPSCNNDropoutGradient* q = [[MPSCNNDropoutGradient alloc] initWithDevice:device()
                                                             keepProbability:0.75f
                                                                        seed:7
                                                          maskStrideInPixels:MTLSizeMake(1, 1, 1)];
    MPSImage *x = image(1, 1, n, V(n, 3)), *y = blank(1, 1, n), *dx = blank(1, 1, n);
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSState* s = [k temporaryResultStateForCommandBuffer:cb
                                              sourceImage:x
                                             sourceStates:nil
                                         destinationImage:y];
    [k encodeToCommandBuffer:cb sourceImage:x destinationState:s destinationImage:y];
    [q encodeToCommandBuffer:cb
              sourceGradient:x
                 sourceImage:x
               gradientState:s
         destinationGradient:dx];
    [y synchronizeOnCommandBuffer:cb];
    const V back = run_and_read(cb, dx);
    masks[pass] = read(y);
    CHECK(back == masks[pass]);
  }
  CHECK(masks[0] == masks[1]);
  long kept = 0;
  for (float v : masks[0]) {
    CHECK(v == 0 || v == 4);
    kept += v != 0;
  }
  CHECK(std::labs(kept - 3000) < 150);  // five standard deviations of 27
});

MPSVector* vector(id<MTLBuffer> b) {
  return [[MPSVector alloc]
      initWithBuffer:b
          descriptor:[MPSVectorDescriptor vectorDescriptorWithLength:b.length / 4
                                                            dataType:MPSDataTypeFloat32]];
}
// 6.2, first step from zero moments: m = 0.1 g, v = 0.001 g^2, lr_1 = lr sqrt(0.001)/0.1, so that
// w -= lr_1 0.1 g / (sqrt(0.001) |g| + eps): eps = 0.5 shows that it is not bias-corrected.
const bool adam =
    add_test("Adam's epsilon, SGD's momentum with the rate inside, clip then rescale", [] {
      MPSNNOptimizerDescriptor* d =
          [MPSNNOptimizerDescriptor optimizerDescriptorWithLearningRate:0.1f
                                                        gradientRescale:1
                                                     regularizationType:MPSNNRegularizationTypeNone
                                                    regularizationScale:0];
      MPSNNOptimizerAdam* k = [[MPSNNOptimizerAdam alloc] initWithDevice:device()
                                                                   beta1:0.9
                                                                   beta2:0.999
                                                                 epsilon:0.5f
                                                                timeStep:0
                                                     optimizerDescriptor:d];
      id<MTLBuffer> w = buffer({1}), g = buffer({2}), m = buffer({0}), v = buffer({0});
      id<MTLCommandBuffer> cb = [queue() commandBuffer];
      [k encodeToCommandBuffer:cb
           inputGradientVector:vector(g)
             inputValuesVector:vector(w)
           inputMomentumVector:vector(m)
           inputVelocityVector:vector(v)
            resultValuesVector:vector(w)];
      CHECK(k.timeStep == 1);
      synchronize(cb, w);
      [cb commit];
      [cb waitUntilCompleted];
      const float root = std::sqrt(0.001f);
      NEAR(floats(w), {1 - 0.1f * root / 0.1f * 0.2f / (root * 2 + 0.5f)});

      // 6.1: gradient 3 clipped to 1, times 2, plus 0.5 w: 2.5; m = 0.9 * 1 + 0.1 * 2.5.
      d = [MPSNNOptimizerDescriptor optimizerDescriptorWithLearningRate:0.1f
                                                        gradientRescale:2
                                                  applyGradientClipping:YES
                                                        gradientClipMax:1
                                                        gradientClipMin:-1
                                                     regularizationType:MPSNNRegularizationTypeL2
                                                    regularizationScale:0.5f];
      MPSNNOptimizerStochasticGradientDescent* sgd =
          [[MPSNNOptimizerStochasticGradientDescent alloc] initWithDevice:device()
                                                            momentumScale:0.9f
                                                      useNesterovMomentum:NO
                                                      optimizerDescriptor:d];
      w = buffer({1});
      g = buffer({3});
      m = buffer({1});
      cb = [queue() commandBuffer];
      [sgd encodeToCommandBuffer:cb
             inputGradientVector:vector(g)
               inputValuesVector:vector(w)
             inputMomentumVector:vector(m)
              resultValuesVector:vector(w)];
      synchronize(cb, w);
      [cb commit];
      [cb waitUntilCompleted];
      NEAR(floats(w), {1 - 1.15f});
    });
}  // namespace
