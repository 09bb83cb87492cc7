// Recurrent layers on sequences of matrices: descriptors of cells, and the layer that trains.
#pragma once
#import <MetalPerformanceShaders/MPSCNNConvolution.h>
#import <MetalPerformanceShaders/MPSMatrix.h>

NS_ASSUME_NONNULL_BEGIN
typedef NS_ENUM(NSUInteger, MPSRNNSequenceDirection) {
  MPSRNNSequenceDirectionForward = 0,
  MPSRNNSequenceDirectionBackward = 1,
};

@interface MPSRNNDescriptor : NSObject
@property (nonatomic, assign) NSUInteger inputFeatureChannels;
@property (nonatomic, assign) NSUInteger outputFeatureChannels;
@property (nonatomic, assign) BOOL useLayerInputUnitTransformMode;
@property (nonatomic, assign) BOOL useFloat32Weights;
@property (nonatomic, assign) MPSRNNSequenceDirection layerSequenceDirection;
@end

@interface MPSRNNSingleGateDescriptor : MPSRNNDescriptor
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable recurrentWeights;
+ (instancetype)
    createRNNSingleGateDescriptorWithInputFeatureChannels:(NSUInteger)inputFeatureChannels
                                    outputFeatureChannels:(NSUInteger)outputFeatureChannels;
@end

@interface MPSGRUDescriptor : MPSRNNDescriptor
@property (nonatomic, assign) float gatePnormValue;
@property (nonatomic, assign) BOOL flipOutputGates;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable recurrentGateInputWeights;
@property (nonatomic, retain)
    id<MPSCNNConvolutionDataSource> _Nullable recurrentGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateInputGateWeights;
+ (instancetype)createGRUDescriptorWithInputFeatureChannels:(NSUInteger)inputFeatureChannels
                                      outputFeatureChannels:(NSUInteger)outputFeatureChannels;
@end

@interface MPSLSTMDescriptor : MPSRNNDescriptor
@property (nonatomic, assign) BOOL memoryWeightsAreDiagonal;
@property (nonatomic, assign) MPSCNNNeuronType cellToOutputNeuronType;
@property (nonatomic, assign) float cellToOutputNeuronParamA;
@property (nonatomic, assign) float cellToOutputNeuronParamB;
@property (nonatomic, assign) float cellToOutputNeuronParamC;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable inputGateMemoryWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable forgetGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable forgetGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable forgetGateMemoryWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable outputGateMemoryWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable cellGateInputWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable cellGateRecurrentWeights;
@property (nonatomic, retain) id<MPSCNNConvolutionDataSource> _Nullable cellGateMemoryWeights;
+ (instancetype)createLSTMDescriptorWithInputFeatureChannels:(NSUInteger)inputFeatureChannels
                                       outputFeatureChannels:(NSUInteger)outputFeatureChannels;
@end

typedef NS_ENUM(NSUInteger, MPSRNNMatrixId) {
  MPSRNNMatrixIdSingleGateInputWeights = 0,
  MPSRNNMatrixIdSingleGateRecurrentWeights = 1,
  MPSRNNMatrixIdSingleGateBiasTerms = 2,
  MPSRNNMatrixIdLSTMInputGateInputWeights = 3,
  MPSRNNMatrixIdLSTMInputGateRecurrentWeights = 4,
  MPSRNNMatrixIdLSTMInputGateMemoryWeights = 5,
  MPSRNNMatrixIdLSTMInputGateBiasTerms = 6,
  MPSRNNMatrixIdLSTMForgetGateInputWeights = 7,
  MPSRNNMatrixIdLSTMForgetGateRecurrentWeights = 8,
  MPSRNNMatrixIdLSTMForgetGateMemoryWeights = 9,
  MPSRNNMatrixIdLSTMForgetGateBiasTerms = 10,
  MPSRNNMatrixIdLSTMMemoryGateInputWeights = 11,
  MPSRNNMatrixIdLSTMMemoryGateRecurrentWeights = 12,
  MPSRNNMatrixIdLSTMMemoryGateMemoryWeights = 13,
  MPSRNNMatrixIdLSTMMemoryGateBiasTerms = 14,
  MPSRNNMatrixIdLSTMOutputGateInputWeights = 15,
  MPSRNNMatrixIdLSTMOutputGateRecurrentWeights = 16,
  MPSRNNMatrixIdLSTMOutputGateMemoryWeights = 17,
  MPSRNNMatrixIdLSTMOutputGateBiasTerms = 18,
  MPSRNNMatrixIdGRUInputGateInputWeights = 19,
  MPSRNNMatrixIdGRUInputGateRecurrentWeights = 20,
  MPSRNNMatrixIdGRUInputGateBiasTerms = 21,
  MPSRNNMatrixIdGRURecurrentGateInputWeights = 22,
  MPSRNNMatrixIdGRURecurrentGateRecurrentWeights = 23,
  MPSRNNMatrixIdGRURecurrentGateBiasTerms = 24,
  MPSRNNMatrixIdGRUOutputGateInputWeights = 25,
  MPSRNNMatrixIdGRUOutputGateRecurrentWeights = 26,
  MPSRNNMatrixIdGRUOutputGateInputGateWeights = 27,
  MPSRNNMatrixIdGRUOutputGateBiasTerms = 28,
  MPSRNNMatrixId_count = 29,
};

@interface MPSRNNRecurrentMatrixState : MPSState
- (MPSMatrix* _Nullable)getRecurrentOutputMatrixForLayerIndex:(NSUInteger)layerIndex;
- (MPSMatrix* _Nullable)getMemoryCellMatrixForLayerIndex:(NSUInteger)layerIndex;
@end

@interface MPSRNNMatrixTrainingState : MPSState
@end

@interface MPSRNNMatrixTrainingLayer : MPSKernel
@property (nonatomic, readonly) NSUInteger inputFeatureChannels;
@property (nonatomic, readonly) NSUInteger outputFeatureChannels;
@property (nonatomic, assign) BOOL storeAllIntermediateStates;
@property (nonatomic, assign) BOOL recurrentOutputIsTemporary;
@property (nonatomic, assign) BOOL trainingStateIsTemporary;
@property (nonatomic, assign) BOOL accumulateWeightGradients;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 rnnDescriptor:(const MPSRNNDescriptor*)rnnDescriptor
              trainableWeights:(NSMutableArray<MPSMatrix*>*)trainableWeights
    NS_DESIGNATED_INITIALIZER;
- (instancetype)initWithDevice:(id<MTLDevice>)device NS_UNAVAILABLE;
- (void)createWeightGradientMatrices:(NSMutableArray<MPSMatrix*>*)matricesOut
                            dataType:(MPSDataType)dataType;
- (void)createTemporaryWeightGradientMatrices:(NSMutableArray<MPSMatrix*>*)matricesOut
                                     dataType:(MPSDataType)dataType
                                commandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (void)createWeightMatrices:(NSMutableArray<MPSMatrix*>*)matricesOut;
- (void)encodeCopyWeightsToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                                 weights:(NSArray<MPSMatrix*>*)weights
                                matrixId:(MPSRNNMatrixId)matrixId
                                  matrix:(MPSMatrix*)matrix
                 copyFromWeightsToMatrix:(BOOL)copyFromWeightsToMatrix
                            matrixOffset:(MTLOrigin)matrixOffset;

- (void)
    encodeForwardSequenceToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                          sourceMatrices:(NSArray<MPSMatrix*>*)sourceMatrices
                           sourceOffsets:(NSUInteger* _Nullable)sourceOffsets
                     destinationMatrices:(NSArray<MPSMatrix*>*)destinationMatrices
                      destinationOffsets:(NSUInteger* _Nullable)destinationOffsets
                          trainingStates:(NSMutableArray<MPSRNNMatrixTrainingState*>*)trainingStates
                     recurrentInputState:(MPSRNNRecurrentMatrixState* _Nullable)recurrentInputState
                   recurrentOutputStates:
                       (NSMutableArray<MPSRNNRecurrentMatrixState*>* _Nullable)recurrentOutputStates
                                 weights:(NSArray<MPSMatrix*>*)weights;
- (void)encodeForwardSequenceToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                              sourceMatrices:(NSArray<MPSMatrix*>*)sourceMatrices
                         destinationMatrices:(NSArray<MPSMatrix*>*)destinationMatrices
                              trainingStates:
                                  (NSMutableArray<MPSRNNMatrixTrainingState*>*)trainingStates
                                     weights:(NSArray<MPSMatrix*>*)weights;
- (void)
    encodeGradientSequenceToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                           forwardSources:(NSArray<MPSMatrix*>*)forwardSources
                     forwardSourceOffsets:(NSUInteger* _Nullable)forwardSourceOffsets
                          sourceGradients:(NSArray<MPSMatrix*>*)sourceGradients
                    sourceGradientOffsets:(NSUInteger* _Nullable)sourceGradientOffsets
                     destinationGradients:(NSArray<MPSMatrix*>* _Nullable)destinationGradients
                       destinationOffsets:(NSUInteger* _Nullable)destinationOffsets
                          weightGradients:(NSArray<MPSMatrix*>* _Nullable)weightGradients
                           trainingStates:(NSArray<MPSRNNMatrixTrainingState*>*)trainingStates
                      recurrentInputState:(MPSRNNRecurrentMatrixState* _Nullable)recurrentInputState
                    recurrentOutputStates:(NSMutableArray<MPSRNNRecurrentMatrixState*>* _Nullable)
                                              recurrentOutputStates
                                  weights:(NSArray<MPSMatrix*>*)weights;
- (void)encodeGradientSequenceToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                               forwardSources:(NSArray<MPSMatrix*>*)forwardSources
                              sourceGradients:(NSArray<MPSMatrix*>*)sourceGradients
                         destinationGradients:(NSArray<MPSMatrix*>* _Nullable)destinationGradients
                              weightGradients:(NSArray<MPSMatrix*>* _Nullable)weightGradients
                               trainingStates:(NSArray<MPSRNNMatrixTrainingState*>*)trainingStates
                                      weights:(NSArray<MPSMatrix*>*)weights;
@end
NS_ASSUME_NONNULL_END
