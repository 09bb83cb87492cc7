// MPSImage, MPSTemporaryImage, their descriptors, allocators and batches (mps-reference 1.4
// to 1.7).
#include <climits>
#include <cstring>
#include <mutex>
#include <unordered_set>

#import "metal_command.h"
#import "mps.h"

using namespace apple_sim;
extern "C" const MTLRegion MPSRectNoClip = {{0, 0, 0},
                                            {NSUIntegerMax, NSUIntegerMax, NSUIntegerMax}};

namespace apple_sim {
static float component(const ImageRef& i, size_t at) {
  const uint8_t* p = i.store->gpu.data();
  return i.half ? half_to_float(reinterpret_cast<const uint16_t*>(p)[at])
                : reinterpret_cast<const float*>(p)[at];
}
Tensor load(const ImageRef& i, long first, long most) {
  const long n = std::max(0L, std::min(most, i.channels - first));
  Tensor t(i.height, i.width, n);
  for (long y = 0; y < t.h; ++y)
    for (long x = 0; x < t.w; ++x) {
      float* p = t.at(y, x);
      for (long c = 0; c < n; ++c) p[c] = component(i, i.at(x, y, first + c));
    }
  return t;
}
void store(const ImageRef& i, const Tensor& t, long x0, long y0, long first) {
  uint8_t* base = i.store->gpu.data();
  for (long y = 0; y < t.h; ++y)
    for (long x = 0; x < t.w; ++x) {
      const float* p = t.at(y, x);
      for (long c = 0; c < t.c; ++c) {
        const size_t at = i.at(x0 + x, y0 + y, first + c);
        if (i.half)
          reinterpret_cast<uint16_t*>(base)[at] = float_to_half(p[c]);
        else
          reinterpret_cast<float*>(base)[at] = p[c];
      }
    }
}
}  // namespace apple_sim

@implementation MPSImageDescriptor
- (instancetype)init {
  if ((self = [super init])) {
    _numberOfImages = 1;
    _channelFormat = MPSImageFeatureChannelFormatFloat16;
    _storageMode = MTLStorageModeManaged;
    _usage = MTLTextureUsageShaderRead | MTLTextureUsageShaderWrite;
  }
  return self;
}
+ (instancetype)imageDescriptorWithChannelFormat:(MPSImageFeatureChannelFormat)format
                                           width:(NSUInteger)width
                                          height:(NSUInteger)height
                                 featureChannels:(NSUInteger)channels {
  return [self
      imageDescriptorWithChannelFormat:format
                                 width:width
                                height:height
                       featureChannels:channels
                        numberOfImages:1
                                 usage:MTLTextureUsageShaderRead | MTLTextureUsageShaderWrite];
}
+ (instancetype)imageDescriptorWithChannelFormat:(MPSImageFeatureChannelFormat)format
                                           width:(NSUInteger)width
                                          height:(NSUInteger)height
                                 featureChannels:(NSUInteger)channels
                                  numberOfImages:(NSUInteger)images
                                           usage:(MTLTextureUsage)usage {
  MPSImageDescriptor* d = [[self alloc] init];
  d.channelFormat = format;
  d.width = width;
  d.height = height;
  d.featureChannels = channels;
  d.numberOfImages = images;
  d.usage = usage;
  return d;
}
- (MTLPixelFormat)pixelFormat {
  const bool half = _channelFormat == MPSImageFeatureChannelFormatFloat16;
  if (_featureChannels == 1) return half ? MTLPixelFormatR16Float : MTLPixelFormatR32Float;
  if (_featureChannels == 2) return half ? MTLPixelFormatRG16Float : MTLPixelFormatRG32Float;
  return half ? MTLPixelFormatRGBA16Float : MTLPixelFormatRGBA32Float;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MPSImageDescriptor* d = [MPSImageDescriptor imageDescriptorWithChannelFormat:_channelFormat
                                                                         width:_width
                                                                        height:_height
                                                               featureChannels:_featureChannels
                                                                numberOfImages:_numberOfImages
                                                                         usage:_usage];
  d.storageMode = _storageMode;
  return d;
}
@end

@interface SimAllocator : NSObject <MPSImageAllocator>
@end
@implementation SimAllocator {
 @public
  bool _temporary;
}
- (MPSImage*)imageForCommandBuffer:(id<MTLCommandBuffer>)cb
                   imageDescriptor:(MPSImageDescriptor*)descriptor
                            kernel:(MPSKernel*)kernel {
  (void)kernel;
  if (_temporary)
    return [MPSTemporaryImage temporaryImageWithCommandBuffer:cb imageDescriptor:descriptor];
  return [[MPSImage alloc] initWithDevice:cb.device imageDescriptor:descriptor];
}
@end
static SimAllocator* allocator(bool temporary) {
  static SimAllocator* both[2];
  static std::once_flag once;
  std::call_once(once, [] {
    for (int i = 0; i < 2; ++i) {
      both[i] = [[SimAllocator alloc] init];
      both[i]->_temporary = i;
    }
  });
  return both[temporary];
}

@implementation MPSImage {
  id<MTLDevice> _simDevice;
  SimTexture* _texture;
  MPSImageDescriptor* _descriptor;
  long _firstLayer;
}
@synthesize label = _label;
+ (id<MPSImageAllocator>)defaultAllocator {
  return allocator(false);
}
- (instancetype)initWithSimDevice:(id<MTLDevice>)device
                       descriptor:(const MPSImageDescriptor*)descriptor
                        temporary:(TemporaryPtr)temporary {
  if ((self = [super init])) {
    _simDevice = device;
    _descriptor = [(MPSImageDescriptor*)descriptor copy];
    if (!_descriptor.width || !_descriptor.height || !_descriptor.featureChannels)
      violate("MPSImage of %lux%lux%lu", _descriptor.width, _descriptor.height,
              _descriptor.featureChannels);
    if (_descriptor.channelFormat != MPSImageFeatureChannelFormatFloat16 &&
        _descriptor.channelFormat != MPSImageFeatureChannelFormatFloat32)
      [NSException raise:NSInvalidArgumentException
                  format:@"stand-in: channel format %lu", (NSUInteger)_descriptor.channelFormat];
    if (_descriptor.storageMode == MTLStorageModeShared)
      violate("MPSImage in shared storage (the header: not on macOS)");
    MTLTextureDescriptor* t = [[MTLTextureDescriptor alloc] init];
    t.width = _descriptor.width;
    t.height = _descriptor.height;
    t.arrayLength = (_descriptor.featureChannels + 3) / 4 * _descriptor.numberOfImages;
    t.textureType = t.arrayLength > 1 ? MTLTextureType2DArray : MTLTextureType2D;
    t.pixelFormat = _descriptor.pixelFormat;
    t.storageMode = temporary ? MTLStorageModePrivate : _descriptor.storageMode;
    t.usage = _descriptor.usage;
    _texture = (SimTexture*)[device newTextureWithDescriptor:t];
    if (!_texture) return nil;
    _temporary = temporary;
    if (temporary) temporary->stores.push_back([_texture store]);
  }
  return self;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
               imageDescriptor:(const MPSImageDescriptor*)descriptor {
  return [self initWithSimDevice:device descriptor:descriptor temporary:nullptr];
}
- (instancetype)initWithTexture:(id<MTLTexture>)texture featureChannels:(NSUInteger)channels {
  if ((self = [super init])) {
    _simDevice = texture.device;
    _texture = (SimTexture*)texture;
    const bool half = texture.pixelFormat == MTLPixelFormatRGBA16Float ||
                      texture.pixelFormat == MTLPixelFormatRG16Float ||
                      texture.pixelFormat == MTLPixelFormatR16Float;
    _descriptor = [MPSImageDescriptor
        imageDescriptorWithChannelFormat:half ? MPSImageFeatureChannelFormatFloat16
                                              : MPSImageFeatureChannelFormatFloat32
                                   width:texture.width
                                  height:texture.height
                         featureChannels:channels];
    _descriptor.storageMode = texture.storageMode;
    if (_descriptor.pixelFormat != texture.pixelFormat || (channels + 3) / 4 > texture.arrayLength)
      violate("MPSImage initWithTexture: %lu channels do not fit the texture", channels);
  }
  return self;
}
- (void)dealloc {
  check_dead(_temporary);
}
- (id<MTLDevice>)device {
  return _simDevice;
}
- (NSUInteger)width {
  return _descriptor.width;
}
- (NSUInteger)height {
  return _descriptor.height;
}
- (NSUInteger)featureChannels {
  return _descriptor.featureChannels;
}
- (NSUInteger)numberOfImages {
  return _descriptor.numberOfImages;
}
- (MTLTextureType)textureType {
  return _texture.textureType;
}
- (MTLPixelFormat)pixelFormat {
  return _texture.pixelFormat;
}
- (MTLTextureUsage)usage {
  return _descriptor.usage;
}
- (NSUInteger)precision {
  return [self simRef].half ? 10 : 23;
}
- (MPSImageFeatureChannelFormat)featureChannelFormat {
  return _descriptor.channelFormat;
}
- (size_t)pixelSize {
  const ImageRef r = [self simRef];
  return static_cast<size_t>((r.channels + 3) / 4 * r.lanes * (r.half ? 2 : 4));
}
- (id<MTLTexture>)texture {
  return _texture;
}
- (MPSImage*)parent {
  return nil;
}
- (NSUInteger)resourceSize {
  return [_texture store]->size();
}
- (ImageRef)simRef {
  ImageRef r;
  r.store = [_texture store];
  r.width = static_cast<long>(_descriptor.width);
  r.height = static_cast<long>(_descriptor.height);
  r.channels = static_cast<long>(_descriptor.featureChannels);
  r.lanes = r.channels > 2 ? 4 : r.channels;
  r.half = _descriptor.channelFormat == MPSImageFeatureChannelFormatFloat16;
  return r;
}
- (void)simMove:(void*)bytes
         layout:(MPSDataLayout)layout
    bytesPerRow:(NSUInteger)rowBytes
         region:(MTLRegion)region
           info:(MPSImageReadWriteParams)info
          index:(NSUInteger)index
          write:(bool)write {
  const StorePtr s = [_texture store];
  const char* what = write ? "-[MPSImage writeBytes:]" : "-[MPSImage readBytes:]";
  const long first = static_cast<long>(info.featureChannelOffset);
  const long count = static_cast<long>(info.numberOfFeatureChannelsToReadWrite);
  ImageRef r = [self simRef];
  if (_temporary || s->mode == MTLStorageModePrivate) {
    violate("%s: of an image in private storage", what);
    return;
  }
  if (s->writers > 0) violate("%s: before the command buffer that writes it has completed", what);
  if (write && s->in_flight > 0)
    violate("%s: while a committed command buffer uses the image", what);
  if (!write && s->stale && s->mode == MTLStorageModeManaged)
    violate("%s: the GPU wrote the image, and it was not synchronised", what);
  if (index >= self.numberOfImages || first % 4 || count < 1 || first + count > r.channels ||
      region.origin.x + region.size.width > self.width ||
      region.origin.y + region.size.height > self.height) {
    violate("%s: image, region or channels out of range", what);
    return;
  }
  r.first_layer = static_cast<long>(index) * ((r.channels + 3) / 4);
  const size_t e = r.half ? 2 : 4;
  uint8_t* host = s->host();
  const long w = static_cast<long>(region.size.width), h = static_cast<long>(region.size.height);
  for (long y = 0; y < h; ++y)
    for (long x = 0; x < w; ++x)
      for (long c = 0; c < count; ++c) {
        const size_t user =
            layout == MPSDataLayoutHeightxWidthxFeatureChannels
                ? static_cast<size_t>(y) * rowBytes + static_cast<size_t>(x * count + c) * e
                : static_cast<size_t>(c * h + y) * rowBytes + static_cast<size_t>(x) * e;
        const size_t at = e * r.at(x + static_cast<long>(region.origin.x),
                                   y + static_cast<long>(region.origin.y), first + c);
        uint8_t* p = static_cast<uint8_t*>(bytes) + user;
        if (write)
          std::memcpy(host + at, p, e);
        else
          std::memcpy(p, host + at, e);
      }
  if (write && s->mode == MTLStorageModeManaged) s->gpu = s->cpu;
}
- (void)simMove:(void*)bytes
         layout:(MPSDataLayout)layout
          index:(NSUInteger)index
          write:(bool)write {
  const NSUInteger e = [self simRef].half ? 2 : 4;
  const bool hwc = layout == MPSDataLayoutHeightxWidthxFeatureChannels;
  [self simMove:bytes
           layout:layout
      bytesPerRow:self.width * e *
                  (hwc ? self.featureChannels : 1)region
                 :MTLRegionMake2D(0, 0, self.width, self.height)
             info:{0, self.featureChannels}
            index:index
            write:write];
}
- (void)readBytes:(void*)bytes dataLayout:(MPSDataLayout)layout imageIndex:(NSUInteger)index {
  [self simMove:bytes layout:layout index:index write:false];
}
- (void)writeBytes:(const void*)bytes
        dataLayout:(MPSDataLayout)layout
        imageIndex:(NSUInteger)index {
  [self simMove:const_cast<void*>(bytes) layout:layout index:index write:true];
}
- (void)readBytes:(void*)bytes
            dataLayout:(MPSDataLayout)layout
           bytesPerRow:(NSUInteger)row
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)info
            imageIndex:(NSUInteger)index {
  [self simMove:bytes
           layout:layout
      bytesPerRow:row
           region:region
             info:info
            index:index
            write:false];
}
- (void)writeBytes:(const void*)bytes
            dataLayout:(MPSDataLayout)layout
           bytesPerRow:(NSUInteger)row
                region:(MTLRegion)region
    featureChannelInfo:(MPSImageReadWriteParams)info
            imageIndex:(NSUInteger)index {
  void* p = const_cast<void*>(bytes);
  [self simMove:p layout:layout bytesPerRow:row region:region info:info index:index write:true];
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)cb {
  const StorePtr s = [_texture store];
  if (s->mode != MTLStorageModeManaged) return;
  SimCommandBuffer* sim = (SimCommandBuffer*)cb;
  if (![sim simOpenFor:"-[MPSImage synchronizeOnCommandBuffer:]" encoder:nil]) return;
  ++counters().synchronizations;
  Command c;
  c.label = "synchronize";
  c.synchronizes = true;
  c.writes = {s};
  c.run = [s] { s->synchronize(); };
  [sim simAdd:std::move(c)];
}
@end

@implementation MPSTemporaryImage {
  __weak id<MTLCommandBuffer> _commandBuffer;
}
+ (id<MPSImageAllocator>)defaultAllocator {
  return allocator(true);
}
+ (instancetype)temporaryImageWithCommandBuffer:(id<MTLCommandBuffer>)cb
                                imageDescriptor:(const MPSImageDescriptor*)descriptor {
  TemporaryPtr t = make_temporary(cb, "MPSTemporaryImage");
  MPSTemporaryImage* i = [[MPSTemporaryImage alloc] initWithSimDevice:cb.device
                                                           descriptor:descriptor
                                                            temporary:t];
  if (!i) t->reads = 0;
  if (i) i->_commandBuffer = cb;
  return i;
}
+ (void)prefetchStorageWithCommandBuffer:(id<MTLCommandBuffer>)cb
                     imageDescriptorList:(NSArray<MPSImageDescriptor*>*)list {
  (void)list;
  [(SimCommandBuffer*)cb simHeap];
}
- (NSUInteger)readCount {
  return static_cast<NSUInteger>(_temporary->reads.load());
}
- (void)setReadCount:(NSUInteger)count {
  set_reads(_temporary, _commandBuffer, static_cast<long>(count), self);
}
@end

extern "C" {
NSUInteger MPSImageBatchIncrementReadCount(MPSImageBatch* batch, NSInteger amount) {
  std::unordered_set<const void*> seen;
  for (MPSImage* i in batch) {
    if (!seen.insert((__bridge const void*)i).second || !i->_temporary) continue;
    MPSTemporaryImage* t = (MPSTemporaryImage*)i;
    t.readCount = static_cast<NSUInteger>(static_cast<NSInteger>(t.readCount) + amount);
  }
  return seen.size();
}
void MPSImageBatchSynchronize(MPSImageBatch* batch, id<MTLCommandBuffer> cb) {
  std::unordered_set<const void*> seen;
  for (MPSImage* i in batch)
    if (seen.insert((__bridge const void*)i).second) [i synchronizeOnCommandBuffer:cb];
}
NSUInteger MPSImageBatchResourceSize(MPSImageBatch* batch) {
  std::unordered_set<const void*> seen;
  NSUInteger n = 0;
  for (MPSImage* i in batch)
    if (seen.insert((__bridge const void*)i).second) n += i.resourceSize;
  return n;
}
NSInteger MPSImageBatchIterate(MPSImageBatch* batch, NSInteger (^block)(MPSImage*, NSUInteger)) {
  std::unordered_set<const void*> seen;
  NSInteger r = NSIntegerMin;
  for (NSUInteger k = 0; k < batch.count; ++k) {
    if (!seen.insert((__bridge const void*)batch[k]).second) continue;
    r = block(batch[k], k);
    if (r > NSIntegerMin) break;
  }
  return r;
}
}
