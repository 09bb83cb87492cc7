// A few lines of test framework: a named test, a comparison, and what a test says of violations.
#pragma once
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apple_sim.h"

bool add_test(const char* name, std::function<void()> body);
void fail(const char* file, int line, const std::string& what);
void near(const char* file, int line, const std::vector<float>& got, const std::vector<float>& want,
          float tolerance);
// Runs the body and takes the violations it made: exactly one, with this text in it.
void expect_violation(const char* file, int line, const char* text,
                      const std::function<void()>& body);

#define CHECK(x) ((x) ? void() : fail(__FILE__, __LINE__, #x))
#define NEAR(got, ...) near(__FILE__, __LINE__, got, __VA_ARGS__, 1e-5f)
#define VIOLATES(text, ...) expect_violation(__FILE__, __LINE__, text, [&] __VA_ARGS__)

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
