// States: what a forward kernel leaves for its gradient kernel.
#pragma once
#import <MetalPerformanceShaders/MPSImage.h>

NS_ASSUME_NONNULL_BEGIN
@interface MPSStateResourceList : NSObject
+ (instancetype)resourceList;
+ (instancetype)resourceListWithTextureDescriptors:(MTLTextureDescriptor*)d, ...;
+ (instancetype)resourceListWithBufferSizes:(NSUInteger)firstSize, ...;
- (instancetype)init;
- (void)appendTexture:(MTLTextureDescriptor*)descriptor;
- (void)appendBuffer:(NSUInteger)size;
@end

@interface MPSState : NSObject
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                                     bufferSize:(size_t)bufferSize;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                              textureDescriptor:(MTLTextureDescriptor*)descriptor;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf;
- (instancetype)initWithDevice:(id<MTLDevice>)device bufferSize:(size_t)bufferSize;
- (instancetype)initWithDevice:(id<MTLDevice>)device
             textureDescriptor:(MTLTextureDescriptor*)descriptor;
- (instancetype)initWithResource:(id<MTLResource> _Nullable)resource;
- (instancetype)init NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                  resourceList:(MPSStateResourceList*)resourceList;
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                   resourceList:(MPSStateResourceList*)resourceList;
- (instancetype)initWithResources:(NSArray<id<MTLResource>>* _Nullable)resources;
@property (nonatomic, readonly) NSUInteger resourceCount;
- (id<MTLResource> _Nullable)resourceAtIndex:(NSUInteger)index allocateMemory:(BOOL)allocateMemory;
@property (nonatomic, assign) NSUInteger readCount;
@property (nonatomic, readonly) BOOL isTemporary;
@property (copy) NSString* _Nullable label;
- (NSUInteger)bufferSizeAtIndex:(NSUInteger)index;
- (MPSStateResourceType)resourceTypeAtIndex:(NSUInteger)index;
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (NSUInteger)resourceSize;
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sourceImages
                                                    sourceStates:
                                                        (NSArray<MPSState*>* _Nullable)sourceStates
                                                       forKernel:(MPSKernel*)kernel
                                             suggestedDescriptor:(MPSImageDescriptor*)inDescriptor;
@end

typedef NSArray<MPSState*> MPSStateBatch;

APPLE_SIM_EXTERN NSUInteger MPSStateBatchIncrementReadCount(MPSStateBatch* _Nullable batch,
                                                            NSInteger amount);

APPLE_SIM_EXTERN void MPSStateBatchSynchronize(MPSStateBatch* batch, id<MTLCommandBuffer> cmdBuf);

APPLE_SIM_EXTERN NSUInteger MPSStateBatchResourceSize(MPSStateBatch* _Nullable batch);

@interface MPSNNGradientState : MPSState

@end

typedef NSArray<MPSNNGradientState*> MPSNNGradientStateBatch;

@interface MPSNNBinaryGradientState : MPSState

@end

typedef NSArray<MPSNNBinaryGradientState*> MPSNNBinaryGradientStateBatch;

@protocol MPSImageSizeEncodingState <NSObject>
@property (nonatomic, readonly) NSUInteger sourceWidth;
@property (nonatomic, readonly) NSUInteger sourceHeight;
@end
NS_ASSUME_NONNULL_END
