// Batch normalisation: statistics, application, both gradients, states, data source.
#pragma once
#import <MetalPerformanceShaders/MPSCNNKernel.h>

NS_ASSUME_NONNULL_BEGIN
@class MPSCNNBatchNormalization, MPSCNNBatchNormalizationState;
@interface MPSCNNNormalizationGammaAndBetaState : MPSState
@property (nonatomic, readonly) id<MTLBuffer> gamma;
@property (nonatomic, readonly) id<MTLBuffer> beta;
- (instancetype)initWithGamma:(id<MTLBuffer>)gamma beta:(id<MTLBuffer>)beta;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                        numberOfFeatureChannels:(NSUInteger)numberOfFeatureChannels;
@end

@interface MPSCNNNormalizationMeanAndVarianceState : MPSState
@property (nonatomic, readonly) id<MTLBuffer> mean;
@property (nonatomic, readonly) id<MTLBuffer> variance;
- (instancetype)initWithMean:(id<MTLBuffer>)mean variance:(id<MTLBuffer>)variance;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                        numberOfFeatureChannels:(NSUInteger)numberOfFeatureChannels;
@end

@interface MPSCNNBatchNormalizationState : MPSNNGradientState
@property (nonatomic, retain, readonly) MPSCNNBatchNormalization* batchNormalization;
- (instancetype)initWithResource:(id<MTLResource> _Nullable)resource NS_UNAVAILABLE;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                                     bufferSize:(size_t)bufferSize NS_UNAVAILABLE;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                              textureDescriptor:(MTLTextureDescriptor*)descriptor NS_UNAVAILABLE;
- (void)reset;
- (id<MTLBuffer> _Nullable)gamma;
- (id<MTLBuffer> _Nullable)beta;
- (id<MTLBuffer> _Nullable)mean;
- (id<MTLBuffer> _Nullable)variance;
- (id<MTLBuffer> _Nullable)gradientForGamma;
- (id<MTLBuffer> _Nullable)gradientForBeta;
@end

@protocol MPSCNNBatchNormalizationDataSource <NSObject, NSCopying>
- (NSUInteger)numberOfFeatureChannels;
- (float* _Nullable)gamma;
- (float* _Nullable)beta;
- (float* _Nullable)mean;
- (float* _Nullable)variance;
- (BOOL)load;
- (void)purge;
- (NSString* _Nullable)label;
@optional
- (MPSCNNNormalizationGammaAndBetaState* _Nullable)
    updateGammaAndBetaWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState;
- (MPSCNNNormalizationMeanAndVarianceState* _Nullable)
    updateMeanAndVarianceWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState;
- (BOOL)updateGammaAndBetaWithBatchNormalizationState:
    (MPSCNNBatchNormalizationState*)batchNormalizationState;
- (BOOL)updateMeanAndVarianceWithBatchNormalizationState:
    (MPSCNNBatchNormalizationState*)batchNormalizationState;
- (float)epsilon;
- (instancetype)copyWithZone:(NSZone* _Nullable)zone device:(id<MTLDevice> _Nullable)device;
@end

@interface MPSCNNBatchNormalization : MPSCNNKernel
@property (nonatomic, readonly) NSUInteger numberOfFeatureChannels;
@property (nonatomic, assign) float epsilon;
@property (nonatomic, retain, readonly) id<MPSCNNBatchNormalizationDataSource> dataSource;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataSource:(id<MPSCNNBatchNormalizationDataSource>)dataSource;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataSource:(id<MPSCNNBatchNormalizationDataSource>)dataSource
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor* _Nullable)fusedNeuronDescriptor
    NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
      batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
           batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState
                 destinationImages:(MPSImageBatch*)destinationImages;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
             destinationState:(MPSState*)destinationState
             destinationImage:(MPSImage*)destinationImage NS_UNAVAILABLE;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage
                  destinationState:(MPSState* _Nullable* _Nonnull)outState
       destinationStateIsTemporary:(BOOL)isTemporary NS_UNAVAILABLE;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                 destinationStates:(MPSStateBatch* _Nullable)destinationStates
                 destinationImages:(MPSImageBatch*)destinationImages NS_UNAVAILABLE;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages
                           destinationStates:(MPSStateBatch* _Nullable* _Nonnull)outStates
                 destinationStateIsTemporary:(BOOL)isTemporary NS_UNAVAILABLE;
- (MPSCNNBatchNormalizationState* _Nullable)
    resultStateForSourceImage:(MPSImage*)sourceImage
                 sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
             destinationImage:(MPSImage*)destinationImage;
- (MPSCNNBatchNormalizationState* _Nullable)
    temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceImage:(MPSImage*)sourceImage
                            sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                        destinationImage:(MPSImage*)destinationImage;
- (void)reloadDataSource:(id<MPSCNNBatchNormalizationDataSource>)dataSource;
- (void)reloadGammaAndBetaFromDataSource;
- (void)reloadMeanAndVarianceFromDataSource;
- (void)reloadGammaAndBetaWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                          gammaAndBetaState:
                              (MPSCNNNormalizationGammaAndBetaState*)gammaAndBetaState;
- (void)reloadMeanAndVarianceWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                          meanAndVarianceState:
                              (MPSCNNNormalizationMeanAndVarianceState*)meanAndVarianceState;
@end

@interface MPSCNNBatchNormalizationStatistics : MPSCNNKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
           batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                 destinationImages:(MPSImageBatch*)destinationImages NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
             destinationImage:(MPSImage*)destinationImage NS_UNAVAILABLE;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage NS_UNAVAILABLE;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages NS_UNAVAILABLE;
@end

@interface MPSCNNBatchNormalizationGradient : MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor* _Nullable)fusedNeuronDescriptor
    NS_DESIGNATED_INITIALIZER;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
               sourceGradient:(MPSImage*)sourceGradient
                  sourceImage:(MPSImage*)sourceImage
      batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState
          destinationGradient:(MPSImage*)destinationGradient;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   sourceGradients:(MPSImageBatch*)sourceGradients
                      sourceImages:(MPSImageBatch*)sourceImages
           batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState
              destinationGradients:(MPSImageBatch*)destinationGradients;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                    sourceGradient:(MPSImage*)sourceGradient
                       sourceImage:(MPSImage*)sourceImage
           batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceGradients:(MPSImageBatch*)sourceGradients
                                sourceImages:(MPSImageBatch*)sourceImages
                     batchNormalizationState:
                         (MPSCNNBatchNormalizationState*)batchNormalizationState;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                 primaryImage:(MPSImage*)primaryImage
               secondaryImage:(MPSImage*)secondaryImage
             destinationImage:(MPSImage*)destinationImage NS_UNAVAILABLE;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                     primaryImages:(MPSImageBatch*)primaryImages
                   secondaryImages:(MPSImageBatch*)secondaryImages
                 destinationImages:(MPSImageBatch*)destinationImages NS_UNAVAILABLE;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      primaryImage:(MPSImage*)primaryImage
                    secondaryImage:(MPSImage*)secondaryImage NS_UNAVAILABLE;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                               primaryImages:(MPSImageBatch*)primaryImage
                             secondaryImages:(MPSImageBatch*)secondaryImage NS_UNAVAILABLE;
@end

@interface MPSCNNBatchNormalizationStatisticsGradient : MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor* _Nullable)fusedNeuronDescriptor
    NS_DESIGNATED_INITIALIZER;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   sourceGradients:(MPSImageBatch*)sourceGradients
                      sourceImages:(MPSImageBatch*)sourceImages
           batchNormalizationState:(MPSCNNBatchNormalizationState*)batchNormalizationState;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                    sourceGradient:(MPSImage*)sourceGradient
                       sourceImage:(MPSImage*)sourceImage
                     gradientState:(MPSState*)gradientState NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
               sourceGradient:(MPSImage*)sourceGradient
                  sourceImage:(MPSImage*)sourceImage
                gradientState:(MPSState*)gradientState
          destinationGradient:(MPSImage*)destinationGradient NS_UNAVAILABLE;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceGradients:(MPSImageBatch*)sourceGradients
                                sourceImages:(MPSImageBatch*)sourceImages
                              gradientStates:(MPSStateBatch*)gradientStates NS_UNAVAILABLE;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   sourceGradients:(MPSImageBatch*)sourceGradients
                      sourceImages:(MPSImageBatch*)sourceImages
                    gradientStates:(MPSStateBatch*)gradientStates
              destinationGradients:(MPSImageBatch*)destinationGradients NS_UNAVAILABLE;
@end
NS_ASSUME_NONNULL_END
