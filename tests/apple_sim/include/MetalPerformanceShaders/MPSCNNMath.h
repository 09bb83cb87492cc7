// Arithmetic, reductions, slice and reshape.
#pragma once
#import <MetalPerformanceShaders/MPSCNNKernel.h>

NS_ASSUME_NONNULL_BEGIN
@interface MPSCNNArithmeticGradientState : MPSNNBinaryGradientState
- (instancetype)init NS_UNAVAILABLE;
@end

typedef NSArray<MPSCNNArithmeticGradientState*> MPSCNNArithmeticGradientStateBatch;

@interface MPSCNNArithmetic : MPSCNNBinaryKernel
@property (nonatomic, assign) float primaryScale;
@property (nonatomic, assign) float secondaryScale;
@property (nonatomic, assign) float bias;
@property (nonatomic, assign) NSUInteger primaryStrideInFeatureChannels;
@property (nonatomic, assign) NSUInteger secondaryStrideInFeatureChannels;
@property (nonatomic, assign) float minimumValue;
@property (nonatomic, assign) float maximumValue;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                 primaryImage:(MPSImage*)primaryImage
               secondaryImage:(MPSImage*)secondaryImage
             destinationState:(MPSCNNArithmeticGradientState*)destinationState
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                     primaryImages:(MPSImageBatch*)primaryImages
                   secondaryImages:(MPSImageBatch*)secondaryImages
                 destinationStates:(MPSCNNArithmeticGradientStateBatch*)destinationStates
                 destinationImages:(MPSImageBatch*)destinationImages;
@end

@interface MPSCNNAdd : MPSCNNArithmetic
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNSubtract : MPSCNNArithmetic
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNMultiply : MPSCNNArithmetic
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNDivide : MPSCNNArithmetic
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNArithmeticGradient : MPSCNNGradientKernel
@property (nonatomic, assign) float primaryScale;
@property (nonatomic, assign) float secondaryScale;
@property (nonatomic, assign) float bias;
@property (nonatomic, assign) NSUInteger secondaryStrideInFeatureChannels;
@property (nonatomic, assign) float minimumValue;
@property (nonatomic, assign) float maximumValue;
@property (nonatomic, readonly) BOOL isSecondarySourceFilter;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
       isSecondarySourceFilter:(BOOL)isSecondarySourceFilter NS_UNAVAILABLE;
@end

@interface MPSCNNAddGradient : MPSCNNArithmeticGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
       isSecondarySourceFilter:(BOOL)isSecondarySourceFilter NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNSubtractGradient : MPSCNNArithmeticGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
       isSecondarySourceFilter:(BOOL)isSecondarySourceFilter NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNMultiplyGradient : MPSCNNArithmeticGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
       isSecondarySourceFilter:(BOOL)isSecondarySourceFilter NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceUnary : MPSCNNKernel
@property (nonatomic, assign) MTLRegion clipRectSource;
@property (nonatomic, assign) MPSOffset offset;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
@end

@interface MPSNNReduceRowMin : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceRowMax : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceRowMean : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceRowSum : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceColumnMin : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceColumnMax : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceColumnMean : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceColumnSum : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceFeatureChannelsMin : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceFeatureChannelsMax : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceFeatureChannelsMean : MPSNNReduceUnary
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReduceFeatureChannelsSum : MPSNNReduceUnary
@property (nonatomic, assign) float weight;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNSlice : MPSCNNKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSNNReshape : MPSCNNKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage
                     reshapedWidth:(NSUInteger)reshapedWidth
                    reshapedHeight:(NSUInteger)reshapedHeight
           reshapedFeatureChannels:(NSUInteger)reshapedFeatureChannels;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage
                  destinationState:(MPSState* _Nullable* _Nonnull)outState
       destinationStateIsTemporary:(BOOL)isTemporary
                     reshapedWidth:(NSUInteger)reshapedWidth
                    reshapedHeight:(NSUInteger)reshapedHeight
           reshapedFeatureChannels:(NSUInteger)reshapedFeatureChannels;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages
                               reshapedWidth:(NSUInteger)reshapedWidth
                              reshapedHeight:(NSUInteger)reshapedHeight
                     reshapedFeatureChannels:(NSUInteger)reshapedFeatureChannels;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages
                           destinationStates:(MPSStateBatch* _Nullable* _Nonnull)outStates
                 destinationStateIsTemporary:(BOOL)isTemporary
                               reshapedWidth:(NSUInteger)reshapedWidth
                              reshapedHeight:(NSUInteger)reshapedHeight
                     reshapedFeatureChannels:(NSUInteger)reshapedFeatureChannels;
@end

@interface MPSNNReshapeGradient : MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end
NS_ASSUME_NONNULL_END
