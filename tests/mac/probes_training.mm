// Questions to the classes of MPS that train: recurrent layers, optimizers, the YOLO loss.
#import "probes.h"

#include <cmath>

namespace {

using V = std::vector<float>;
using Matrices = NSMutableArray<MPSMatrix*>*;

MPSMatrix* scalar(float value) {
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:1
                                                                 columns:1
                                                                rowBytes:4
                                                                dataType:MPSDataTypeFloat32];
  return [[MPSMatrix alloc] initWithBuffer:buffer({value}) descriptor:d];
}

// One step, from x = 2, of h = 3 x + 1 with the gradient 1 by h: by the weight 2, by the bias 1.
struct OneStep {
  OneStep() {
    MPSRNNSingleGateDescriptor* d =
        [MPSRNNSingleGateDescriptor createRNNSingleGateDescriptorWithInputFeatureChannels:1
                                                                    outputFeatureChannels:1];
    d.inputWeights = source(1, 1, 1, 1, {3}, {1});
    d.recurrentWeights = source(1, 1, 1, 1, {0}, {0});
    d.useFloat32Weights = YES;
    MPSRNNDescriptor* base = d;
    layer = [[MPSRNNMatrixTrainingLayer alloc] initWithDevice:device()
                                                rnnDescriptor:base
                                             trainableWeights:weights];
    [layer createWeightGradientMatrices:gradients dataType:MPSDataTypeFloat32];
  }
  void run(bool short_form) {
    NSMutableArray<MPSRNNMatrixTrainingState*>* states =
        [NSMutableArray<MPSRNNMatrixTrainingState*> array];
    NSArray<MPSMatrix*>* x = @[ scalar(2) ];
    NSArray<MPSMatrix*>* dy = @[ scalar(1) ];
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [layer encodeForwardSequenceToCommandBuffer:cb
                                 sourceMatrices:x
                            destinationMatrices:@[ scalar(0) ]
                                 trainingStates:states
                                        weights:weights];
    if (short_form)
      [layer encodeGradientSequenceToCommandBuffer:cb
                                    forwardSources:x
                                   sourceGradients:dy
                              destinationGradients:nil
                                   weightGradients:gradients
                                    trainingStates:states
                                           weights:weights];
    else
      [layer encodeGradientSequenceToCommandBuffer:cb
                                    forwardSources:x
                              forwardSourceOffsets:nullptr
                                   sourceGradients:dy
                             sourceGradientOffsets:nullptr
                              destinationGradients:nil
                                destinationOffsets:nullptr
                                   weightGradients:gradients
                                    trainingStates:states
                               recurrentInputState:nil
                             recurrentOutputStates:nil
                                           weights:weights];
    finish(cb);
  }
  float gradient(MPSRNNMatrixId id_of) {
    MPSMatrix* plain = scalar(0);
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [layer encodeCopyWeightsToCommandBuffer:cb
                                    weights:gradients
                                   matrixId:id_of
                                     matrix:plain
                    copyFromWeightsToMatrix:YES
                               matrixOffset:MTLOriginMake(0, 0, 0)];
    synchronize(cb, plain.data);
    finish(cb);
    return floats(plain.data)[0];
  }
  Matrices weights = [NSMutableArray<MPSMatrix*> array];
  Matrices gradients = [NSMutableArray<MPSMatrix*> array];
  MPSRNNMatrixTrainingLayer* layer;
};

}  // namespace

std::string second_weight_gradients() {
  V found;
  for (const bool short_form : {true, false}) {
    OneStep one;
    one.run(short_form);
    one.run(short_form);
    found.push_back(one.gradient(MPSRNNMatrixIdSingleGateBiasTerms));
  }
  return text(found);
}

std::string copied_weight_gradients() {
  OneStep one;
  one.run(false);
  return text({one.gradient(MPSRNNMatrixIdSingleGateInputWeights),
               one.gradient(MPSRNNMatrixIdSingleGateBiasTerms)});
}

#ifndef MPSNN_APPLE_SIM
std::string half_gradients() {
  MPSNNOptimizerStochasticGradientDescent* sgd =
      [[MPSNNOptimizerStochasticGradientDescent alloc] initWithDevice:device() learningRate:0.5f];
  MPSVectorDescriptor* wide = [MPSVectorDescriptor vectorDescriptorWithLength:1
                                                                     dataType:MPSDataTypeFloat32];
  MPSVectorDescriptor* half = [MPSVectorDescriptor vectorDescriptorWithLength:1
                                                                     dataType:MPSDataTypeFloat16];
  float one_in_half = 0;
  const uint16_t bits[2] = {0x3c00, 0};
  memcpy(&one_in_half, bits, sizeof bits);
  id<MTLBuffer> w = buffer({1});
  MPSVector* values = [[MPSVector alloc] initWithBuffer:w descriptor:wide];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [sgd encodeToCommandBuffer:cb
         inputGradientVector:[[MPSVector alloc] initWithBuffer:buffer({one_in_half})
                                                    descriptor:half]
           inputValuesVector:values
         inputMomentumVector:nil
          resultValuesVector:values];
  synchronize(cb, w);
  finish(cb);
  return text(floats(w));
}

// Two cells, each with an object of size 1 x 1 in its middle; anchors of 1 x 1, which is the
// object's, and of 2 x 2, which is none. All logits are 0 but the first anchor's x: sigmoid(ln 3).
// The gradients by that x, by both anchors' confidences, by the object's class.
std::string yolo_gradients() {
  const V anchors = {1, 1, 2, 2};
  MPSCNNYOLOLossDescriptor* d = [MPSCNNYOLOLossDescriptor
      cnnLossDescriptorWithXYLossType:MPSCNNLossTypeMeanSquaredError
                           WHLossType:MPSCNNLossTypeHuber
                   confidenceLossType:MPSCNNLossTypeSigmoidCrossEntropy
                      classesLossType:MPSCNNLossTypeSoftMaxCrossEntropy
                        reductionType:MPSCNNReductionTypeSum
                          anchorBoxes:[NSData dataWithBytes:anchors.data() length:16]
                  numberOfAnchorBoxes:2];
  d.rescore = NO;
  d.classesLossDescriptor.numberOfClasses = 2;
  V x, t;
  for (int cell = 0; cell < 2; ++cell)
    for (int anchor = 0; anchor < 2; ++anchor) {
      x.insert(x.end(), {anchor == 0 ? std::log(3.f) : 0, 0, 0, 0, 0, 0, 0});
      t.insert(t.end(), {0.5f, 0.5f, 1, 1, 1, 1, 0});
    }
  MPSCNNLossDataDescriptor* data = [MPSCNNLossDataDescriptor
      cnnLossDataDescriptorWithData:[NSData dataWithBytes:t.data() length:t.size() * 4]
                             layout:MPSDataLayoutHeightxWidthxFeatureChannels
                               size:MTLSizeMake(2, 1, 14)];
  if (data == nil) return "no labels";
  MPSCNNLossDataDescriptor* _Nonnull there = data;
  MPSCNNLossLabels* labels = [[MPSCNNLossLabels alloc] initWithDevice:device()
                                                     labelsDescriptor:there];
  MPSImage* gradient = blank(1, 2, 14);
  MPSCNNYOLOLoss* loss = [[MPSCNNYOLOLoss alloc] initWithDevice:device() lossDescriptor:d];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [loss encodeToCommandBuffer:cb
                  sourceImage:image(1, 2, 14, x)
                       labels:labels
             destinationImage:gradient];
  const V g = run_and_read(cb, gradient);
  return text({g[0], g[4], g[11], g[5]});
}
#endif
