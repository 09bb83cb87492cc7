#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/weights.h"

@interface MpsnnWeights : NSObject <MPSCNNConvolutionDataSource>
- (instancetype)initWithDescriptor:(MPSCNNConvolutionDescriptor*)descriptor
                             count:(NSUInteger)count
                              bias:(NSUInteger)bias
                              half:(BOOL)half
                             label:(NSString*)label;
@end

@implementation MpsnnWeights {
  MPSCNNConvolutionDescriptor* _descriptor;
  NSUInteger _count, _bias;
  BOOL _half;
  NSString* _label;
  std::vector<float> _zeros;
}

- (instancetype)initWithDescriptor:(MPSCNNConvolutionDescriptor*)descriptor
                             count:(NSUInteger)count
                              bias:(NSUInteger)bias
                              half:(BOOL)half
                             label:(NSString*)label {
  if ((self = [super init])) {
    _descriptor = descriptor;
    _count = count;
    _bias = bias;
    _half = half;
    _label = label;
  }
  return self;
}
- (MPSDataType)dataType {
  return MPSDataTypeFloat32;
}
- (MPSCNNConvolutionDescriptor*)descriptor {
  return _descriptor;
}
- (void*)weights {
  return _zeros.data();
}
- (float*)biasTerms {
  return _bias == 0 ? nullptr : _zeros.data();
}
- (BOOL)load {
  _zeros.assign(_count > _bias ? _count : _bias, 0.0f);
  return YES;
}
- (void)purge {
  _zeros = {};
}
- (NSString*)label {
  return _label;
}
- (MPSDataType)kernelWeightsDataType {
  return _half ? MPSDataTypeFloat16 : MPSDataTypeFloat32;
}
- (id)copyWithZone:(NSZone*)zone {
  return [[MpsnnWeights allocWithZone:zone] initWithDescriptor:_descriptor
                                                         count:_count
                                                          bias:_bias
                                                          half:_half
                                                         label:_label];
}
@end

namespace mpsnn::backend::mps {

SourceRef source_of_zeros(ConvolutionDescriptorRef descriptor, int64_t weights, int64_t biases,
                          bool half, const std::string& layer) {
  return [[MpsnnWeights alloc] initWithDescriptor:descriptor
                                            count:static_cast<NSUInteger>(weights)
                                             bias:static_cast<NSUInteger>(biases)
                                             half:half
                                            label:@(layer.c_str())];
}

bool Changes::since(Encoding& e, const std::vector<ValueId>& parameters) {
  std::vector<int64_t> stamps;
  bool lasting = true;  // what a step has made is new in each
  for (const ValueId id : parameters) {
    DeviceStorage* storage = id == kNone ? nullptr : e.storage(id);
    lasting = lasting && (id == kNone || storage != nullptr);
    stamps.push_back(storage == nullptr ? 0 : storage->version());
  }
  const bool same = lasting && stamps == stamps_;
  if (same && loads_ != nil && loads_.status == MTLCommandBufferStatusCompleted) {
    loaded_ = true;
    loads_ = nil;
  }
  if (same && loaded_) return false;
  stamps_ = std::move(stamps);
  loaded_ = false;
  const bool flies = loads_ != nil && (loads_.status == MTLCommandBufferStatusCommitted ||
                                       loads_.status == MTLCommandBufferStatusScheduled);
  if (!same || !flies) loads_ = e.command_buffer();
  return true;
}

}  // namespace mpsnn::backend::mps
