#import "images.h"

#include <cmath>

id<MTLDevice> device(NSUInteger index) { return MTLCopyAllDevices()[index]; }
id<MTLCommandQueue> queue() {
  static id<MTLCommandQueue> q = [device() newCommandQueue];
  return q;
}
static float from_half(uint16_t h) {
  const int e = (h >> 10) & 31, m = h & 1023;
  const float v =
      e ? std::ldexp(static_cast<float>(m + 1024), e - 25) : std::ldexp(static_cast<float>(m), -24);
  return h & 0x8000 ? -v : v;
}
static MPSImageDescriptor* describe(long h, long w, long c, bool half) {
  return [MPSImageDescriptor
      imageDescriptorWithChannelFormat:half ? MPSImageFeatureChannelFormatFloat16
                                            : MPSImageFeatureChannelFormatFloat32
                                 width:static_cast<NSUInteger>(w)
                                height:static_cast<NSUInteger>(h)
                       featureChannels:static_cast<NSUInteger>(c)];
}
MPSImage* blank(long h, long w, long c, bool half) {
  return [[MPSImage alloc] initWithDevice:device() imageDescriptor:describe(h, w, c, half)];
}
MPSImage* image(long h, long w, long c, const std::vector<float>& values, bool half) {
  MPSImage* i = blank(h, w, c, half);
  [i writeBytes:values.data() dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels imageIndex:0];
  return i;
}
MPSTemporaryImage* temporary(id<MTLCommandBuffer> cb, long h, long w, long c) {
  return [MPSTemporaryImage temporaryImageWithCommandBuffer:cb
                                            imageDescriptor:describe(h, w, c, false)];
}
std::vector<float> read(MPSImage* i) {
  const size_t n = i.width * i.height * i.featureChannels;
  std::vector<float> v(n);
  if (i.featureChannelFormat == MPSImageFeatureChannelFormatFloat16) {
    std::vector<uint16_t> h(n);
    [i readBytes:h.data() dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels imageIndex:0];
    for (size_t k = 0; k < n; ++k) v[k] = from_half(h[k]);
  } else {
    [i readBytes:v.data() dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels imageIndex:0];
  }
  return v;
}
std::vector<float> run_and_read(id<MTLCommandBuffer> cb, MPSImage* result) {
  [result synchronizeOnCommandBuffer:cb];
  [cb commit];
  [cb waitUntilCompleted];
  return read(result);
}
id<MTLBuffer> buffer(const std::vector<float>& values) {
  return [device() newBufferWithBytes:values.data()
                               length:values.size() * 4
                              options:MTLResourceStorageModeManaged];
}
std::vector<float> floats(id<MTLBuffer> b) {
  const auto* p = static_cast<const float*>(b.contents);
  return std::vector<float>(p, p + b.length / 4);
}
void synchronize(id<MTLCommandBuffer> cb, id<MTLBuffer> b) {
  id<MTLBlitCommandEncoder> blit = [cb blitCommandEncoder];
  [blit synchronizeResource:b];
  [blit endEncoding];
}

@implementation Source {
  MPSCNNConvolutionDescriptor* _descriptor;
  std::vector<float> _weights, _bias;
  bool _half, _loaded;
}
- (instancetype)initWithDescriptor:(MPSCNNConvolutionDescriptor*)descriptor
                           weights:(std::vector<float>)weights
                              bias:(std::vector<float>)bias
                              half:(bool)half {
  if ((self = [super init])) {
    _descriptor = descriptor;
    _weights = std::move(weights);
    _bias = std::move(bias);
    _half = half;
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
  return _weights.data();
}
- (float*)biasTerms {
  return _bias.empty() ? nullptr : _bias.data();
}
- (BOOL)load {
  return _loaded = true;
}
- (void)purge {
  _loaded = false;
}
- (NSString*)label {
  return nil;
}
- (MPSDataType)kernelWeightsDataType {
  return _half ? MPSDataTypeFloat16 : MPSDataTypeFloat32;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return self;
}
@end
Source* source(long kh, long kw, long in, long out, std::vector<float> w, std::vector<float> b,
               long stride, bool half) {
  MPSCNNConvolutionDescriptor* d = [MPSCNNConvolutionDescriptor
      cnnConvolutionDescriptorWithKernelWidth:static_cast<NSUInteger>(kw)
                                 kernelHeight:static_cast<NSUInteger>(kh)
                         inputFeatureChannels:static_cast<NSUInteger>(in)
                        outputFeatureChannels:static_cast<NSUInteger>(out)];
  d.strideInPixelsX = d.strideInPixelsY = static_cast<NSUInteger>(stride);
  return [[Source alloc] initWithDescriptor:d weights:std::move(w) bias:std::move(b) half:half];
}
