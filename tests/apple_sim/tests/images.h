// Small images and buffers by their values, for whoever tries single kernels.
#pragma once
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <cstdint>
#include <vector>

// The devices of the process: 0 discrete, 1 unified, 2 removable.
id<MTLDevice> device(NSUInteger index = 0);
id<MTLCommandQueue> queue();
// Float images; h x w x c values in HWC order.
MPSImage* image(long h, long w, long c, const std::vector<float>& values, bool half = false);
MPSImage* blank(long h, long w, long c, bool half = false);
MPSTemporaryImage* temporary(id<MTLCommandBuffer> cb, long h, long w, long c);
std::vector<float> run_and_read(id<MTLCommandBuffer> cb, MPSImage* result);
std::vector<float> read(MPSImage* image);
id<MTLBuffer> buffer(const std::vector<float>& values);
std::vector<float> floats(id<MTLBuffer> buffer);
void synchronize(id<MTLCommandBuffer> cb, id<MTLBuffer> buffer);

@interface Source : NSObject <MPSCNNConvolutionDataSource>
- (instancetype)initWithDescriptor:(MPSCNNConvolutionDescriptor*)descriptor
                           weights:(std::vector<float>)weights
                              bias:(std::vector<float>)bias
                              half:(bool)half;
@end
Source* source(long kh, long kw, long in, long out, std::vector<float> w, std::vector<float> b,
               long stride = 1, bool half = false);
