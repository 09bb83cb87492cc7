// Runs the stand-in's own tests: every expectation is worked by hand; the section of the reference
// it follows from is named in the test. A test that leaves a violation or a missing pool fails.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#import "check.h"

namespace {
struct Test {
  const char* name;
  std::function<void()> body;
};
std::vector<Test>& tests() {
  static auto* v = new std::vector<Test>;
  return *v;
}
int failures = 0;
}  // namespace

bool add_test(const char* name, std::function<void()> body) {
  tests().push_back({name, std::move(body)});
  return true;
}
void fail(const char* file, int line, const std::string& what) {
  std::printf("  %s:%d: %s\n", file, line, what.c_str());
  ++failures;
}
void near(const char* file, int line, const std::vector<float>& got, const std::vector<float>& want,
          float tolerance) {
  bool same = got.size() == want.size();
  for (size_t i = 0; same && i < got.size(); ++i)
    same = std::isnan(want[i])
               ? std::isnan(got[i])
               : std::fabs(got[i] - want[i]) <= tolerance * std::max(1.f, std::fabs(want[i]));
  if (same) return;
  std::string text = "got";
  for (float x : got) text += " " + std::to_string(x);
  text += ", want";
  for (float x : want) text += " " + std::to_string(x);
  fail(file, line, text);
}
void expect_violation(const char* file, int line, const char* text,
                      const std::function<void()>& body) {
  @autoreleasepool {
    body();
  }
  const long n = apple_sim_violations();
  if (n == 0) fail(file, line, std::string("no violation; expected: ") + text);
  bool found = n == 0;
  for (long i = 0; i < n; ++i) found |= std::strstr(apple_sim_violation(i), text) != nullptr;
  if (!found) fail(file, line, std::string("another violation: ") + apple_sim_violation(0));
  apple_sim_clear_violations();
}

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

int main() {
  setenv("APPLE_SIM_DEVICES", "discrete,unified,removable", 1);
  @autoreleasepool {
    queue();
  }
  for (const Test& t : tests()) {
    const int before = failures;
    const long pools = apple_sim_missing_pools(), buffers = apple_sim_live_buffers();
    @try {
      @autoreleasepool {
        t.body();
      }
    } @catch (NSException* e) {
      fail(t.name, 0, e.reason.UTF8String);
    }
    for (long i = 0; i < apple_sim_violations(); ++i) fail(t.name, 0, apple_sim_violation(i));
    apple_sim_clear_violations();
    if (apple_sim_missing_pools() != pools) fail(t.name, 0, "an autorelease without a pool");
    for (int i = 0; i < 1000 && apple_sim_live_buffers() != buffers; ++i)
      usleep(1000);  // the queue's thread lets go of a command buffer after its completion
    if (apple_sim_live_buffers() != buffers) fail(t.name, 0, "buffers left alive");
    std::printf("%s %s\n", failures == before ? "ok    " : "FAILED", t.name);
  }
  std::printf("%zu tests, %d failures\n", tests().size(), failures);
  return failures != 0;
}
