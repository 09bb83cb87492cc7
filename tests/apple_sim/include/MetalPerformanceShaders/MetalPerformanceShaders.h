// The part of Metal Performance Shaders that the backend may use, declared for the software
// stand-in.
#pragma once
#import <MetalPerformanceShaders/MPSCNNBatchNormalization.h>
#import <MetalPerformanceShaders/MPSCNNConvolution.h>
#import <MetalPerformanceShaders/MPSCNNKernel.h>
#import <MetalPerformanceShaders/MPSCNNLoss.h>
#import <MetalPerformanceShaders/MPSCNNMath.h>
#import <MetalPerformanceShaders/MPSCNNNeuron.h>
#import <MetalPerformanceShaders/MPSCNNPooling.h>
#import <MetalPerformanceShaders/MPSCoreTypes.h>
#import <MetalPerformanceShaders/MPSImage.h>
#import <MetalPerformanceShaders/MPSMatrix.h>
#import <MetalPerformanceShaders/MPSNNOptimizers.h>
#import <MetalPerformanceShaders/MPSRNNLayer.h>
#import <MetalPerformanceShaders/MPSState.h>
