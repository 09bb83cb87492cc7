// Neurons, dropout, softmax and their gradients.
#pragma once
#import <MetalPerformanceShaders/MPSCNNKernel.h>

NS_ASSUME_NONNULL_BEGIN
@interface MPSCNNNeuron : MPSCNNKernel
@property (nonatomic, readonly) float a;
@property (nonatomic, readonly) float b;
@property (nonatomic, readonly) float c;
@property (nonatomic, retain, readonly) NSData* _Nullable data;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
              neuronDescriptor:(MPSNNNeuronDescriptor*)neuronDescriptor NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNNeuronGradient : MPSCNNGradientKernel
@property (nonatomic, readonly) float a;
@property (nonatomic, readonly) float b;
@property (nonatomic, readonly) float c;
@property (nonatomic, retain, readonly) NSData* _Nullable data;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
              neuronDescriptor:(MPSNNNeuronDescriptor*)neuronDescriptor NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNDropoutGradientState : MPSNNGradientState
- (instancetype)init NS_UNAVAILABLE;
- (NSData*)maskData;
@end

typedef NSArray<MPSCNNDropoutGradientState*> MPSCNNDropoutGradientStateBatch;

@interface MPSCNNDropout : MPSCNNKernel
@property (nonatomic, readonly) float keepProbability;
@property (nonatomic, readonly) NSUInteger seed;
@property (nonatomic, readonly) MTLSize maskStrideInPixels;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
               keepProbability:(float)keepProbability
                          seed:(NSUInteger)seed
            maskStrideInPixels:(MTLSize)maskStrideInPixels NS_DESIGNATED_INITIALIZER;
- (MPSCNNDropoutGradientState* _Nullable)
    resultStateForSourceImage:(MPSImage*)sourceImage
                 sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
             destinationImage:(MPSImage*)destinationImage;
- (MPSCNNDropoutGradientState* _Nullable)
    resultStateBatchForSourceImage:(MPSImageBatch*)sourceImage
                      sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                  destinationImage:(MPSImageBatch*)destinationImage;
- (MPSCNNDropoutGradientState* _Nullable)
    temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceImage:(MPSImage*)sourceImage
                            sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                        destinationImage:(MPSImage*)destinationImage;
- (MPSCNNDropoutGradientStateBatch* _Nullable)
    temporaryResultStateBatchForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                  sourceImage:(MPSImageBatch*)sourceImage
                                 sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                             destinationImage:(MPSImageBatch*)destinationImage;
@end

@interface MPSCNNDropoutGradient : MPSCNNGradientKernel
@property (nonatomic, readonly) float keepProbability;
@property (nonatomic, readonly) NSUInteger seed;
@property (nonatomic, readonly) MTLSize maskStrideInPixels;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
               keepProbability:(float)keepProbability
                          seed:(NSUInteger)seed
            maskStrideInPixels:(MTLSize)maskStrideInPixels NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNSoftMax : MPSCNNKernel

@end

@interface MPSCNNLogSoftMax : MPSCNNKernel

@end

@interface MPSCNNSoftMaxGradient : MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end

@interface MPSCNNLogSoftMaxGradient : MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@end
NS_ASSUME_NONNULL_END
