// Buffers, textures and their memory. Managed resources keep two copies on every device: a backend
// that forgets a didModifyRange: or a synchronisation must not work by luck.
#include <algorithm>
#include <cstring>

#import "sim.h"

namespace apple_sim {
Store::Store(MTLStorageMode m, size_t bytes) : mode(m), gpu(bytes, 0xff) {
  if (mode == MTLStorageModeManaged) cpu.assign(bytes, 0xff);
  ++counters().buffers;
  counters().bytes += static_cast<long>(bytes);
}
Store::~Store() {
  --counters().buffers;
  counters().bytes -= static_cast<long>(gpu.size());
}
void Store::synchronize() {
  if (mode == MTLStorageModeManaged) cpu = gpu;
  stale = false;
}
void Store::upload(size_t offset, size_t bytes) {
  std::memcpy(gpu.data() + offset, cpu.data() + offset, bytes);
}

id<MTLBuffer> make_buffer(id<MTLDevice> device, size_t bytes) {
  return [[SimBuffer alloc] initWithDevice:device length:bytes mode:MTLStorageModeManaged];
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
  uint32_t bits;
  if (e == 31) {
    bits = sign | 0x7f800000 | (m << 13);
  } else if (e) {
    bits = sign | ((e + 112) << 23) | (m << 13);
  } else {
    const float f = static_cast<float>(m) * 0x1p-24f;
    return sign ? -f : f;
  }
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
uint16_t float_to_half(float f) {  // to nearest, ties to even; overflow to infinity
  uint32_t b;
  std::memcpy(&b, &f, 4);
  const auto sign = static_cast<uint16_t>((b >> 16) & 0x8000);
  b &= 0x7fffffff;
  if (b > 0x7f800000) return sign | 0x7e00;
  if (b >= 0x477ff000) return sign | 0x7c00;
  if (b < 0x38800000) {
    float a;
    std::memcpy(&a, &b, 4);
    a += 0.5f;  // the addition rounds to multiples of 2^-24
    std::memcpy(&b, &a, 4);
    return static_cast<uint16_t>(sign | (b - 0x3f000000));
  }
  b += 0xc8000fff + ((b >> 13) & 1);
  return static_cast<uint16_t>(sign | (b >> 13));
}
}  // namespace apple_sim
using namespace apple_sim;

static StorePtr host_access(const StorePtr& store, const char* what) {
  if (store->mode == MTLStorageModePrivate) violate("%s of a resource in private storage", what);
  if (store->writers > 0)
    violate("%s of a resource before the command buffer that writes it has completed", what);
  return store;
}

@implementation SimBuffer {
  StorePtr _store;
  id<MTLDevice> _device;
}
@synthesize label = _label;
- (instancetype)initWithDevice:(id<MTLDevice>)device
                        length:(NSUInteger)length
                          mode:(MTLStorageMode)mode {
  if ((self = [super init])) {
    _device = device;
    _store = std::make_shared<Store>(mode, length);
  }
  return self;
}
- (id<MTLDevice>)device {
  return _device;
}
- (NSUInteger)length {
  return _store->size();
}
- (NSUInteger)allocatedSize {
  return _store->size();
}
- (StorePtr)store {
  return _store;
}
- (MTLStorageMode)storageMode {
  return _store->mode;
}
- (MTLCPUCacheMode)cpuCacheMode {
  return MTLCPUCacheModeDefaultCache;
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  return MTLHazardTrackingModeTracked;
}
- (MTLResourceOptions)resourceOptions {
  return _store->mode << 4;
}
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  (void)state;
  return MTLPurgeableStateNonVolatile;
}
- (void*)contents {
  host_access(_store, "-[MTLBuffer contents]");
  if (_store->mode == MTLStorageModePrivate) return nullptr;
  if (_store->stale && _store->mode == MTLStorageModeManaged)
    violate(
        "-[MTLBuffer contents] of a managed buffer that the GPU wrote, without synchronisation");
  return _store->host();
}
- (void)didModifyRange:(NSRange)range {
  if (_store->mode != MTLStorageModeManaged) {
    violate("-[MTLBuffer didModifyRange:] on a buffer that is not managed");
    return;
  }
  if (range.location + range.length > _store->size()) {
    violate("-[MTLBuffer didModifyRange:] beyond the buffer's end");
    return;
  }
  if (_store->in_flight > 0)
    violate("-[MTLBuffer didModifyRange:] while a committed command buffer uses the buffer");
  _store->upload(range.location, range.length);
}
@end

static size_t bytes_per_pixel(MTLPixelFormat format) {
  switch (format) {
    case MTLPixelFormatR16Float:
      return 2;
    case MTLPixelFormatRG16Float:
      return 4;
    case MTLPixelFormatRGBA16Float:
      return 8;
    case MTLPixelFormatR32Float:
      return 4;
    case MTLPixelFormatRG32Float:
      return 8;
    case MTLPixelFormatRGBA32Float:
      return 16;
    default:
      [NSException raise:NSInvalidArgumentException format:@"pixel format %lu", (NSUInteger)format];
      return 0;
  }
}

@implementation MTLTextureDescriptor
- (instancetype)init {
  if ((self = [super init])) {
    _textureType = MTLTextureType2D;
    _pixelFormat = MTLPixelFormatRGBA32Float;
    _width = _height = _depth = _mipmapLevelCount = _sampleCount = _arrayLength = 1;
    _storageMode = MTLStorageModeManaged;
    _usage = MTLTextureUsageShaderRead;
  }
  return self;
}
+ (MTLTextureDescriptor*)texture2DDescriptorWithPixelFormat:(MTLPixelFormat)format
                                                      width:(NSUInteger)width
                                                     height:(NSUInteger)height
                                                  mipmapped:(BOOL)mipmapped {
  (void)mipmapped;
  MTLTextureDescriptor* d = [[self alloc] init];
  d.pixelFormat = format;
  d.width = width;
  d.height = height;
  return d;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MTLTextureDescriptor* d = [[MTLTextureDescriptor alloc] init];
  d.textureType = _textureType;
  d.pixelFormat = _pixelFormat;
  d.width = _width;
  d.height = _height;
  d.arrayLength = _arrayLength;
  d.storageMode = _storageMode;
  d.usage = _usage;
  return d;
}
@end

@implementation SimTexture {
  StorePtr _store;
  id<MTLDevice> _device;
  MTLTextureDescriptor* _descriptor;
}
@synthesize label = _label;
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MTLTextureDescriptor*)d {
  if ((self = [super init])) {
    if (d.width > 16384 || d.height > 16384 || d.arrayLength > 2048)
      violate("a texture of %lux%lux%lu passes Metal's limits", d.width, d.height, d.arrayLength);
    _device = device;
    _descriptor = [d copy];
    _store = std::make_shared<Store>(
        d.storageMode, d.width * d.height * d.arrayLength * bytes_per_pixel(d.pixelFormat));
  }
  return self;
}
- (StorePtr)store {
  return _store;
}
- (id<MTLDevice>)device {
  return _device;
}
- (NSUInteger)allocatedSize {
  return _store->size();
}
- (MTLStorageMode)storageMode {
  return _store->mode;
}
- (MTLCPUCacheMode)cpuCacheMode {
  return MTLCPUCacheModeDefaultCache;
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  return MTLHazardTrackingModeTracked;
}
- (MTLResourceOptions)resourceOptions {
  return _store->mode << 4;
}
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  (void)state;
  return MTLPurgeableStateNonVolatile;
}
- (MTLTextureType)textureType {
  return _descriptor.textureType;
}
- (MTLPixelFormat)pixelFormat {
  return _descriptor.pixelFormat;
}
- (NSUInteger)width {
  return _descriptor.width;
}
- (NSUInteger)height {
  return _descriptor.height;
}
- (NSUInteger)depth {
  return 1;
}
- (NSUInteger)arrayLength {
  return _descriptor.arrayLength;
}
- (NSUInteger)mipmapLevelCount {
  return 1;
}
- (NSUInteger)sampleCount {
  return 1;
}
- (MTLTextureUsage)usage {
  return _descriptor.usage;
}
@end
