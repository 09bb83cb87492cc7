// Neurons, softmax, dropout, arithmetic, reductions and pooling beyond what layers.mm has, against
// numbers worked by hand; the sections are mps-reference's.
#include <cmath>

#import "check.h"

namespace {
using V = std::vector<float>;

V forward(MPSCNNKernel* k, MPSImage* x, MPSImage* y) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [k encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
  return run_and_read(cb, y);
}
V both(MPSCNNArithmetic* k, MPSImage* a, MPSImage* b, MPSImage* y) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [k encodeToCommandBuffer:cb primaryImage:a secondaryImage:b destinationImage:y];
  return run_and_read(cb, y);
}

// 4.2 at -1, 0, 2: softplus ln(1 + e^x), slope sigmoid(x); GeLU x Phi(x), slope Phi(x) + x phi(x)
// with Phi(-1) = 0.158655, phi(1) = 0.241971, Phi(2) = 0.977250, phi(2) = 0.053991.
const bool neurons = add_test("softplus and GeLU: values and derivatives", [] {
  struct Case {
    MPSCNNNeuronType type;
    V y, d;
  };
  const Case cases[] = {
      {MPSCNNNeuronTypeSoftPlus,
       {0.3132617f, 0.6931472f, 2.1269280f},
       {0.2689414f, 0.5f, 0.8807971f}},
      {MPSCNNNeuronTypeGeLU, {-0.1586553f, 0, 1.9544997f}, {-0.0833155f, 0.5f, 1.0852319f}},
  };
  MPSImage *x = image(1, 3, 1, {-1, 0, 2}), *g = image(1, 3, 1, {1, 1, 1});
  for (const Case& c : cases) {
    MPSNNNeuronDescriptor* d = [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:c.type
                                                                                a:1
                                                                                b:1
                                                                                c:0];
    MPSCNNNeuron* k = [[MPSCNNNeuron alloc] initWithDevice:device() neuronDescriptor:d];
    MPSCNNNeuronGradient* q = [[MPSCNNNeuronGradient alloc] initWithDevice:device()
                                                          neuronDescriptor:d];
    MPSImage *y = blank(1, 3, 1), *dx = blank(1, 3, 1);
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSState* state = [k resultStateForSourceImage:x sourceStates:nil destinationImage:y];
    [k encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
    [q encodeToCommandBuffer:cb
              sourceGradient:g
                 sourceImage:x
               gradientState:state
         destinationGradient:dx];
    [y synchronizeOnCommandBuffer:cb];
    NEAR(run_and_read(cb, dx), c.d);
    NEAR(read(y), c.y);
  }
});

// 4.3: y = ln {1/4, 3/4} from {0, ln 3}; dx = g - e^y sum g with g = {4, 0}: {4 - 1, 0 - 3}.
const bool log_softmax = add_test("the logarithm of softmax and its gradient, by the output", [] {
  MPSImage *x = image(1, 1, 2, {0, std::log(3.f)}), *y = blank(1, 1, 2), *dx = blank(1, 1, 2);
  MPSCNNLogSoftMax* k = [[MPSCNNLogSoftMax alloc] initWithDevice:device()];
  MPSCNNLogSoftMaxGradient* q = [[MPSCNNLogSoftMaxGradient alloc] initWithDevice:device()];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [k resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [k encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  [q encodeToCommandBuffer:cb
            sourceGradient:image(1, 1, 2, {4, 0})
               sourceImage:y
             gradientState:state
       destinationGradient:dx];
  [y synchronizeOnCommandBuffer:cb];
  NEAR(run_and_read(cb, dx), {3, -3});
  NEAR(read(y), {std::log(0.25f), std::log(0.75f)});
});

// 4.7: a mask stride of 0 along x and y is one draw a channel.
const bool spatial = add_test("dropout of whole channels", [] {
  MPSCNNDropout* k = [[MPSCNNDropout alloc] initWithDevice:device()
                                           keepProbability:0.5f
                                                      seed:3
                                        maskStrideInPixels:MTLSizeMake(0, 0, 1)];
  MPSImage *x = image(2, 2, 16, V(64, 1)), *y = blank(2, 2, 16);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [k resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [k encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  const V got = run_and_read(cb, y);
  int kept = 0;
  for (size_t c = 0; c < 16; ++c) {
    for (size_t pixel = 1; pixel < 4; ++pixel) CHECK(got[pixel * 16 + c] == got[c]);
    CHECK(got[c] == 0 || got[c] == 2);
    kept += got[c] != 0;
  }
  CHECK(kept > 2 && kept < 14);
});

// 4.9: a stride of 0 repeats a pixel or a channel of either operand.
const bool repeated = add_test("arithmetic repeats what has a stride of 0", [] {
  MPSImage* x = image(1, 2, 2, {1, 2, 3, 4});
  MPSCNNAdd* add = [[MPSCNNAdd alloc] initWithDevice:device()];
  add.secondaryStrideInPixelsX = add.secondaryStrideInPixelsY = 0;
  add.secondaryStrideInFeatureChannels = 0;
  NEAR(both(add, x, image(1, 1, 1, {10}), blank(1, 2, 2)), {11, 12, 13, 14});
  MPSCNNSubtract* subtract = [[MPSCNNSubtract alloc] initWithDevice:device()];
  subtract.secondaryStrideInFeatureChannels = 0;
  NEAR(both(subtract, x, image(1, 2, 1, {10, 20}), blank(1, 2, 2)), {-9, -8, -17, -16});
  MPSCNNDivide* divide = [[MPSCNNDivide alloc] initWithDevice:device()];
  divide.primaryStrideInPixelsX = 0;
  NEAR(both(divide, image(1, 1, 2, {6, 8}), x, blank(1, 2, 2)), {6, 4, 2, 2});
});

// 4.11: two rows of two pixels of two channels.
const bool reductions = add_test("sums and extremes over rows, columns and channels", [] {
  MPSImage* x = image(2, 2, 2, {1, 2, 3, 6, 5, 10, 7, 14});
  id<MTLDevice> d = device();
  NEAR(forward([[MPSNNReduceRowSum alloc] initWithDevice:d], x, blank(2, 1, 2)), {4, 8, 12, 24});
  NEAR(forward([[MPSNNReduceRowMax alloc] initWithDevice:d], x, blank(2, 1, 2)), {3, 6, 7, 14});
  NEAR(forward([[MPSNNReduceRowMin alloc] initWithDevice:d], x, blank(2, 1, 2)), {1, 2, 5, 10});
  NEAR(forward([[MPSNNReduceColumnSum alloc] initWithDevice:d], x, blank(1, 2, 2)),
       {6, 12, 10, 20});
  NEAR(forward([[MPSNNReduceColumnMax alloc] initWithDevice:d], x, blank(1, 2, 2)), {5, 10, 7, 14});
  NEAR(forward([[MPSNNReduceColumnMin alloc] initWithDevice:d], x, blank(1, 2, 2)), {1, 2, 3, 6});
  MPSNNReduceFeatureChannelsSum* sum = [[MPSNNReduceFeatureChannelsSum alloc] initWithDevice:d];
  NEAR(forward(sum, x, blank(2, 2, 1)), {3, 9, 15, 21});
  sum.weight = 0.5f;
  NEAR(forward(sum, x, blank(2, 2, 1)), {1.5f, 4.5f, 7.5f, 10.5f});
  NEAR(forward([[MPSNNReduceFeatureChannelsMax alloc] initWithDevice:d], x, blank(2, 2, 1)),
       {2, 6, 10, 14});
  NEAR(forward([[MPSNNReduceFeatureChannelsMin alloc] initWithDevice:d], x, blank(2, 2, 1)),
       {1, 3, 5, 7});
});

// 4.1: sqrt(1 + 4 + 4 + 16); a window that begins at -1 holds one pixel of four. The average's
// windows begin at -1, 1 and 3: a band of 1 counts positions -1 and 3, and not 4.
const bool pools = add_test("L2 norms, and averages that count a band of zeros", [] {
  MPSCNNPoolingL2Norm* norm = [[MPSCNNPoolingL2Norm alloc] initWithDevice:device()
                                                              kernelWidth:2
                                                             kernelHeight:2
                                                          strideInPixelsX:2
                                                          strideInPixelsY:2];
  norm.offset = {1, 1, 0};
  MPSImage* x = image(2, 2, 1, {1, 2, 2, 4});
  NEAR(forward(norm, x, blank(1, 1, 1)), {5});
  norm.offset = {0, 0, 0};
  NEAR(forward(norm, x, blank(1, 1, 1)), {1});
  MPSCNNPoolingAverage* mean = [[MPSCNNPoolingAverage alloc] initWithDevice:device()
                                                                kernelWidth:2
                                                               kernelHeight:1
                                                            strideInPixelsX:2
                                                            strideInPixelsY:1];
  mean.edgeMode = MPSImageEdgeModeClamp;
  mean.zeroPadSizeX = 1;
  NEAR(forward(mean, image(1, 3, 1, {3, 6, 9}), blank(1, 3, 1)), {1.5f, 7.5f, 0});
});
}  // namespace
