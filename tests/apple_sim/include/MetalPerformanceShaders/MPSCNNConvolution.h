// Convolution, fully connected layers, their gradients, states and data source.
#pragma once
#import <MetalPerformanceShaders/MPSCNNKernel.h>

NS_ASSUME_NONNULL_BEGIN
@class MPSCNNConvolution, MPSCNNConvolutionGradientState, MPSCNNConvolutionWeightsAndBiasesState;
@protocol MPSCNNConvolutionDataSource;
typedef NS_OPTIONS(NSUInteger, MPSNNConvolutionAccumulatorPrecisionOption) {
  MPSNNConvolutionAccumulatorPrecisionOptionHalf = 0,
  MPSNNConvolutionAccumulatorPrecisionOptionFloat = 1,
};

typedef NS_ENUM(uint32_t, MPSCNNConvolutionWeightsLayout) {
  MPSCNNConvolutionWeightsLayoutOHWI = 0,
};

typedef NS_ENUM(uint32_t, MPSCNNWeightsQuantizationType) {
  MPSCNNWeightsQuantizationTypeNone = 0,
  MPSCNNWeightsQuantizationTypeLinear = 1,
  MPSCNNWeightsQuantizationTypeLookupTable = 2,
};

typedef NS_OPTIONS(NSUInteger, MPSCNNConvolutionGradientOption) {
  MPSCNNConvolutionGradientOptionGradientWithData = 1,
  MPSCNNConvolutionGradientOptionGradientWithWeightsAndBias = 2,
  MPSCNNConvolutionGradientOptionAll = 3,
};

@interface MPSCNNConvolutionDescriptor : NSObject <NSCopying>
@property (nonatomic, assign) NSUInteger kernelWidth;
@property (nonatomic, assign) NSUInteger kernelHeight;
@property (nonatomic, assign) NSUInteger inputFeatureChannels;
@property (nonatomic, assign) NSUInteger outputFeatureChannels;
@property (nonatomic, assign) NSUInteger strideInPixelsX;
@property (nonatomic, assign) NSUInteger strideInPixelsY;
@property (nonatomic, assign) NSUInteger groups;
@property (nonatomic, assign) NSUInteger dilationRateX;
@property (nonatomic, assign) NSUInteger dilationRateY;
@property (nonatomic, retain) MPSNNNeuronDescriptor* fusedNeuronDescriptor;
+ (instancetype)cnnConvolutionDescriptorWithKernelWidth:(NSUInteger)kernelWidth
                                           kernelHeight:(NSUInteger)kernelHeight
                                   inputFeatureChannels:(NSUInteger)inputFeatureChannels
                                  outputFeatureChannels:(NSUInteger)outputFeatureChannels;
- (void)setBatchNormalizationParametersForInferenceWithMean:(const float* _Nullable)mean
                                                   variance:(const float* _Nullable)variance
                                                      gamma:(const float* _Nullable)gamma
                                                       beta:(const float* _Nullable)beta
                                                    epsilon:(const float)epsilon;
@end

@interface MPSCNNDepthWiseConvolutionDescriptor : MPSCNNConvolutionDescriptor
@property (nonatomic, readonly) NSUInteger channelMultiplier;
@end

@interface MPSCNNConvolutionGradientState : MPSNNGradientState <MPSImageSizeEncodingState>
@property (nonatomic, readonly) id<MTLBuffer> gradientForWeights;
@property (nonatomic, readonly) id<MTLBuffer> gradientForBiases;
@property (nonatomic, retain, readonly) MPSCNNConvolution* convolution;
@property (nonatomic, readonly) MPSCNNConvolutionWeightsLayout gradientForWeightsLayout;
@end

typedef NSArray<MPSCNNConvolutionGradientState*> MPSCNNConvolutionGradientStateBatch;

@interface MPSCNNConvolutionWeightsAndBiasesState : MPSState
@property (nonatomic, readonly) id<MTLBuffer> weights;
@property (nonatomic, readonly) id<MTLBuffer> _Nullable biases;
@property (nonatomic, readonly) NSUInteger weightsOffset;
@property (nonatomic, readonly) NSUInteger biasesOffset;
- (instancetype)initWithWeights:(id<MTLBuffer>)weights biases:(id<MTLBuffer> _Nullable)biases;
- (instancetype)initWithDevice:(id<MTLDevice>)device
      cnnConvolutionDescriptor:(MPSCNNConvolutionDescriptor*)descriptor;
+ (instancetype)temporaryCNNConvolutionWeightsAndBiasesStateWithCommandBuffer:
                    (id<MTLCommandBuffer>)commandBuffer
                                                     cnnConvolutionDescriptor:
                                                         (MPSCNNConvolutionDescriptor*)descriptor;
- (instancetype)initWithWeights:(id<MTLBuffer>)weights
                  weightsOffset:(NSUInteger)weightsOffset
                         biases:(id<MTLBuffer> _Nullable)biases
                   biasesOffset:(NSUInteger)biasesOffset
       cnnConvolutionDescriptor:(MPSCNNConvolutionDescriptor*)descriptor;
@end

@protocol MPSCNNConvolutionDataSource <NSCopying, NSObject>
- (MPSDataType)dataType;
- (MPSCNNConvolutionDescriptor*)descriptor;
- (void*)weights;
- (float* _Nullable)biasTerms;
- (BOOL)load;
- (void)purge;
- (NSString* _Nullable)label;
@optional
- (vector_float2*)rangesForUInt8Kernel;
- (float*)lookupTableForUInt8Kernel;
- (MPSCNNWeightsQuantizationType)weightsQuantizationType;
- (MPSCNNConvolutionWeightsAndBiasesState* _Nullable)
    updateWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
              gradientState:(MPSCNNConvolutionGradientState*)gradientState
                sourceState:(MPSCNNConvolutionWeightsAndBiasesState*)sourceState;
- (BOOL)updateWithGradientState:(MPSCNNConvolutionGradientState*)gradientState
                    sourceState:(MPSCNNConvolutionWeightsAndBiasesState*)sourceState;
- (instancetype)copyWithZone:(NSZone* _Nullable)zone device:(id<MTLDevice> _Nullable)device;
- (MPSCNNConvolutionWeightsLayout)weightsLayout;
- (MPSDataType)kernelWeightsDataType;
@end

@interface MPSCNNConvolution : MPSCNNKernel
@property (nonatomic, readonly) NSUInteger inputFeatureChannels;
@property (nonatomic, readonly) NSUInteger outputFeatureChannels;
@property (nonatomic, readonly) NSUInteger groups;
@property (nonatomic, retain, readonly) id<MPSCNNConvolutionDataSource> dataSource;
@property (nonatomic, readonly) NSUInteger subPixelScaleFactor;
@property (nonatomic, readonly) MPSNNNeuronDescriptor* _Nullable fusedNeuronDescriptor;
@property (nonatomic, readonly) NSUInteger channelMultiplier;
@property (nonatomic, assign) MPSNNConvolutionAccumulatorPrecisionOption accumulatorPrecisionOption;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)weights NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (MPSCNNConvolutionGradientState* _Nullable)
    resultStateForSourceImage:(MPSImage*)sourceImage
                 sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
             destinationImage:(MPSImage*)destinationImage;
- (MPSCNNConvolutionGradientStateBatch* _Nullable)
    resultStateBatchForSourceImage:(MPSImageBatch*)sourceImage
                      sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                  destinationImage:(MPSImageBatch*)destinationImage;
- (MPSCNNConvolutionGradientState* _Nullable)
    temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceImage:(MPSImage*)sourceImage
                            sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                        destinationImage:(MPSImage*)destinationImage;
- (MPSCNNConvolutionGradientStateBatch* _Nullable)
    temporaryResultStateBatchForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                  sourceImage:(MPSImageBatch*)sourceImage
                                 sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                             destinationImage:(MPSImageBatch*)destinationImage;
- (void)reloadWeightsAndBiasesFromDataSource;
- (void)reloadWeightsAndBiasesWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                          state:(MPSCNNConvolutionWeightsAndBiasesState*)state;
- (MPSCNNConvolutionWeightsAndBiasesState*)
    exportWeightsAndBiasesWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  resultStateCanBeTemporary:(BOOL)resultStateCanBeTemporary;
@end

@interface MPSCNNConvolutionGradient : MPSCNNGradientKernel
@property (nonatomic, readonly) NSUInteger sourceGradientFeatureChannels;
@property (nonatomic, readonly) NSUInteger sourceImageFeatureChannels;
@property (nonatomic, readonly) NSUInteger groups;
@property (nonatomic, readonly) NSUInteger channelMultiplier;
@property (nonatomic, retain, readonly) id<MPSCNNConvolutionDataSource> dataSource;
@property (nonatomic, assign) MPSCNNConvolutionGradientOption gradientOption;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)weights NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)reloadWeightsAndBiasesFromDataSource;
- (void)reloadWeightsAndBiasesWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                          state:(MPSCNNConvolutionWeightsAndBiasesState*)state;
@end

@interface MPSCNNFullyConnected : MPSCNNConvolution
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)weights NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
@end

@interface MPSCNNFullyConnectedGradient : MPSCNNConvolutionGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)weights NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
@end
NS_ASSUME_NONNULL_END
