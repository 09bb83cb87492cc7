// Images, temporary images and batches of them.
#pragma once
#import <MetalPerformanceShaders/MPSCoreTypes.h>

NS_ASSUME_NONNULL_BEGIN
@class MPSImage, MPSKernel;
@protocol MPSImageAllocator;
typedef NSArray<MPSImage*> MPSImageBatch;
@interface MPSImageDescriptor : NSObject <NSCopying>
@property (nonatomic, assign) NSUInteger width;
@property (nonatomic, assign) NSUInteger height;
@property (nonatomic, assign) NSUInteger featureChannels;
@property (nonatomic, assign) NSUInteger numberOfImages;
@property (nonatomic, readonly) MTLPixelFormat pixelFormat;
@property (nonatomic, assign) MPSImageFeatureChannelFormat channelFormat;
@property (nonatomic, assign) MTLCPUCacheMode cpuCacheMode;
@property (nonatomic, assign) MTLStorageMode storageMode;
@property (nonatomic, assign) MTLTextureUsage usage;
+ (instancetype)imageDescriptorWithChannelFormat:(MPSImageFeatureChannelFormat)channelFormat
                                           width:(NSUInteger)width
                                          height:(NSUInteger)height
                                 featureChannels:(NSUInteger)featureChannels;
+ (instancetype)imageDescriptorWithChannelFormat:(MPSImageFeatureChannelFormat)channelFormat
                                           width:(NSUInteger)width
                                          height:(NSUInteger)height
                                 featureChannels:(NSUInteger)featureChannels
                                  numberOfImages:(NSUInteger)numberOfImages
                                           usage:(MTLTextureUsage)usage;
- (instancetype)copyWithZone:(NSZone* _Nullable)zone;
@end

@protocol MPSImageAllocator <NSObject>
- (MPSImage*)imageForCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                   imageDescriptor:(MPSImageDescriptor*)descriptor
                            kernel:(MPSKernel*)kernel;
@optional
- (MPSImageBatch*)imageBatchForCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                             imageDescriptor:(MPSImageDescriptor*)descriptor
                                      kernel:(MPSKernel*)kernel
                                       count:(NSUInteger)count;
@end

@interface MPSImage : NSObject
+ (id<MPSImageAllocator>)defaultAllocator;
@property (nonatomic, retain, readonly) id<MTLDevice> device;
@property (nonatomic, readonly) NSUInteger width;
@property (nonatomic, readonly) NSUInteger height;
@property (nonatomic, readonly) NSUInteger featureChannels;
@property (nonatomic, readonly) NSUInteger numberOfImages;
@property (nonatomic, readonly) MTLTextureType textureType;
@property (nonatomic, readonly) MTLPixelFormat pixelFormat;
@property (nonatomic, readonly) NSUInteger precision;
@property (nonatomic, readonly) MTLTextureUsage usage;
@property (nonatomic, readonly) MPSImageFeatureChannelFormat featureChannelFormat;
@property (nonatomic, readonly) size_t pixelSize;
@property (nonatomic, readonly) id<MTLTexture> texture;
@property (copy) NSString* _Nullable label;
@property (nonatomic, retain, readonly) MPSImage* _Nullable parent;
- (instancetype)initWithDevice:(id<MTLDevice>)device
               imageDescriptor:(const MPSImageDescriptor*)imageDescriptor;
- (instancetype)initWithParentImage:(MPSImage*)parent
                         sliceRange:(NSRange)sliceRange
                    featureChannels:(NSUInteger)featureChannels NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithTexture:(id<MTLTexture>)texture featureChannels:(NSUInteger)featureChannels;
- (instancetype)init NS_UNAVAILABLE;
- (MPSImageBatch*)batchRepresentationWithSubRange:(NSRange)subRange;
- (MPSImageBatch*)batchRepresentation;
- (MPSImage*)subImageWithFeatureChannelRange:(NSRange)range;
- (NSUInteger)resourceSize;
- (MPSPurgeableState)setPurgeableState:(MPSPurgeableState)state;
- (void)readBytes:(void*)dataBytes
            dataLayout:(MPSDataLayout)dataLayout
           bytesPerRow:(NSUInteger)bytesPerRow
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)featureChannelInfo
            imageIndex:(NSUInteger)imageIndex;
- (void)writeBytes:(const void*)dataBytes
            dataLayout:(MPSDataLayout)dataLayout
           bytesPerRow:(NSUInteger)bytesPerRow
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)featureChannelInfo
            imageIndex:(NSUInteger)imageIndex;
- (void)writeBytes:(const void*)dataBytes
            dataLayout:(MPSDataLayout)dataLayout
        bytesPerColumn:(NSUInteger)bytesPerColumn
           bytesPerRow:(NSUInteger)bytesPerRow
         bytesPerImage:(NSUInteger)bytesPerImage
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)featureChannelInfo
            imageIndex:(NSUInteger)imageIndex;
- (void)readBytes:(void*)dataBytes
            dataLayout:(MPSDataLayout)dataLayout
           bytesPerRow:(NSUInteger)bytesPerRow
         bytesPerImage:(NSUInteger)bytesPerImage
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)featureChannelInfo
            imageIndex:(NSUInteger)imageIndex;
- (void)writeBytes:(const void*)dataBytes
            dataLayout:(MPSDataLayout)dataLayout
           bytesPerRow:(NSUInteger)bytesPerRow
         bytesPerImage:(NSUInteger)bytesPerImage
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)featureChannelInfo
            imageIndex:(NSUInteger)imageIndex;
- (void)readBytes:(void*)dataBytes
       dataLayout:(MPSDataLayout)dataLayout
       imageIndex:(NSUInteger)imageIndex;
- (void)writeBytes:(const void*)dataBytes
        dataLayout:(MPSDataLayout)dataLayout
        imageIndex:(NSUInteger)imageIndex;
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
@end

@interface MPSTemporaryImage : MPSImage
+ (id<MPSImageAllocator>)defaultAllocator;
+ (instancetype)temporaryImageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                imageDescriptor:(const MPSImageDescriptor*)imageDescriptor;
+ (instancetype)temporaryImageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                              textureDescriptor:(const MTLTextureDescriptor*)textureDescriptor;
+ (instancetype)temporaryImageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                              textureDescriptor:(const MTLTextureDescriptor*)textureDescriptor
                                featureChannels:(NSUInteger)featureChannels;
+ (void)prefetchStorageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                     imageDescriptorList:(NSArray<MPSImageDescriptor*>*)descriptorList;
- (instancetype)initWithTexture:(id<MTLTexture>)texture
                featureChannels:(NSUInteger)featureChannels NS_UNAVAILABLE;
- (instancetype)initWithDevice:(id<MTLDevice>)device
               imageDescriptor:(const MPSImageDescriptor*)imageDescriptor NS_UNAVAILABLE;
@property (nonatomic, assign) NSUInteger readCount;
@end

APPLE_SIM_EXTERN NSUInteger MPSImageBatchIncrementReadCount(MPSImageBatch* batch, NSInteger amount);

APPLE_SIM_EXTERN void MPSImageBatchSynchronize(MPSImageBatch* batch, id<MTLCommandBuffer> cmdBuf);

APPLE_SIM_EXTERN NSUInteger MPSImageBatchResourceSize(MPSImageBatch* batch);

APPLE_SIM_EXTERN NSInteger MPSImageBatchIterate(MPSImageBatch* batch,
                                                NSInteger (^iteratorBlock)(MPSImage*, NSUInteger));
NS_ASSUME_NONNULL_END
