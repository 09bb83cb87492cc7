// Layers, forward and gradient, against numbers worked by hand.
#include <cmath>

#import "check.h"

namespace {
using V = std::vector<float>;
const float kNan = NAN;

template <class Kernel>
V forward(Kernel* k, MPSImage* x, MPSImage* y) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [k encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
  return run_and_read(cb, y);
}

// 2.3: out[i] = sum w[p] src[o + s i - k/2 + p]. Row 1 2 3 4 5, kernel 1 10 100.
const bool offsets = add_test("convolution: offset is the centre tap", [] {
  MPSImage* x = image(1, 5, 1, {1, 2, 3, 4, 5});
  MPSCNNConvolution* k =
      [[MPSCNNConvolution alloc] initWithDevice:device()
                                        weights:source(1, 3, 1, 1, {1, 10, 100}, {0.5f})];
  NEAR(forward(k, x, blank(1, 5, 1)), {210.5f, 321.5f, 432.5f, 543.5f, 54.5f});
  k.offset = {1, 0, 0};  // "valid"
  NEAR(forward(k, x, blank(1, 3, 1)), {321.5f, 432.5f, 543.5f});
});

// 2.3, even kernel: one more tap on the left; k = 2, offset 1 - pad.
const bool even = add_test("convolution: an even kernel reaches further to the left", [] {
  MPSCNNConvolution* k = [[MPSCNNConvolution alloc] initWithDevice:device()
                                                           weights:source(1, 2, 1, 1, {1, 10}, {})];
  NEAR(forward(k, image(1, 3, 1, {1, 2, 3}), blank(1, 3, 1)), {10, 21, 32});
});

// 2.4 table: k 3, stride 2, same, source 4: remainder top-left 1 / 0, bottom-right 0 / 1.
const bool padding = add_test("padding policies: the table of 2.4", [] {
  MPSCNNConvolution* k =
      [[MPSCNNConvolution alloc] initWithDevice:device()
                                        weights:source(3, 3, 1, 1, V(9, 1), {}, 2)];
  MPSImage* x = blank(4, 4, 1);
  MPSImageDescriptor* d = [k destinationImageDescriptorForSourceImages:@[ x ] sourceStates:nil];
  CHECK(d.width == 2 && k.offset.x == 0 && k.offset.y == 0);
  k.padding = [MPSNNDefaultPadding
      paddingWithMethod:MPSNNPaddingMethodAddRemainderToBottomRight | MPSNNPaddingMethodSizeSame];
  [k destinationImageDescriptorForSourceImages:@[ x ] sourceStates:nil];
  CHECK(k.offset.x == 1 && k.offset.y == 1);
  k.padding = [MPSNNDefaultPadding paddingWithMethod:MPSNNPaddingMethodSizeValidOnly];
  d = [k destinationImageDescriptorForSourceImages:@[ blank(6, 6, 1) ] sourceStates:nil];
  CHECK(d.width == 2 && k.offset.x == 1);
});

// 4.11: one value a row, a column, a pixel. Two rows of two pixels of two channels.
const bool means = add_test("means over rows, columns and channels", [] {
  MPSImage* x = image(2, 2, 2, {1, 2, 3, 6, 5, 10, 7, 14});
  MPSNNReduceRowMean* row = [[MPSNNReduceRowMean alloc] initWithDevice:device()];
  NEAR(forward(row, x, blank(2, 1, 2)), {2, 4, 6, 12});
  MPSNNReduceColumnMean* column = [[MPSNNReduceColumnMean alloc] initWithDevice:device()];
  NEAR(forward(column, x, blank(1, 2, 2)), {3, 6, 5, 10});
  MPSNNReduceFeatureChannelsMean* pixel =
      [[MPSNNReduceFeatureChannelsMean alloc] initWithDevice:device()];
  NEAR(forward(pixel, x, blank(2, 2, 1)), {1.5f, 4.5f, 7.5f, 10.5f});
  row.clipRectSource = MTLRegionMake2D(1, 0, 1, 2);
  NEAR(forward(row, x, blank(2, 1, 2)), {3, 6, 7, 14});
  VIOLATES("MPSNNReduceColumnMean: 2 x 2 x 2", { forward(column, x, blank(2, 2, 2)); });
});

// 3.2: OHWI; 1x1 kernel, in 2, out 2: a matrix.
const bool ohwi = add_test("convolution: weights are OHWI, channels in fours do not mix", [] {
  MPSCNNConvolution* k = [[MPSCNNConvolution alloc]
      initWithDevice:device()
             weights:source(1, 1, 5, 2, {1, 2, 3, 4, 5, 10, 20, 30, 40, 50}, {1, -1})];
  NEAR(forward(k, image(1, 1, 5, {1, 1, 1, 1, 2}), blank(1, 1, 2)), {21, 199});
});

// 3.3: weights are rounded to half unless kernelWeightsDataType is float32. 1 + 2^-12 is no half.
const bool precision =
    add_test("convolution: kernel weights are halves unless asked otherwise", [] {
      const float w = 1 + 1.f / 4096;
      MPSImage* x = image(1, 1, 1, {4096});
      for (bool half : {false, true}) {
        MPSCNNConvolution* k =
            [[MPSCNNConvolution alloc] initWithDevice:device()
                                              weights:source(1, 1, 1, 1, {w}, {}, 1, half)];
        NEAR(forward(k, x, blank(1, 1, 1)), {half ? 4096.f : 4097.f});
      }
    });

const bool half_image =
    add_test("float16 images round to nearest even and overflow to infinity", [] {
      MPSCNNNeuron* k = [[MPSCNNNeuron alloc]
            initWithDevice:device()
          neuronDescriptor:[MPSNNNeuronDescriptor
                               cnnNeuronDescriptorWithType:MPSCNNNeuronTypeNone]];
      MPSImage* y = blank(1, 1, 4, true);
      id<MTLCommandBuffer> cb = [queue() commandBuffer];
      [k encodeToCommandBuffer:cb
                   sourceImage:image(1, 1, 4, {2049, 2051, 1.f / 16777216, -65504})
              destinationImage:y];
      NEAR(run_and_read(cb, y), {2048, 2052, 1.f / 16777216, -65504});
    });

// 1x1 convolution with 2049 ones and a half accumulator: 2048 + 1 = 2048 in halves.
const bool half_sum = add_test("convolution: the half accumulator rounds every sum", [] {
  MPSCNNConvolution* k =
      [[MPSCNNConvolution alloc] initWithDevice:device()
                                        weights:source(1, 2, 2, 1, {2048, 1, 1, 1}, {}, 1, true)];
  k.offset = {1, 0, 0};
  k.accumulatorPrecisionOption = MPSNNConvolutionAccumulatorPrecisionOptionHalf;
  NEAR(forward(k, image(1, 2, 2, {1, 1, 1, 1}), blank(1, 1, 1)), {2048});
  k.accumulatorPrecisionOption = MPSNNConvolutionAccumulatorPrecisionOptionFloat;
  NEAR(forward(k, image(1, 2, 2, {1, 1, 1, 1}), blank(1, 1, 1)), {2051});
});

// 3.6, by hand: row x = 1 2 3, kernel w = 1 10 100 at offset 0, g = 1 2 3.
// dx[j] = sum g[i] w[j - i + 1]: {1*10+2*1, 1*100+2*10+3*1, 2*100+3*10}; the batch of two sums dw.
const bool gradient = add_test("convolution gradient: data, weights over the batch, biases", [] {
  Source* s = source(1, 3, 1, 1, {1, 10, 100}, {0});
  MPSCNNConvolution* k = [[MPSCNNConvolution alloc] initWithDevice:device() weights:s];
  MPSCNNConvolutionGradient* q = [[MPSCNNConvolutionGradient alloc] initWithDevice:device()
                                                                           weights:s];
  MPSImage* x = image(1, 3, 1, {1, 2, 3});
  MPSImage* g = image(1, 3, 1, {1, 2, 3});
  for (bool manual : {false, true}) {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSStateBatch* states = [k resultStateBatchForSourceImage:@[ x, x ]
                                                 sourceStates:nil
                                             destinationImage:@[ x, x ]];
    CHECK(states[0] == states[1]);
    [k encodeBatchToCommandBuffer:cb
                     sourceImages:@[ x, x ]
                destinationStates:states
                destinationImages:@[ blank(1, 3, 1), blank(1, 3, 1) ]];
    MPSImageBatch* dx;
    q.destinationImageAllocator = [MPSImage defaultAllocator];
    if (manual) {
      q.primaryOffset = {0, 0, 0};
      q.kernelOffsetX = q.kernelOffsetY = 0;
      q.secondaryOffset = {-1, 0, 0};
      dx = @[ blank(1, 3, 1), blank(1, 3, 1) ];
      [q encodeBatchToCommandBuffer:cb
                    sourceGradients:@[ g, g ]
                       sourceImages:@[ x, x ]
                     gradientStates:states
               destinationGradients:dx];
    } else {
      dx = [q encodeBatchToCommandBuffer:cb
                         sourceGradients:@[ g, g ]
                            sourceImages:@[ x, x ]
                          gradientStates:states];
    }
    MPSCNNConvolutionGradientState* state = (MPSCNNConvolutionGradientState*)states[0];
    [state synchronizeOnCommandBuffer:cb];
    NEAR(run_and_read(cb, dx[1]), {12, 123, 230});
    NEAR(floats(state.gradientForWeights), {2 * 8, 2 * 14, 2 * 8});
    NEAR(floats(state.gradientForBiases), {12});
  }
});

// 3.4: reload on the command buffer, ordered with the encodes before and after.
const bool reload = add_test("convolution: weights reloaded from a state", [] {
  MPSCNNConvolution* k = [[MPSCNNConvolution alloc] initWithDevice:device()
                                                           weights:source(1, 1, 1, 1, {2}, {0})];
  MPSImage *x = image(1, 1, 1, {3}), *before = blank(1, 1, 1), *after = blank(1, 1, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [k encodeToCommandBuffer:cb sourceImage:x destinationImage:before];
  [k reloadWeightsAndBiasesWithCommandBuffer:cb
                                       state:[[MPSCNNConvolutionWeightsAndBiasesState alloc]
                                                 initWithWeights:buffer({5})
                                                          biases:buffer({1})]];
  [k encodeToCommandBuffer:cb sourceImage:x destinationImage:after];
  [before synchronizeOnCommandBuffer:cb];
  NEAR(run_and_read(cb, after), {16});
  NEAR(read(before), {6});
});

// Steps in flight: a reload is encoded while the command buffer before carries one out.
const bool reloads = add_test("convolution: weights reloaded in every command buffer", [] {
  MPSCNNConvolution* k = [[MPSCNNConvolution alloc] initWithDevice:device()
                                                           weights:source(1, 1, 1, 1, {2}, {0})];
  MPSImage *x = image(1, 1, 1, {3}), *y = blank(1, 1, 1);
  id<MTLCommandBuffer> cb = nil, last = nil;
  for (int i = 0; i < 200; ++i) {
    [last waitUntilCompleted];  // two in flight
    last = cb;
    cb = [queue() commandBuffer];
    [k reloadWeightsAndBiasesWithCommandBuffer:cb
                                         state:[[MPSCNNConvolutionWeightsAndBiasesState alloc]
                                                   initWithWeights:buffer({static_cast<float>(i)})
                                                            biases:buffer({1})]];
    if (i < 199) [cb commit];
  }
  [k encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
  NEAR(run_and_read(cb, y), {3 * 199 + 1});
});

// 4.1: 2x2 windows, stride 2, offset 1 = the window starts at 0.
const bool pooling = add_test("pooling: windows, edges, gradients", [] {
  const V values = {-1, -2, -3, -4, -5, -6, -7, -8, -9};
  MPSImage* x = image(3, 3, 1, values);
  MPSCNNPoolingMax* max = [[MPSCNNPoolingMax alloc] initWithDevice:device()
                                                       kernelWidth:2
                                                      kernelHeight:2
                                                   strideInPixelsX:2
                                                   strideInPixelsY:2];
  max.offset = {1, 1, 0};
  NEAR(forward(max, x, blank(2, 2, 1)), {-1, 0, 0, 0});  // edge zero takes part as 0
  max.edgeMode = MPSImageEdgeModeClamp;
  NEAR(forward(max, x, blank(2, 2, 1)), {-1, -3, -7, -9});
  MPSCNNPoolingAverage* mean = [[MPSCNNPoolingAverage alloc] initWithDevice:device()
                                                                kernelWidth:2
                                                               kernelHeight:2
                                                            strideInPixelsX:2
                                                            strideInPixelsY:2];
  mean.offset = {1, 1, 0};
  NEAR(forward(mean, x, blank(2, 2, 1)), {-3, -9.f / 4, -15.f / 4, -9.f / 4});
  mean.edgeMode = MPSImageEdgeModeClamp;
  NEAR(forward(mean, x, blank(2, 2, 1)), {-3, -4.5f, -7.5f, -9});

  MPSImage* g = image(2, 2, 1, {4, 8, 12, 16});
  for (bool average : {false, true}) {
    MPSCNNPooling* f = average ? mean : (MPSCNNPooling*)max;
    MPSCNNPoolingGradient* q =
        average ? [[MPSCNNPoolingAverageGradient alloc] initWithDevice:device()
                                                           kernelWidth:2
                                                          kernelHeight:2
                                                       strideInPixelsX:2
                                                       strideInPixelsY:2]
                : (MPSCNNPoolingGradient*)[[MPSCNNPoolingMaxGradient alloc] initWithDevice:device()
                                                                               kernelWidth:2
                                                                              kernelHeight:2
                                                                           strideInPixelsX:2
                                                                           strideInPixelsY:2];
    q.destinationImageAllocator = [MPSImage defaultAllocator];
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSState* state = [f resultStateForSourceImage:x sourceStates:nil destinationImage:g];
    [f encodeToCommandBuffer:cb
                 sourceImage:x
            destinationState:state
            destinationImage:blank(2, 2, 1)];
    MPSImage* dx = [q encodeToCommandBuffer:cb sourceGradient:g sourceImage:x gradientState:state];
    if (average)
      NEAR(run_and_read(cb, dx), {1, 1, 4, 1, 1, 4, 6, 6, 16});
    else
      NEAR(run_and_read(cb, dx), {4, 0, 8, 0, 0, 0, 12, 0, 16});
  }
});

// 4.2: value and derivative at -1, 0, 2.
const bool neurons = add_test("neurons: values and derivatives", [] {
  struct Case {
    MPSCNNNeuronType type;
    float a, b, c;
    V y, d;
  };
  const float s1 = 1 / (1 + std::exp(1.f)), s2 = 1 / (1 + std::exp(-2.f)), e1 = std::exp(-1.f);
  const float t1 = std::tanh(1.f), t2 = std::tanh(2.f);
  const Case cases[] = {
      {MPSCNNNeuronTypeReLU, 0.5f, 0, 0, {-0.5f, 0, 2}, {0.5f, 1, 1}},
      {MPSCNNNeuronTypeLinear, 3, 1, 0, {-2, 1, 7}, {3, 3, 3}},
      {MPSCNNNeuronTypeSigmoid, 0, 0, 0, {s1, 0.5f, s2}, {s1 * (1 - s1), 0.25f, s2 * (1 - s2)}},
      {MPSCNNNeuronTypeHardSigmoid, 0.2f, 0.5f, 0, {0.3f, 0.5f, 0.9f}, {0.2f, 0.2f, 0.2f}},
      {MPSCNNNeuronTypeTanH, 1, 1, 0, {-t1, 0, t2}, {1 - t1 * t1, 1, 1 - t2 * t2}},
      {MPSCNNNeuronTypeAbsolute, 0, 0, 0, {1, 0, 2}, {-1, 0, 1}},
      {MPSCNNNeuronTypeSoftSign, 0, 0, 0, {-0.5f, 0, 2.f / 3}, {0.25f, 1, 1.f / 9}},
      {MPSCNNNeuronTypeELU, 1, 0, 0, {e1 - 1, 0, 2}, {e1, 1, 1}},
      {MPSCNNNeuronTypeReLUN, 0, 1, 0, {0, 0, 1}, {0, 1, 0}},
      {MPSCNNNeuronTypePower, 1, 2, 2, {1, 4, 16}, {2, 4, 8}},
      {MPSCNNNeuronTypeExponential,
       1,
       0,
       2,
       {0.5f, 1, 4},
       {0.5f * 0.6931472f, 0.6931472f, 4 * 0.6931472f}},
      {MPSCNNNeuronTypeLogarithm, 1, 2, -1, {0, 0.6931472f, 1.3862944f}, {1, 0.5f, 0.25f}},
  };
  MPSImage *x = image(1, 3, 1, {-1, 0, 2}), *g = image(1, 3, 1, {1, 1, 1});
  for (const Case& c : cases) {
    MPSNNNeuronDescriptor* d = [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:c.type
                                                                                a:c.a
                                                                                b:c.b
                                                                                c:c.c];
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

// 4.3: y = {1/4, 3/4} from logits {0, ln 3}; dx = y (g - sum g y) with g = {4, 0}: sum = 1.
const bool softmax = add_test("softmax and its gradient, by the forward output", [] {
  MPSImage *x = image(1, 1, 2, {0, std::log(3.f)}), *y = blank(1, 1, 2), *dx = blank(1, 1, 2);
  MPSCNNSoftMax* k = [[MPSCNNSoftMax alloc] initWithDevice:device()];
  MPSCNNSoftMaxGradient* q = [[MPSCNNSoftMaxGradient alloc] initWithDevice:device()];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [k resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [k encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  [q encodeToCommandBuffer:cb
            sourceGradient:image(1, 1, 2, {4, 0})
               sourceImage:y
             gradientState:state
       destinationGradient:dx];
  [y synchronizeOnCommandBuffer:cb];
  NEAR(run_and_read(cb, dx), {0.75f, -0.75f});
  NEAR(read(y), {0.25f, 0.75f});
});

// 4.10: parts written at multiples of 4; the gap keeps the poison of fresh memory.
const bool concat = add_test("concatenation by destination offset leaves the gap poisoned", [] {
  MPSCNNNeuron* copy = [[MPSCNNNeuron alloc]
        initWithDevice:device()
      neuronDescriptor:[MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeNone]];
  MPSImage* y = blank(1, 1, 6);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [copy encodeToCommandBuffer:cb sourceImage:image(1, 1, 3, {1, 2, 3}) destinationImage:y];
  copy.destinationFeatureChannelOffset = 4;
  [copy encodeToCommandBuffer:cb sourceImage:image(1, 1, 2, {5, 6}) destinationImage:y];
  NEAR(run_and_read(cb, y), {1, 2, 3, kNan, 5, 6});
  copy.destinationFeatureChannelOffset = 0;
  copy.sourceFeatureChannelOffset = 4;
  copy.sourceFeatureChannelMaxCount = 2;
  NEAR(forward(copy, y, blank(1, 1, 2)), {5, 6});
});

// 8.1: row n holds image n, real channels only.
const bool matrices = add_test("images to a matrix and back", [] {
  id<MTLBuffer> data = buffer(V(12, 0));
  MPSMatrix* m = [[MPSMatrix alloc]
      initWithBuffer:data
          descriptor:[MPSMatrixDescriptor matrixDescriptorWithRows:2
                                                           columns:6
                                                          rowBytes:24
                                                          dataType:MPSDataTypeFloat32]];
  MPSImageBatch* x = @[ image(1, 2, 3, {1, 2, 3, 4, 5, 6}), image(1, 2, 3, {7, 8, 9, 10, 11, 12}) ];
  MPSImageBatch* y = @[ blank(1, 2, 3), blank(1, 2, 3) ];
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSImageCopyToMatrix* there =
      [[MPSImageCopyToMatrix alloc] initWithDevice:device()
                                        dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels];
  MPSMatrixCopyToImage* back =
      [[MPSMatrixCopyToImage alloc] initWithDevice:device()
                                        dataLayout:MPSDataLayoutFeatureChannelsxHeightxWidth];
  [there encodeBatchToCommandBuffer:cb sourceImages:x destinationMatrix:m];
  [back encodeBatchToCommandBuffer:cb sourceMatrix:m destinationImages:y];
  synchronize(cb, data);
  NEAR(run_and_read(cb, y[1]), {7, 9, 11, 8, 10, 12});
  NEAR(floats(data), {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
});
}  // namespace
