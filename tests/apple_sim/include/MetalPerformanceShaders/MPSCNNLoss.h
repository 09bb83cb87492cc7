// Losses, their labels and descriptors.
#pragma once
#import <MetalPerformanceShaders/MPSCNNKernel.h>

NS_ASSUME_NONNULL_BEGIN
@class MPSCNNLoss;
typedef NS_ENUM(uint32_t, MPSCNNLossType) {
  MPSCNNLossTypeMeanAbsoluteError = 0,
  MPSCNNLossTypeMeanSquaredError = 1,
  MPSCNNLossTypeSoftMaxCrossEntropy = 2,
  MPSCNNLossTypeSigmoidCrossEntropy = 3,
  MPSCNNLossTypeCategoricalCrossEntropy = 4,
  MPSCNNLossTypeHinge = 5,
  MPSCNNLossTypeHuber = 6,
  MPSCNNLossTypeCosineDistance = 7,
  MPSCNNLossTypeLog = 8,
  MPSCNNLossTypeKullbackLeiblerDivergence = 9,
  MPSCNNLossTypeCount = 10,
};

typedef NS_ENUM(int32_t, MPSCNNReductionType) {
  MPSCNNReductionTypeNone = 0,
  MPSCNNReductionTypeSum = 1,
  MPSCNNReductionTypeMean = 2,
  MPSCNNReductionTypeSumByNonZeroWeights = 3,
  MPSCNNReductionTypeCount = 4,
};

@interface MPSCNNLossDescriptor : NSObject <NSCopying>
@property (nonatomic, assign) MPSCNNLossType lossType;
@property (nonatomic, assign) MPSCNNReductionType reductionType;
@property (nonatomic, assign) BOOL reduceAcrossBatch;
@property (nonatomic, assign) float weight;
@property (nonatomic, assign) float labelSmoothing;
@property (nonatomic, assign) NSUInteger numberOfClasses;
@property (nonatomic, assign) float epsilon;
@property (nonatomic, assign) float delta;
- (instancetype)init NS_UNAVAILABLE;
+ (MPSCNNLossDescriptor*)cnnLossDescriptorWithType:(MPSCNNLossType)lossType
                                     reductionType:(MPSCNNReductionType)reductionType;
@end

@interface MPSCNNLossDataDescriptor : NSObject <NSCopying>
@property (nonatomic, readonly) MPSDataLayout layout;
@property (nonatomic, readonly) MTLSize size;
@property (nonatomic, assign) NSUInteger bytesPerRow;
@property (nonatomic, assign) NSUInteger bytesPerImage;
- (instancetype)init NS_UNAVAILABLE;
+ (MPSCNNLossDataDescriptor* _Nullable)cnnLossDataDescriptorWithData:(NSData*)data
                                                              layout:(MPSDataLayout)layout
                                                                size:(MTLSize)size;
@end

@interface MPSCNNLossLabels : MPSState
- (instancetype)init NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
              labelsDescriptor:(MPSCNNLossDataDescriptor*)labelsDescriptor;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 lossImageSize:(MTLSize)lossImageSize
              labelsDescriptor:(MPSCNNLossDataDescriptor*)labelsDescriptor
             weightsDescriptor:(MPSCNNLossDataDescriptor* _Nullable)weightsDescriptor
    NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 lossImageSize:(MTLSize)lossImageSize
                   labelsImage:(MPSImage*)labelsImage
                  weightsImage:(MPSImage* _Nullable)weightsImage NS_DESIGNATED_INITIALIZER;
- (MPSImage*)lossImage;
- (MPSImage*)labelsImage;
- (MPSImage*)weightsImage;
@end

typedef NSArray<MPSCNNLossLabels*> MPSCNNLossLabelsBatch;

@interface MPSCNNLoss : MPSCNNKernel
@property (nonatomic, readonly) MPSCNNLossType lossType;
@property (nonatomic, readonly) MPSCNNReductionType reductionType;
@property (nonatomic, readonly) float weight;
@property (nonatomic, readonly) float labelSmoothing;
@property (nonatomic, readonly) NSUInteger numberOfClasses;
@property (nonatomic, readonly) float epsilon;
@property (nonatomic, readonly) float delta;
@property (nonatomic, readonly) BOOL reduceAcrossBatch;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                lossDescriptor:(MPSCNNLossDescriptor*)lossDescriptor NS_DESIGNATED_INITIALIZER;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
                       labels:(MPSCNNLossLabels*)labels
             destinationImage:(MPSImage*)destinationImage;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage
                            labels:(MPSCNNLossLabels*)labels;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImage
                            labels:(MPSCNNLossLabelsBatch*)labels
                 destinationImages:(MPSImageBatch*)destinationImage;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImage
                                      labels:(MPSCNNLossLabelsBatch*)labels;
@end

@interface MPSNNForwardLoss : MPSCNNKernel
@property (nonatomic, readonly) MPSCNNLossType lossType;
@property (nonatomic, readonly) MPSCNNReductionType reductionType;
@property (nonatomic, readonly) BOOL reduceAcrossBatch;
@property (nonatomic, readonly) NSUInteger numberOfClasses;
@property (nonatomic, assign) float weight;
@property (nonatomic, assign) float labelSmoothing;
@property (nonatomic, assign) float epsilon;
@property (nonatomic, assign) float delta;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                lossDescriptor:(MPSCNNLossDescriptor*)lossDescriptor NS_DESIGNATED_INITIALIZER;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                            labels:(MPSImageBatch*)labels
                           weights:(MPSImageBatch* _Nullable)weights
                 destinationStates:(MPSStateBatch* _Nullable)destinationStates
                 destinationImages:(MPSImageBatch*)destinationImages;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages
                                      labels:(MPSImageBatch*)labels
                                     weights:(MPSImageBatch* _Nullable)weights
                           destinationStates:(MPSStateBatch* _Nullable* _Nullable)outStates
                 destinationStateIsTemporary:(BOOL)isTemporary;
@end

@interface MPSNNLossGradient : MPSCNNBinaryKernel
@property (nonatomic, readonly) MPSCNNLossType lossType;
@property (nonatomic, readonly) MPSCNNReductionType reductionType;
@property (nonatomic, readonly) BOOL reduceAcrossBatch;
@property (nonatomic, readonly) NSUInteger numberOfClasses;
@property (nonatomic, assign) float weight;
@property (nonatomic, assign) float labelSmoothing;
@property (nonatomic, assign) float epsilon;
@property (nonatomic, assign) float delta;
@property (nonatomic, assign) BOOL computeLabelGradients;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                lossDescriptor:(MPSCNNLossDescriptor*)lossDescriptor NS_DESIGNATED_INITIALIZER;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceGradients:(MPSImageBatch*)sourceGradients
                                sourceImages:(MPSImageBatch*)sourceImages
                                      labels:(MPSImageBatch*)labels
                                     weights:(MPSImageBatch* _Nullable)weights
                                sourceStates:(MPSStateBatch* _Nullable)sourceStates;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   sourceGradients:(MPSImageBatch*)sourceGradients
                      sourceImages:(MPSImageBatch*)sourceImages
                            labels:(MPSImageBatch*)labels
                           weights:(MPSImageBatch* _Nullable)weights
                      sourceStates:(MPSStateBatch* _Nullable)sourceStates
              destinationGradients:(MPSImageBatch*)destinationGradients;
@end

@interface MPSNNInitialGradient : MPSCNNKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device;
@end
NS_ASSUME_NONNULL_END
