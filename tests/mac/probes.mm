// Asks Metal Performance Shaders what its documentation leaves open. `mac_probes N` prints one
// answer; without an argument it prints one line a question: number, place in the sources that
// relies on the answer, what is assumed, the question. Each answer is asked for in a process of its
// own, as a kernel that is used in a way it does not take may end it.
#import "probes.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

using V = std::vector<float>;

std::string text(const V& values) {
  std::string all;
  for (const float v : values) {
    char one[32];
    std::snprintf(one, sizeof one, "%s%.4g", all.empty() ? "" : " ", static_cast<double>(v));
    all += one;
  }
  return all;
}

void finish(id<MTLCommandBuffer> cb) {
  [cb commit];
  [cb waitUntilCompleted];
}

namespace {

std::string name_of(MPSImageFeatureChannelFormat format) {
  if (format == MPSImageFeatureChannelFormatFloat32) return "float32";
  return format == MPSImageFeatureChannelFormatFloat16 ? "float16" : "another";
}

MPSCNNNeuron* neuron(MPSCNNNeuronType type, float a = 0, float b = 0) {
  return [[MPSCNNNeuron alloc]
        initWithDevice:device()
      neuronDescriptor:[MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:type a:a b:b c:0]];
}

std::string default_format() {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSImage* y = [neuron(MPSCNNNeuronTypeReLU) encodeToCommandBuffer:cb
                                                        sourceImage:image(1, 1, 1, {1})];
  const std::string format = name_of(y.featureChannelFormat);
  if ([y isKindOfClass:[MPSTemporaryImage class]]) static_cast<MPSTemporaryImage*>(y).readCount = 0;
  finish(cb);
  return format;
}

}  // namespace

@interface ProbeNorm : NSObject <MPSCNNBatchNormalizationDataSource>
@end
@implementation ProbeNorm {
  float _one, _zero;
}
- (NSUInteger)numberOfFeatureChannels {
  return 1;
}
- (float*)gamma {
  return &_one;
}
- (float*)beta {
  return &_zero;
}
- (float*)mean {
  return &_zero;
}
- (float*)variance {
  return &_one;
}
- (BOOL)load {
  _one = 1;
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

MPSCNNBatchNormalizationState* norm_state(MPSCNNBatchNormalization* norm, MPSImage* x) {
  return static_cast<MPSCNNBatchNormalizationState*>([norm resultStateForSourceImage:x
                                                                        sourceStates:nil
                                                                    destinationImage:x]);
}
MPSCNNBatchNormalization* batch_norm() {
  return [[MPSCNNBatchNormalization alloc] initWithDevice:device()
                                               dataSource:[[ProbeNorm alloc] init]];
}
void encode_statistics(MPSImage* x, MPSCNNBatchNormalizationState* state) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [[[MPSCNNBatchNormalizationStatistics alloc] initWithDevice:device()]
      encodeBatchToCommandBuffer:cb
                    sourceImages:@[ x ]
         batchNormalizationState:state];
  [state synchronizeOnCommandBuffer:cb];
  finish(cb);
}

std::string biased_variance() {
  MPSImage* x = image(1, 2, 1, {0, 2});
  MPSCNNBatchNormalizationState* state = norm_state(batch_norm(), x);
  encode_statistics(x, state);
  return text(floats(state.variance));
}

std::string second_statistics() {
  MPSImage* x = image(1, 2, 1, {0, 2});
  MPSCNNBatchNormalizationState* state = norm_state(batch_norm(), x);
  encode_statistics(x, state);
  encode_statistics(image(1, 2, 1, {10, 10}), state);
  return text(floats(state.mean));
}

// The gradient of a loss, and each image's loss, of x against labels t of the same size.
V loss_gradient(MPSCNNLossDescriptor* descriptor, long h, long w, long c, const V& x, const V& t,
                V* values = nullptr) {
  MPSCNNLossDataDescriptor* data = [MPSCNNLossDataDescriptor
      cnnLossDataDescriptorWithData:[NSData dataWithBytes:t.data() length:t.size() * 4]
                             layout:MPSDataLayoutHeightxWidthxFeatureChannels
                               size:MTLSizeMake(static_cast<NSUInteger>(w),
                                                static_cast<NSUInteger>(h),
                                                static_cast<NSUInteger>(c))];
  if (data == nil) return {};
  MPSCNNLossDataDescriptor* _Nonnull there = data;
  MPSCNNLossLabels* labels = [[MPSCNNLossLabels alloc] initWithDevice:device()
                                                     labelsDescriptor:there];
  MPSImage* gradient = blank(h, w, c);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [[[MPSCNNLoss alloc] initWithDevice:device()
                       lossDescriptor:descriptor] encodeToCommandBuffer:cb
                                                            sourceImage:image(h, w, c, x)
                                                                 labels:labels
                                                       destinationImage:gradient];
  [labels synchronizeOnCommandBuffer:cb];
  const V made = run_and_read(cb, gradient);
  if (values != nullptr) *values = read(labels.lossImage);
  return made;
}
MPSCNNLossDescriptor* loss(MPSCNNLossType type,
                           MPSCNNReductionType reduction = MPSCNNReductionTypeSum) {
  return [MPSCNNLossDescriptor cnnLossDescriptorWithType:type reductionType:reduction];
}

std::string reduced_gradients() {
  V all;
  for (const MPSCNNReductionType r :
       {MPSCNNReductionTypeSum, MPSCNNReductionTypeMean, MPSCNNReductionTypeNone})
    all.push_back(loss_gradient(loss(MPSCNNLossTypeMeanSquaredError, r), 2, 2, 1, {1, 1, 1, 1},
                                {0, 0, 0, 0})[0]);
  return text(all);
}

std::string soft_labels() {
  return text(loss_gradient(loss(MPSCNNLossTypeSoftMaxCrossEntropy), 1, 1, 2, {0, 0}, {0.5f, 0}));
}

std::string losses_at_kinks() {
  V all, values;
  all.push_back(loss_gradient(loss(MPSCNNLossTypeHuber), 1, 1, 1, {0.5f}, {0}, &values)[0]);
  all.push_back(values[0]);
  all.push_back(loss_gradient(loss(MPSCNNLossTypeHinge), 1, 1, 1, {0.5f}, {1})[0]);
  all.push_back(loss_gradient(loss(MPSCNNLossTypeMeanAbsoluteError), 1, 1, 1, {1}, {1})[0]);
  return text(all);
}

V neuron_gradient(MPSCNNNeuronType type, float a, float b, const V& at) {
  const long n = static_cast<long>(at.size());
  MPSNNNeuronDescriptor* d = [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:type a:a b:b c:0];
  MPSCNNNeuron* forward = [[MPSCNNNeuron alloc] initWithDevice:device() neuronDescriptor:d];
  MPSCNNNeuronGradient* back = [[MPSCNNNeuronGradient alloc] initWithDevice:device()
                                                           neuronDescriptor:d];
  MPSImage *x = image(1, n, 1, at), *y = blank(1, n, 1), *dx = blank(1, n, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [forward resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [forward encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  [back encodeToCommandBuffer:cb
               sourceGradient:image(1, n, 1, V(at.size(), 1))
                  sourceImage:x
                gradientState:state
          destinationGradient:dx];
  return run_and_read(cb, dx);
}

std::string neuron_gradients() {
  return text({neuron_gradient(MPSCNNNeuronTypeReLUN, 0, 1, {2})[0],
               neuron_gradient(MPSCNNNeuronTypeGeLU, 0, 0, {1})[0],
               neuron_gradient(MPSCNNNeuronTypeReLU, 0, 0, {0})[0]});
}

MPSVector* vector(id<MTLBuffer> b) {
  return [[MPSVector alloc]
      initWithBuffer:b
          descriptor:[MPSVectorDescriptor vectorDescriptorWithLength:b.length / 4
                                                            dataType:MPSDataTypeFloat32]];
}
float regularised(MPSNNRegularizationType type, float weight) {
  MPSNNOptimizerStochasticGradientDescent* sgd = [[MPSNNOptimizerStochasticGradientDescent alloc]
           initWithDevice:device()
            momentumScale:0
      useNesterovMomentum:NO
      optimizerDescriptor:[MPSNNOptimizerDescriptor optimizerDescriptorWithLearningRate:0.1f
                                                                        gradientRescale:2
                                                                  applyGradientClipping:YES
                                                                        gradientClipMax:1
                                                                        gradientClipMin:-1
                                                                     regularizationType:type
                                                                    regularizationScale:0.5f]];
  id<MTLBuffer> w = buffer({weight}), g = buffer({3});
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [sgd encodeToCommandBuffer:cb
         inputGradientVector:vector(g)
           inputValuesVector:vector(w)
         inputMomentumVector:nil
          resultValuesVector:vector(w)];
  synchronize(cb, w);
  finish(cb);
  return floats(w)[0];
}
std::string regularisation() {
  return text(
      {regularised(MPSNNRegularizationTypeL1, -1), regularised(MPSNNRegularizationTypeL2, 1)});
}

std::string winner_of_ties() {
  MPSCNNPoolingMax* forward = [[MPSCNNPoolingMax alloc] initWithDevice:device()
                                                           kernelWidth:2
                                                          kernelHeight:2
                                                       strideInPixelsX:2
                                                       strideInPixelsY:2];
  forward.offset = {1, 1, 0};
  forward.edgeMode = MPSImageEdgeModeClamp;
  MPSCNNPoolingMaxGradient* back = [[MPSCNNPoolingMaxGradient alloc] initWithDevice:device()
                                                                        kernelWidth:2
                                                                       kernelHeight:2
                                                                    strideInPixelsX:2
                                                                    strideInPixelsY:2];
  back.destinationImageAllocator = [MPSImage defaultAllocator];
  MPSImage *x = image(2, 2, 1, {1, 1, 1, 1}), *y = blank(1, 1, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [forward resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [forward encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  MPSImage* dx = [back encodeToCommandBuffer:cb
                              sourceGradient:image(1, 1, 1, {1})
                                 sourceImage:x
                               gradientState:state];
  return text(run_and_read(cb, dx));
}

std::string random_masks() {
  MPSCNNKernel* kernel = [[MPSCNNDropout alloc] initWithDevice:device()
                                               keepProbability:0.5f
                                                          seed:3
                                            maskStrideInPixels:MTLSizeMake(1, 1, 1)];
  const long n = 64;
  MPSImageBatch* x = @[ image(1, 1, n, V(n, 1)), image(1, 1, n, V(n, 1)) ];
  std::vector<V> made;
  for (int pass = 0; pass < 2; ++pass) {
    MPSImageBatch* y = @[ blank(1, 1, n), blank(1, 1, n) ];
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSStateBatch* states = [kernel resultStateBatchForSourceImage:x
                                                      sourceStates:nil
                                                  destinationImage:y];
    [kernel encodeBatchToCommandBuffer:cb
                          sourceImages:x
                     destinationStates:states
                     destinationImages:y];
    MPSImageBatchSynchronize(y, cb);
    finish(cb);
    made.push_back(read(y[0]));
    made.push_back(read(y[1]));
  }
  return std::string(made[0] == made[2] ? "the same" : "new") + " at the next encode, " +
         (made[0] == made[1] ? "the same" : "new") + " for the next image";
}

std::string policy_offsets() {
  MPSCNNConvolution* kernel =
      [[MPSCNNConvolution alloc] initWithDevice:device()
                                        weights:source(3, 3, 1, 1, V(9, 1), {}, 2)];
  V all;
  for (const MPSNNPaddingMethod method :
       {MPSNNPaddingMethodSizeSame | MPSNNPaddingMethodAddRemainderToTopLeft,
        MPSNNPaddingMethodSizeSame | MPSNNPaddingMethodAddRemainderToBottomRight,
        MPSNNPaddingMethodSizeSame | MPSNNPaddingMethodAlignTopLeft}) {
    kernel.padding = [MPSNNDefaultPadding paddingWithMethod:method];
    [kernel destinationImageDescriptorForSourceImages:@[ blank(4, 4, 1) ] sourceStates:nil];
    all.push_back(static_cast<float>(kernel.offset.x));
  }
  return text(all);
}

std::string reads_of_a_copy() {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSTemporaryImage* x = temporary(cb, 1, 1, 1);
  [neuron(MPSCNNNeuronTypeReLU) encodeToCommandBuffer:cb
                                          sourceImage:image(1, 1, 1, {1})
                                     destinationImage:x];
  id<MTLBuffer> to = buffer({0});
  MPSMatrix* matrix = [[MPSMatrix alloc]
      initWithBuffer:to
          descriptor:[MPSMatrixDescriptor matrixDescriptorWithRows:1
                                                           columns:1
                                                          rowBytes:4
                                                          dataType:MPSDataTypeFloat32]];
  x.readCount = 2;
  [[[MPSImageCopyToMatrix alloc] initWithDevice:device()
                                     dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels]
      encodeToCommandBuffer:cb
                sourceImage:x
          destinationMatrix:matrix];
  const NSUInteger left = x.readCount;
  x.readCount = 0;
  finish(cb);
  return left == 2 ? "taken from nothing" : "one read less";
}

// Runs a 1x1 convolution of 3 with gradient 2 `times` times on one state.
MPSCNNConvolutionGradientState* gradient_state(int times, V bias) {
  Source* weights = source(1, 1, 1, 1, {5}, std::move(bias));
  MPSCNNConvolution* forward = [[MPSCNNConvolution alloc] initWithDevice:device() weights:weights];
  MPSCNNConvolutionGradient* back = [[MPSCNNConvolutionGradient alloc] initWithDevice:device()
                                                                              weights:weights];
  MPSImage *x = image(1, 1, 1, {3}), *y = blank(1, 1, 1), *g = image(1, 1, 1, {2});
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSState* state = [forward resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [forward encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  for (int i = 0; i < times; ++i)
    [back encodeToCommandBuffer:cb
                 sourceGradient:g
                    sourceImage:x
                  gradientState:state
            destinationGradient:blank(1, 1, 1)];
  [state synchronizeOnCommandBuffer:cb];
  finish(cb);
  return static_cast<MPSCNNConvolutionGradientState*>(state);
}
std::string two_gradients() { return text(floats(gradient_state(2, {0}).gradientForWeights)); }
std::string gradient_of_no_bias() {
  id<MTLBuffer> made = gradient_state(1, {}).gradientForBiases;
  return made == nil ? "nil" : text(floats(made));
}

std::string dense_order() {
  MPSCNNFullyConnected* kernel =
      [[MPSCNNFullyConnected alloc] initWithDevice:device()
                                           weights:source(2, 2, 1, 1, {1, 2, 3, 4}, {})];
  MPSImage* y = blank(1, 1, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [kernel encodeToCommandBuffer:cb
                    sourceImage:image(2, 2, 1, {1, 10, 100, 1000})
               destinationImage:y];
  return run_and_read(cb, y)[0] == 4321 ? "rows, then columns" : "another order";
}

std::string defaults() {
  MPSCNNConvolution* kernel =
      [[MPSCNNConvolution alloc] initWithDevice:device() weights:source(1, 1, 1, 1, {1}, {})];
  const bool full =
      kernel.accumulatorPrecisionOption == MPSNNConvolutionAccumulatorPrecisionOptionFloat;
  MPSCNNLossLabels* labels = [[MPSCNNLossLabels alloc] initWithDevice:device()
                                                        lossImageSize:MTLSizeMake(1, 1, 1)
                                                          labelsImage:image(1, 1, 1, {1})
                                                         weightsImage:nil];
  return std::string(full ? "float" : "half") + ", " +
         name_of(labels.lossImage.featureChannelFormat);
}

#ifndef MPSNN_APPLE_SIM  // what the backend does not use, and the stand-in does not have
std::string reloaded_gamma() {
  MPSCNNBatchNormalization* norm = batch_norm();
  MPSImage* x = image(1, 2, 1, {0, 2});
  MPSCNNBatchNormalizationState* state = norm_state(norm, x);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [norm reloadGammaAndBetaWithCommandBuffer:cb
                          gammaAndBetaState:[[MPSCNNNormalizationGammaAndBetaState alloc]
                                                initWithGamma:buffer({7})
                                                         beta:buffer({0})]];
  [state synchronizeOnCommandBuffer:cb];
  finish(cb);
  return state.gamma == nil ? "nil" : text(floats(state.gamma));
}

std::string clamped_gradient() {
  MPSCNNAdd* add = [[MPSCNNAdd alloc] initWithDevice:device()];
  add.maximumValue = 1;
  MPSCNNAddGradient* back = [[MPSCNNAddGradient alloc] initWithDevice:device()
                                              isSecondarySourceFilter:NO];
  MPSImage *x = image(1, 1, 1, {1}), *y = blank(1, 1, 1), *dx = blank(1, 1, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSCNNArithmeticGradientState* state =
      static_cast<MPSCNNArithmeticGradientState*>([add resultStateForPrimaryImage:x
                                                                   secondaryImage:x
                                                                     sourceStates:nil
                                                                 destinationImage:y]);
  [add encodeToCommandBuffer:cb
                primaryImage:x
              secondaryImage:x
            destinationState:state
            destinationImage:y];
  [back encodeToCommandBuffer:cb
               sourceGradient:image(1, 1, 1, {1})
                  sourceImage:x
                gradientState:state
          destinationGradient:dx];
  return text(run_and_read(cb, dx));
}

std::string reshaped() {
  MPSNNReshape* kernel = [[MPSNNReshape alloc] initWithDevice:device()];
  V values;
  for (int i = 0; i < 16; ++i) values.push_back(static_cast<float>(i));
  MPSImage* y = blank(1, 1, 16);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [kernel encodeToCommandBuffer:cb sourceImage:image(2, 1, 8, values) destinationImage:y];
  return text(run_and_read(cb, y));
}
std::string upsampled() {
  MPSCNNUpsamplingBilinear* kernel = [[MPSCNNUpsamplingBilinear alloc] initWithDevice:device()
                                                                  integerScaleFactorX:2
                                                                  integerScaleFactorY:1];
  MPSImage* y = blank(1, 8, 1);
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [kernel encodeToCommandBuffer:cb sourceImage:image(1, 4, 1, {0, 1, 2, 3}) destinationImage:y];
  return text(run_and_read(cb, y));
}
// d/dx of x (1 + 1/5 x^2)^-1 at 1, in the middle of five channels: 0.5556.
std::string response_gradient() {
  MPSCNNCrossChannelNormalizationGradient* kernel =
      [[MPSCNNCrossChannelNormalizationGradient alloc] initWithDevice:device() kernelSize:5];
  kernel.alpha = kernel.beta = kernel.delta = 1;
  MPSImage *dx = blank(1, 1, 5), *x = image(1, 1, 5, {0, 0, 1, 0, 0});
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSCNNCrossChannelNormalization* forward =
      [[MPSCNNCrossChannelNormalization alloc] initWithDevice:device() kernelSize:5];
  forward.alpha = forward.beta = forward.delta = 1;
  MPSImage* y = blank(1, 1, 5);
  MPSState* state = [forward resultStateForSourceImage:x sourceStates:nil destinationImage:y];
  [forward encodeToCommandBuffer:cb sourceImage:x destinationState:state destinationImage:y];
  [kernel encodeToCommandBuffer:cb
                 sourceGradient:image(1, 1, 5, {0, 0, 1, 0, 0})
                    sourceImage:x
                  gradientState:state
            destinationGradient:dx];
  return text({run_and_read(cb, dx)[2]});
}
#endif

struct Probe {
  int number;
  const char *place, *assumed, *question;
  std::string (*ask)();
};

const Probe kProbes[] = {
    {1, "encoding.mm, make_images", "float32", "format of the image that an encode makes",
     default_format},
    {2, "norm.mm, state.variance", "1", "is a batch's variance biased (1) or not (2)?",
     biased_variance},
    {3, "norm.mm: a state each step", "5.5",
     "does a second pass add to a state (5.5) or begin anew (10)?", second_statistics},
    {5, "loss.mm, MPSCNNReductionTypeSum", "2 2 2",
     "do reductions (sum, mean, none) scale gradients?", reduced_gradients},
    {6, "loss.mm, mps_computes", "0 0.5", "softmax's gradient where labels sum to a half",
     soft_labels},
    {7, "loss.mm, mps_computes", "0.5 0.125 -1 0",
     "Huber at 0.5 (gradient, loss), hinge, absolute error at 0", losses_at_kinks},
    {8, "neuron.mm, mps_has and make_neuron", "0 1.083 1",
     "derivatives of ReLUN above its bound, GeLU at 1, ReLU at 0", neuron_gradients},
    {9, "optimizer.mm: own kernels", "-1.15 0.75", "clip, rescale, then L1 (w = -1), L2 (w = 1)?",
     regularisation},
    {10, "pool.mm, no assumption", "1 0 0 0", "which of equal values wins a maximum?",
     winner_of_ties},
    {13, "dropout.mm: a kernel each step", "the same at the next encode, new for the next image",
     "when does dropout draw anew?", random_masks},
    {14, "conv.mm and pool.mm: offsets set by hand", "0 1 0",
     "offsets of the policies: remainder top left, bottom right, aligned top left", policy_offsets},
    {15, "encoding.mm, to_buffer", "taken from nothing", "does a copy to a matrix count as a read?",
     reads_of_a_copy},
    {16, "conv.mm, a state each step", "6", "do two gradients on one state overwrite (6) or add?",
     two_gradients},
    {17, "conv.mm, weighs_", "2", "the gradient by a bias that is not there", gradient_of_no_bias},
    {18, "linear.mm: a convolution", "rows, then columns", "order of a dense layer's weights",
     dense_order},
    {19, "rnn_layer.mm: the long form", "1 1",
     "do weight gradients begin anew (1) or add up (2) in a second run: short form, long form?",
     second_weight_gradients},
    {20, "rnn_layer.mm, createWeightGradientMatrices", "2 1",
     "are weight gradients copied out as weights are: by weight, by bias", copied_weight_gradients},
    {24, "conv.mm and loss.mm", "float, float32", "default accumulator; format of a loss image",
     defaults},
#ifndef MPSNN_APPLE_SIM
    {4, "norm.mm, reloadGammaAndBeta each step", "7", "does a state see a scale reloaded later?",
     reloaded_gamma},
    {11, "resample.mm: own kernel", "0 0.25 0.75 1.25 1.75 2.25 2.75 3",
     "where bilinear upsampling samples", upsampled},
    {12, "shape.mm: own kernels", "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "order of a reshape",
     reshaped},
    {23, "arithmetic.mm, no limits set", "1", "is a clamp differentiated (0) or not (1)?",
     clamped_gradient},
    {22, "optimizer.mm: gradients are float32", "ended",
     "does SGD take float16 gradients for float32 values (0.5), or end the process?",
     half_gradients},
    {25, "unit_loss.mm: own kernels", "0.4688 -25 1.25 -0.5",
     "YOLO's gradients by x, object, no object and class: divided by objects, cells?",
     yolo_gradients},
    {21, "local_norm.mm: own kernels", "0.5556",
     "is the gradient of a response norm divided by the window?", response_gradient},
#endif
};

}  // namespace

int main(int count, char** arguments) {
  setenv("APPLE_SIM_DEVICES", "discrete", 1);
  const int wanted = count > 1 ? std::atoi(arguments[1]) : 0;
  for (const Probe& probe : kProbes) {
    if (count < 2) {
      std::printf("%d\t%s\t%s\t%s\n", probe.number, probe.place, probe.assumed, probe.question);
    } else if (probe.number == wanted) {
      @autoreleasepool {
        std::printf("%s\n", probe.ask().c_str());
      }
      return 0;
    }
  }
  return count > 1;
}
