// The training layer of recurrent cells against numbers worked by hand (mps-reference 7).
#include <cmath>

#import "check.h"

namespace {
using V = std::vector<float>;
using Matrices = NSMutableArray<MPSMatrix*>*;
using States = NSMutableArray<MPSRNNMatrixTrainingState*>*;

MPSMatrix* matrix(const V& values, NSUInteger rows = 1) {
  const NSUInteger columns = values.size() / rows;
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:rows
                                                                 columns:columns
                                                                rowBytes:columns * 4
                                                                dataType:MPSDataTypeFloat32];
  return [[MPSMatrix alloc] initWithBuffer:buffer(values) descriptor:d];
}
V read(id<MTLCommandBuffer> cb, NSArray<MPSMatrix*>* matrices) {
  for (MPSMatrix* m in matrices) synchronize(cb, m.data);
  [cb commit];
  [cb waitUntilCompleted];
  V all;
  for (MPSMatrix* m in matrices)
    for (const float f : floats(m.data)) all.push_back(f);
  return all;
}
Source* scalar(float w, float b = 0, MPSCNNNeuronType neuron = MPSCNNNeuronTypeNone) {
  Source* s = source(1, 1, 1, 1, {w}, {b});
  s.descriptor.fusedNeuronDescriptor = [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:neuron];
  return s;
}

struct Layer {
  explicit Layer(MPSRNNDescriptor* d) {
    kernel = [[MPSRNNMatrixTrainingLayer alloc] initWithDevice:device()
                                                 rnnDescriptor:d
                                              trainableWeights:weights];
  }
  void forward(id<MTLCommandBuffer> cb, NSArray<MPSMatrix*>* x, NSArray<MPSMatrix*>* y) {
    [kernel encodeForwardSequenceToCommandBuffer:cb
                                  sourceMatrices:x
                             destinationMatrices:y
                                  trainingStates:states
                                         weights:weights];
  }
  void gradient(id<MTLCommandBuffer> cb, NSArray<MPSMatrix*>* x, NSArray<MPSMatrix*>* dy,
                NSArray<MPSMatrix*>* dx, NSArray<MPSMatrix*>* by_weights) {
    [kernel encodeGradientSequenceToCommandBuffer:cb
                                   forwardSources:x
                                  sourceGradients:dy
                             destinationGradients:dx
                                  weightGradients:by_weights
                                   trainingStates:states
                                          weights:weights];
  }
  void copy(id<MTLCommandBuffer> cb, NSArray<MPSMatrix*>* of, MPSRNNMatrixId which, MPSMatrix* m,
            bool out) {
    [kernel encodeCopyWeightsToCommandBuffer:cb
                                     weights:of
                                    matrixId:which
                                      matrix:m
                     copyFromWeightsToMatrix:out
                                matrixOffset:MTLOriginMake(0, 0, 0)];
  }
  Matrices weights = [NSMutableArray<MPSMatrix*> array];
  States states = [NSMutableArray<MPSRNNMatrixTrainingState*> array];
  MPSRNNMatrixTrainingLayer* kernel;
};

MPSRNNSingleGateDescriptor* single(float w, float u, float b) {
  MPSRNNSingleGateDescriptor* d =
      [MPSRNNSingleGateDescriptor createRNNSingleGateDescriptorWithInputFeatureChannels:1
                                                                  outputFeatureChannels:1];
  d.inputWeights = scalar(w, b);
  d.recurrentWeights = scalar(u);
  d.useFloat32Weights = YES;
  return d;
}

// h = 2 x + 3 h + 1 over {1, 2} is {3, 14}. Gradients of their sum by h are {4, 1}, by x {8, 2}, by
// the weights {4 1 + 1 2, 1 3, 5}.
const bool linear = add_test("recurrent layer: two steps of one gate and their gradients", [] {
  Layer l(single(2, 3, 1));
  NSArray<MPSMatrix*>*x = @[ matrix({1}), matrix({2}) ], *y = @[ matrix({0}), matrix({0}) ];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  l.forward(cb, x, y);
  NEAR(read(cb, y), {3, 14});
  CHECK(l.states.count == 2);

  NSArray<MPSMatrix*>*dy = @[ matrix({1}), matrix({1}) ], *dx = @[ matrix({0}), matrix({0}) ];
  Matrices by_weights = [NSMutableArray<MPSMatrix*> array];
  [l.kernel createWeightGradientMatrices:by_weights dataType:MPSDataTypeFloat32];
  NSArray<MPSMatrix*>* plain = @[ matrix({0}), matrix({0}), matrix({0}) ];
  const auto gradients = [&] {
    id<MTLCommandBuffer> next = [queue() commandBuffer];
    l.gradient(next, x, dy, dx, by_weights);
    l.copy(next, by_weights, MPSRNNMatrixIdSingleGateInputWeights, plain[0], true);
    l.copy(next, by_weights, MPSRNNMatrixIdSingleGateRecurrentWeights, plain[1], true);
    l.copy(next, by_weights, MPSRNNMatrixIdSingleGateBiasTerms, plain[2], true);
    return read(next, plain);
  };
  NEAR(gradients(), {6, 3, 5});
  NEAR(gradients(), {6, 3, 5});  // overwritten
  l.kernel.accumulateWeightGradients = YES;
  NEAR(gradients(), {12, 6, 10});
  cb = [queue() commandBuffer];
  NEAR(read(cb, dx), {8, 2});
});

const bool offsets = add_test("recurrent layer: steps by byte offsets, sequences that end", [] {
  Layer l(single(1, 10, 0));
  // Two sequences of two steps side by side, then one sequence that goes on.
  MPSMatrix *x = matrix({1, 2, 3, 4}, 2), *y = matrix({0, 0, 0, 0}, 2);
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:1
                                                                 columns:1
                                                                rowBytes:8
                                                                dataType:MPSDataTypeFloat32];
  MPSMatrix *x1 = [[MPSMatrix alloc] initWithBuffer:x.data descriptor:d],
            *y1 = [[MPSMatrix alloc] initWithBuffer:y.data descriptor:d];
  NSUInteger at[] = {0, 4};
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [l.kernel encodeForwardSequenceToCommandBuffer:cb
                                  sourceMatrices:@[ x, x1 ]
                                   sourceOffsets:at
                             destinationMatrices:@[ y, y1 ]
                              destinationOffsets:at
                                  trainingStates:l.states
                             recurrentInputState:nil
                           recurrentOutputStates:nil
                                         weights:l.weights];
  NEAR(read(cb, @[ y ]), {1, 12, 3, 0});
});

const bool rounding = add_test("recurrent layer: weights are half unless float32 is asked for", [] {
  for (const bool wide : {false, true}) {
    MPSRNNSingleGateDescriptor* d = single(1.0001f, 0, 0);
    d.useFloat32Weights = wide;
    Layer l(d);
    NSArray<MPSMatrix*>* y = @[ matrix({0}) ];
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    l.forward(cb, @[ matrix({1}) ], y);
    near(__FILE__, __LINE__, read(cb, y), {wide ? 1.0001f : 1.0f}, 1e-7f);
  }
});

// z = sigmoid(ln 3) = 3/4 and n = 4 behind no neuron, from h = 0: (1 - z) n, flipped z n.
const bool gru = add_test("recurrent layer: a gru and its flipped outputs", [] {
  for (const bool flipped : {false, true}) {
    MPSGRUDescriptor* d = [MPSGRUDescriptor createGRUDescriptorWithInputFeatureChannels:1
                                                                  outputFeatureChannels:1];
    d.inputGateInputWeights = scalar(0, std::log(3.f), MPSCNNNeuronTypeSigmoid);
    d.outputGateInputWeights = scalar(0, 4);
    d.flipOutputGates = flipped;
    Layer l(d);
    NSArray<MPSMatrix*>* y = @[ matrix({0}) ];
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    l.forward(cb, @[ matrix({1}) ], y);
    near(__FILE__, __LINE__, read(cb, y), {flipped ? 3.0f : 1.0f}, 2e-3f);
  }
});

// i = 1/2, the cell's input 4, so c = 2; o = sigmoid(v c) with v = ln(3) / 2 is 3/4; h = o c.
const bool lstm = add_test("recurrent layer: an lstm whose output gate sees the new cell", [] {
  MPSLSTMDescriptor* d = [MPSLSTMDescriptor createLSTMDescriptorWithInputFeatureChannels:1
                                                                   outputFeatureChannels:1];
  d.inputGateInputWeights = scalar(0, 0, MPSCNNNeuronTypeSigmoid);
  d.cellGateInputWeights = scalar(0, 4);
  d.outputGateInputWeights = scalar(0, 0, MPSCNNNeuronTypeSigmoid);
  d.outputGateMemoryWeights = scalar(std::log(3.f) / 2);
  d.memoryWeightsAreDiagonal = YES;
  d.useFloat32Weights = YES;
  d.cellToOutputNeuronType = MPSCNNNeuronTypeNone;
  Layer l(d);
  NSArray<MPSMatrix*>* y = @[ matrix({0}) ];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  l.forward(cb, @[ matrix({1}) ], y);
  NEAR(read(cb, y), {1.5f});
});

const bool contract = add_test("recurrent layer: what its contract forbids", [] {
  Layer l(single(2, 3, 1)), other(single(2, 3, 1));
  NSArray<MPSMatrix*>*x = @[ matrix({1}), matrix({2}) ], *y = @[ matrix({0}), matrix({0}) ];
  Matrices by_weights = [NSMutableArray<MPSMatrix*> array];
  [l.kernel createWeightGradientMatrices:by_weights dataType:MPSDataTypeFloat32];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  VIOLATES("matrices for gradients used as weights", {
    [l.kernel encodeForwardSequenceToCommandBuffer:cb
                                    sourceMatrices:x
                               destinationMatrices:y
                                    trainingStates:l.states
                                           weights:by_weights];
  });
  VIOLATES("weights that this layer has not made", {
    [l.kernel encodeForwardSequenceToCommandBuffer:cb
                                    sourceMatrices:x
                               destinationMatrices:y
                                    trainingStates:l.states
                                           weights:other.weights];
  });
  VIOLATES("a destination lies in a source", { l.forward(cb, x, @[ y[0], x[1] ]); });
  [l.states removeAllObjects];
  VIOLATES("do not match", { l.forward(cb, x, @[ y[0] ]); });
  VIOLATES("which its descriptor has no source for",
           { l.copy(cb, l.weights, MPSRNNMatrixIdLSTMInputGateInputWeights, x[0], true); });
  VIOLATES("does not fit a matrix of 1x1", {
    [l.kernel encodeCopyWeightsToCommandBuffer:cb
                                       weights:l.weights
                                      matrixId:MPSRNNMatrixIdSingleGateInputWeights
                                        matrix:x[0]
                       copyFromWeightsToMatrix:YES
                                  matrixOffset:MTLOriginMake(0, 1, 0)];
  });
  NSUInteger far[] = {0, 8};
  VIOLATES("passes the end of its buffer", {
    [l.kernel encodeForwardSequenceToCommandBuffer:cb
                                    sourceMatrices:x
                                     sourceOffsets:far
                               destinationMatrices:y
                                destinationOffsets:nullptr
                                    trainingStates:l.states
                               recurrentInputState:nil
                             recurrentOutputStates:nil
                                           weights:l.weights];
  });
  l.forward(cb, x, y);
  l.forward(cb, x, y);  // appends
  NSArray<MPSMatrix*>* dx = @[ matrix({0}), matrix({0}) ];
  VIOLATES("do not match", { l.gradient(cb, x, y, dx, nil); });
  [l.states removeObjectAtIndex:0];
  [l.states removeObjectAtIndex:2];
  VIOLATES("is of another layer, step or weights", { l.gradient(cb, x, y, dx, nil); });
  [l.states removeAllObjects];
  l.forward(cb, x, y);
  l.copy(cb, l.weights, MPSRNNMatrixIdSingleGateInputWeights, matrix({5}), false);
  VIOLATES("is of another layer, step or weights", { l.gradient(cb, x, y, dx, nil); });
  [l.states removeAllObjects];
  l.kernel.trainingStateIsTemporary = YES;
  l.forward(cb, x, y);
  l.gradient(cb, x, y, dx, nil);
  for (MPSState* state in l.states) CHECK(state.readCount == 0);
  [cb commit];
  [cb waitUntilCompleted];
});
}  // namespace
