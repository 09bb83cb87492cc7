// Matrices, vectors and the kernels on them.
#pragma once
#import <MetalPerformanceShaders/MPSState.h>

NS_ASSUME_NONNULL_BEGIN
@interface MPSMatrixDescriptor : NSObject
@property (nonatomic, assign) NSUInteger rows;
@property (nonatomic, assign) NSUInteger columns;
@property (nonatomic, readonly) NSUInteger matrices;
@property (nonatomic, assign) MPSDataType dataType;
@property (nonatomic, assign) NSUInteger rowBytes;
@property (nonatomic, readonly) NSUInteger matrixBytes;
+ (instancetype)matrixDescriptorWithDimensions:(NSUInteger)rows
                                       columns:(NSUInteger)columns
                                      rowBytes:(NSUInteger)rowBytes
                                      dataType:(MPSDataType)dataType;
+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                rowBytes:(NSUInteger)rowBytes
                                dataType:(MPSDataType)dataType;
+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                matrices:(NSUInteger)matrices
                                rowBytes:(NSUInteger)rowBytes
                             matrixBytes:(NSUInteger)matrixBytes
                                dataType:(MPSDataType)dataType;
+ (size_t)rowBytesFromColumns:(NSUInteger)columns dataType:(MPSDataType)dataType;
+ (size_t)rowBytesForColumns:(NSUInteger)columns dataType:(MPSDataType)dataType;
@end

@interface MPSVectorDescriptor : NSObject
@property (nonatomic, assign) NSUInteger length;
@property (nonatomic, readonly) NSUInteger vectors;
@property (nonatomic, assign) MPSDataType dataType;
@property (nonatomic, readonly) NSUInteger vectorBytes;
+ (instancetype)vectorDescriptorWithLength:(NSUInteger)length dataType:(MPSDataType)dataType;
+ (instancetype)vectorDescriptorWithLength:(NSUInteger)length
                                   vectors:(NSUInteger)vectors
                               vectorBytes:(NSUInteger)vectorBytes
                                  dataType:(MPSDataType)dataType;
+ (size_t)vectorBytesForLength:(NSUInteger)length dataType:(MPSDataType)dataType;
@end

@interface MPSMatrix : NSObject
@property (nonatomic, retain, readonly) id<MTLDevice> device;
@property (nonatomic, readonly) NSUInteger rows;
@property (nonatomic, readonly) NSUInteger columns;
@property (nonatomic, readonly) NSUInteger matrices;
@property (nonatomic, readonly) MPSDataType dataType;
@property (nonatomic, readonly) NSUInteger rowBytes;
@property (nonatomic, readonly) NSUInteger matrixBytes;
@property (nonatomic, readonly) NSUInteger offset;
@property (nonatomic, readonly) id<MTLBuffer> data;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSMatrixDescriptor*)descriptor;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSMatrixDescriptor*)descriptor;
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSMatrixDescriptor*)descriptor;
- (instancetype)init NS_UNAVAILABLE;
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (NSUInteger)resourceSize;
@end

@interface MPSVector : NSObject
@property (nonatomic, retain, readonly) id<MTLDevice> device;
@property (nonatomic, readonly) NSUInteger length;
@property (nonatomic, readonly) NSUInteger vectors;
@property (nonatomic, readonly) MPSDataType dataType;
@property (nonatomic, readonly) NSUInteger vectorBytes;
@property (nonatomic, readonly) NSUInteger offset;
@property (nonatomic, readonly) id<MTLBuffer> data;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSVectorDescriptor*)descriptor;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSVectorDescriptor*)descriptor;
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSVectorDescriptor*)descriptor;
- (instancetype)init NS_UNAVAILABLE;
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (NSUInteger)resourceSize;
@end

@interface MPSTemporaryMatrix : MPSMatrix
+ (instancetype)temporaryMatrixWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                matrixDescriptor:(MPSMatrixDescriptor*)matrixDescriptor;
+ (void)prefetchStorageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                    matrixDescriptorList:(NSArray<MPSMatrixDescriptor*>*)descriptorList;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                    descriptor:(MPSMatrixDescriptor*)descriptor NS_UNAVAILABLE;
@property (nonatomic, assign) NSUInteger readCount;
@end

@interface MPSTemporaryVector : MPSVector
+ (instancetype)temporaryVectorWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                      descriptor:(MPSVectorDescriptor*)descriptor;
+ (void)prefetchStorageWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                          descriptorList:(NSArray<MPSVectorDescriptor*>*)descriptorList;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                    descriptor:(MPSVectorDescriptor*)descriptor NS_UNAVAILABLE;
@property (nonatomic, assign) NSUInteger readCount;
@end

@interface MPSMatrixMultiplication : MPSKernel
@property (nonatomic, assign) MTLOrigin resultMatrixOrigin;
@property (nonatomic, assign) MTLOrigin leftMatrixOrigin;
@property (nonatomic, assign) MTLOrigin rightMatrixOrigin;
@property (nonatomic, assign) NSUInteger batchStart;
@property (nonatomic, assign) NSUInteger batchSize;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 transposeLeft:(BOOL)transposeLeft
                transposeRight:(BOOL)transposeRight
                    resultRows:(NSUInteger)resultRows
                 resultColumns:(NSUInteger)resultColumns
               interiorColumns:(NSUInteger)interiorColumns
                         alpha:(double)alpha
                          beta:(double)beta;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    resultRows:(NSUInteger)resultRows
                 resultColumns:(NSUInteger)resultColumns
               interiorColumns:(NSUInteger)interiorColumns;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   leftMatrix:(MPSMatrix*)leftMatrix
                  rightMatrix:(MPSMatrix*)rightMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix;
@end

@interface MPSMatrixUnaryKernel : MPSKernel
@property (nonatomic, assign) MTLOrigin sourceMatrixOrigin;
@property (nonatomic, assign) MTLOrigin resultMatrixOrigin;
@property (nonatomic, assign) NSUInteger batchStart;
@property (nonatomic, assign) NSUInteger batchSize;
@end

@interface MPSMatrixBinaryKernel : MPSKernel
@property (nonatomic, assign) MTLOrigin primarySourceMatrixOrigin;
@property (nonatomic, assign) MTLOrigin secondarySourceMatrixOrigin;
@property (nonatomic, assign) MTLOrigin resultMatrixOrigin;
@property (nonatomic, assign) NSUInteger batchStart;
@property (nonatomic, assign) NSUInteger batchSize;
@end

@interface MPSImageCopyToMatrix : MPSKernel
@property (nonatomic, assign) MTLOrigin destinationMatrixOrigin;
@property (nonatomic, assign) NSUInteger destinationMatrixBatchIndex;
@property (nonatomic, readonly) MPSDataLayout dataLayout;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataLayout:(MPSDataLayout)dataLayout NS_DESIGNATED_INITIALIZER;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
            destinationMatrix:(MPSMatrix*)destinationMatrix;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                 destinationMatrix:(MPSMatrix*)destinationMatrix;
@end

@interface MPSMatrixCopyToImage : MPSKernel
@property (nonatomic, assign) MTLOrigin sourceMatrixOrigin;
@property (nonatomic, assign) NSUInteger sourceMatrixBatchIndex;
@property (nonatomic, readonly) MPSDataLayout dataLayout;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataLayout:(MPSDataLayout)dataLayout NS_DESIGNATED_INITIALIZER;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                 sourceMatrix:(MPSMatrix*)sourceMatrix
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceMatrix:(MPSMatrix*)sourceMatrix
                 destinationImages:(MPSImageBatch*)destinationImages;
@end
NS_ASSUME_NONNULL_END
