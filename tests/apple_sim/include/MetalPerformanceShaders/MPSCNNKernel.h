// Base classes of the image kernels, padding policies, neuron descriptors.
#pragma once
#import <MetalPerformanceShaders/MPSState.h>

NS_ASSUME_NONNULL_BEGIN
@class MPSCNNKernel;
typedef NS_OPTIONS(NSUInteger, MPSNNPaddingMethod) {
  MPSNNPaddingMethodAlignCentered = 0,
  MPSNNPaddingMethodAlignTopLeft = 1,
  MPSNNPaddingMethodAlignBottomRight = 2,
  MPSNNPaddingMethodAlign_reserved = 3,
  MPSNNPaddingMethodAlignMask = 3,
  MPSNNPaddingMethodAddRemainderToTopLeft = 0,
  MPSNNPaddingMethodAddRemainderToTopRight = 4,
  MPSNNPaddingMethodAddRemainderToBottomLeft = 8,
  MPSNNPaddingMethodAddRemainderToBottomRight = 12,
  MPSNNPaddingMethodAddRemainderToMask = 12,
  MPSNNPaddingMethodSizeValidOnly = 0,
  MPSNNPaddingMethodSizeSame = 16,
  MPSNNPaddingMethodSizeFull = 32,
  MPSNNPaddingMethodSize_reserved = 48,
  MPSNNPaddingMethodCustomWhitelistForNodeFusion = 8192,
  MPSNNPaddingMethodCustomAllowForNodeFusion = 8192,
  MPSNNPaddingMethodCustom = 16384,
  MPSNNPaddingMethodSizeMask = 2032,
  MPSNNPaddingMethodExcludeEdges = 32768,
};

@protocol MPSNNPadding <NSObject>
- (MPSNNPaddingMethod)paddingMethod;
@optional
- (NSString*)label;
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sourceImages
                                                    sourceStates:
                                                        (NSArray<MPSState*>* _Nullable)sourceStates
                                                       forKernel:(MPSKernel*)kernel
                                             suggestedDescriptor:(MPSImageDescriptor*)inDescriptor;
- (instancetype _Nullable)inverse;
@end

@interface MPSNNDefaultPadding : NSObject <MPSNNPadding>
+ (instancetype)paddingWithMethod:(MPSNNPaddingMethod)method;
+ (instancetype)paddingForTensorflowAveragePooling;
+ (instancetype)paddingForTensorflowAveragePoolingValidOnly;
- (NSString*)label;
@end

typedef NS_ENUM(int32_t, MPSCNNNeuronType) {
  MPSCNNNeuronTypeNone = 0,
  MPSCNNNeuronTypeReLU = 1,
  MPSCNNNeuronTypeLinear = 2,
  MPSCNNNeuronTypeSigmoid = 3,
  MPSCNNNeuronTypeHardSigmoid = 4,
  MPSCNNNeuronTypeTanH = 5,
  MPSCNNNeuronTypeAbsolute = 6,
  MPSCNNNeuronTypeSoftPlus = 7,
  MPSCNNNeuronTypeSoftSign = 8,
  MPSCNNNeuronTypeELU = 9,
  MPSCNNNeuronTypePReLU = 10,
  MPSCNNNeuronTypeReLUN = 11,
  MPSCNNNeuronTypePower = 12,
  MPSCNNNeuronTypeExponential = 13,
  MPSCNNNeuronTypeLogarithm = 14,
  MPSCNNNeuronTypeGeLU = 15,
  MPSCNNNeuronTypeCount = 16,
};

@interface MPSNNNeuronDescriptor : NSObject <NSCopying>
@property (nonatomic, assign) MPSCNNNeuronType neuronType;
@property (nonatomic, assign) float a;
@property (nonatomic, assign) float b;
@property (nonatomic, assign) float c;
@property (nonatomic, retain) NSData* _Nullable data;
- (instancetype)init NS_UNAVAILABLE;
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)neuronType;
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)neuronType a:(float)a;
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)neuronType
                                                    a:(float)a
                                                    b:(float)b;
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)neuronType
                                                    a:(float)a
                                                    b:(float)b
                                                    c:(float)c;
+ (MPSNNNeuronDescriptor*)cnnNeuronPReLUDescriptorWithData:(NSData*)data noCopy:(bool)noCopy;
@end

@interface MPSCNNKernel : MPSKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@property (nonatomic, assign) MPSOffset offset;
@property (nonatomic, assign) MTLRegion clipRect;
@property (nonatomic, assign) NSUInteger destinationFeatureChannelOffset;
@property (nonatomic, assign) NSUInteger sourceFeatureChannelOffset;
@property (nonatomic, assign) NSUInteger sourceFeatureChannelMaxCount;
@property (nonatomic, assign) MPSImageEdgeMode edgeMode;
@property (nonatomic, readonly) NSUInteger kernelWidth;
@property (nonatomic, readonly) NSUInteger kernelHeight;
@property (nonatomic, readonly) NSUInteger strideInPixelsX;
@property (nonatomic, readonly) NSUInteger strideInPixelsY;
@property (nonatomic, readonly) NSUInteger dilationRateX;
@property (nonatomic, readonly) NSUInteger dilationRateY;
@property (nonatomic, readonly) BOOL isBackwards;
@property (nonatomic, readonly) BOOL isStateModified;
@property (nonatomic, retain) id<MPSNNPadding> padding;
@property (nonatomic, retain) id<MPSImageAllocator> destinationImageAllocator;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceImage:(MPSImage*)sourceImage
             destinationState:(MPSState*)destinationState
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                 destinationImages:(MPSImageBatch*)destinationImages;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      sourceImages:(MPSImageBatch*)sourceImages
                 destinationStates:(MPSStateBatch* _Nullable)destinationStates
                 destinationImages:(MPSImageBatch*)destinationImages;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                       sourceImage:(MPSImage*)sourceImage
                  destinationState:(MPSState* _Nullable* _Nonnull)outState
       destinationStateIsTemporary:(BOOL)isTemporary;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                sourceImages:(MPSImageBatch*)sourceImages
                           destinationStates:(MPSStateBatch* _Nullable* _Nonnull)outStates
                 destinationStateIsTemporary:(BOOL)isTemporary;
- (MPSState* _Nullable)resultStateForSourceImage:(MPSImage*)sourceImage
                                    sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                                destinationImage:(MPSImage*)destinationImage;
- (MPSStateBatch* _Nullable)resultStateBatchForSourceImage:(MPSImageBatch*)sourceImage
                                              sourceStates:
                                                  (NSArray<MPSStateBatch*>* _Nullable)sourceStates
                                          destinationImage:(MPSImageBatch*)destinationImage;
- (MPSState* _Nullable)temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                                sourceImage:(MPSImage*)sourceImage
                                               sourceStates:
                                                   (NSArray<MPSState*>* _Nullable)sourceStates
                                           destinationImage:(MPSImage*)destinationImage;
- (MPSStateBatch* _Nullable)
    temporaryResultStateBatchForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                  sourceImage:(MPSImageBatch*)sourceImage
                                 sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                             destinationImage:(MPSImageBatch*)destinationImage;
- (BOOL)isResultStateReusedAcrossBatch;
- (BOOL)appendBatchBarrier;
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sourceImages
                                                    sourceStates:
                                                        (NSArray<MPSState*>* _Nullable)sourceStates;
- (NSUInteger)encodingStorageSizeForSourceImage:(MPSImage*)sourceImage
                                   sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                               destinationImage:(MPSImage* _Nullable)destinationImage;
- (NSUInteger)batchEncodingStorageSizeForSourceImage:(MPSImageBatch*)sourceImage
                                        sourceStates:
                                            (NSArray<MPSStateBatch*>* _Nullable)sourceStates
                                    destinationImage:(MPSImageBatch* _Nullable)destinationImage;
@end

@interface MPSCNNBinaryKernel : MPSKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@property (nonatomic, assign) MPSOffset primaryOffset;
@property (nonatomic, assign) MPSOffset secondaryOffset;
@property (nonatomic, assign) MTLRegion clipRect;
@property (nonatomic, assign) NSUInteger destinationFeatureChannelOffset;
@property (nonatomic, assign) NSUInteger primarySourceFeatureChannelOffset;
@property (nonatomic, assign) NSUInteger secondarySourceFeatureChannelOffset;
@property (nonatomic, assign) NSUInteger primarySourceFeatureChannelMaxCount;
@property (nonatomic, assign) NSUInteger secondarySourceFeatureChannelMaxCount;
@property (nonatomic, assign) MPSImageEdgeMode primaryEdgeMode;
@property (nonatomic, assign) MPSImageEdgeMode secondaryEdgeMode;
@property (nonatomic, readonly) NSUInteger primaryKernelWidth;
@property (nonatomic, readonly) NSUInteger primaryKernelHeight;
@property (nonatomic, readonly) NSUInteger secondaryKernelWidth;
@property (nonatomic, readonly) NSUInteger secondaryKernelHeight;
@property (nonatomic, assign) NSUInteger primaryStrideInPixelsX;
@property (nonatomic, assign) NSUInteger primaryStrideInPixelsY;
@property (nonatomic, assign) NSUInteger secondaryStrideInPixelsX;
@property (nonatomic, assign) NSUInteger secondaryStrideInPixelsY;
@property (nonatomic, readonly) NSUInteger primaryDilationRateX;
@property (nonatomic, readonly) NSUInteger primaryDilationRateY;
@property (nonatomic, readonly) NSUInteger secondaryDilationRateX;
@property (nonatomic, readonly) NSUInteger secondaryDilationRateY;
@property (nonatomic, readonly) BOOL isBackwards;
@property (nonatomic, readonly) BOOL isStateModified;
@property (nonatomic, retain) id<MPSNNPadding> padding;
@property (nonatomic, retain) id<MPSImageAllocator> destinationImageAllocator;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                 primaryImage:(MPSImage*)primaryImage
               secondaryImage:(MPSImage*)secondaryImage
             destinationImage:(MPSImage*)destinationImage;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                     primaryImages:(MPSImageBatch*)primaryImages
                   secondaryImages:(MPSImageBatch*)secondaryImages
                 destinationImages:(MPSImageBatch*)destinationImages;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      primaryImage:(MPSImage*)primaryImage
                    secondaryImage:(MPSImage*)secondaryImage;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                               primaryImages:(MPSImageBatch*)primaryImage
                             secondaryImages:(MPSImageBatch*)secondaryImage;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                      primaryImage:(MPSImage*)primaryImage
                    secondaryImage:(MPSImage*)secondaryImage
                  destinationState:(MPSState* _Nullable* _Nonnull)outState
       destinationStateIsTemporary:(BOOL)isTemporary;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                               primaryImages:(MPSImageBatch*)primaryImages
                             secondaryImages:(MPSImageBatch*)secondaryImages
                           destinationStates:(MPSStateBatch* _Nullable* _Nonnull)outState
                 destinationStateIsTemporary:(BOOL)isTemporary;
- (MPSState* _Nullable)resultStateForPrimaryImage:(MPSImage*)primaryImage
                                   secondaryImage:(MPSImage*)secondaryImage
                                     sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                                 destinationImage:(MPSImage*)destinationImage;
- (MPSStateBatch* _Nullable)resultStateBatchForPrimaryImage:(MPSImageBatch*)primaryImage
                                             secondaryImage:(MPSImageBatch*)secondaryImage
                                               sourceStates:
                                                   (NSArray<MPSStateBatch*>* _Nullable)sourceStates
                                           destinationImage:(MPSImageBatch*)destinationImage;
- (MPSState* _Nullable)temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                               primaryImage:(MPSImage*)primaryImage
                                             secondaryImage:(MPSImage*)secondaryImage
                                               sourceStates:
                                                   (NSArray<MPSState*>* _Nullable)sourceStates
                                           destinationImage:(MPSImage*)destinationImage;
- (MPSStateBatch* _Nullable)
    temporaryResultStateBatchForCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                 primaryImage:(MPSImageBatch*)primaryImage
                               secondaryImage:(MPSImageBatch*)secondaryImage
                                 sourceStates:(NSArray<MPSStateBatch*>* _Nullable)sourceStates
                             destinationImage:(MPSImageBatch*)destinationImage;
- (BOOL)isResultStateReusedAcrossBatch;
- (BOOL)appendBatchBarrier;
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sourceImages
                                                    sourceStates:
                                                        (NSArray<MPSState*>* _Nullable)sourceStates;
- (NSUInteger)encodingStorageSizeForPrimaryImage:(MPSImage*)primaryImage
                                  secondaryImage:(MPSImage*)secondaryImage
                                    sourceStates:(NSArray<MPSState*>* _Nullable)sourceStates
                                destinationImage:(MPSImage* _Nullable)destinationImage;
- (NSUInteger)batchEncodingStorageSizeForPrimaryImage:(MPSImageBatch*)primaryImage
                                       secondaryImage:(MPSImageBatch*)secondaryImage
                                         sourceStates:
                                             (NSArray<MPSStateBatch*>* _Nullable)sourceStates
                                     destinationImage:(MPSImageBatch* _Nullable)destinationImage;
@end

@interface MPSCNNGradientKernel : MPSCNNBinaryKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_DESIGNATED_INITIALIZER;
@property (nonatomic, assign) NSInteger kernelOffsetX;
@property (nonatomic, assign) NSInteger kernelOffsetY;
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                    sourceGradient:(MPSImage*)sourceGradient
                       sourceImage:(MPSImage*)sourceImage
                     gradientState:(MPSState*)gradientState;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
               sourceGradient:(MPSImage*)sourceGradient
                  sourceImage:(MPSImage*)sourceImage
                gradientState:(MPSState*)gradientState
          destinationGradient:(MPSImage*)destinationGradient;
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                             sourceGradients:(MPSImageBatch*)sourceGradients
                                sourceImages:(MPSImageBatch*)sourceImages
                              gradientStates:(MPSStateBatch*)gradientStates;
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                   sourceGradients:(MPSImageBatch*)sourceGradients
                      sourceImages:(MPSImageBatch*)sourceImages
                    gradientStates:(MPSStateBatch*)gradientStates
              destinationGradients:(MPSImageBatch*)destinationGradients;
@end
NS_ASSUME_NONNULL_END
