// The base classes of the image kernels: encodes, checks, read counts, padding policies
// (mps-reference 2.1 to 2.5). A kernel class only says what happens to one image.
#include <unordered_set>

#import "mps.h"

using namespace apple_sim;

namespace apple_sim {
std::vector<ImageRef> refs(MPSImageBatch* batch) {
  std::vector<ImageRef> r;
  for (MPSImage* i in batch) r.push_back([i simRef]);
  return r;
}
Stores stores(MPSImageBatch* batch) {
  Stores s;
  for (MPSImage* i in batch) s.push_back([i simRef].store);
  return s;
}
void check_batch(id kernel, MPSImageBatch* batch, const char* what) {
  if (batch.count == 0) violate("%s: no %s", name_of(kernel), what);
  MPSImage* first = batch.firstObject;
  for (MPSImage* i in batch) {
    if (i.numberOfImages != 1) violate("%s: %s hold several images", name_of(kernel), what);
    if (i.width != first.width || i.height != first.height ||
        i.featureChannels != first.featureChannels ||
        i.featureChannelFormat != first.featureChannelFormat)
      violate("%s: the %s of a batch differ in size or format", name_of(kernel), what);
  }
}
void check_read(id kernel, id<MTLCommandBuffer> cb, MPSImageBatch* batch) {
  (void)kernel;
  std::unordered_set<const void*> seen;
  for (MPSImage* i in batch)
    if (seen.insert((__bridge const void*)i).second) check_temporary(i->_temporary, cb, "read");
}
void check_write(id kernel, id<MTLCommandBuffer> cb, MPSImageBatch* batch) {
  std::unordered_set<const void*> seen;
  for (MPSImage* i in batch) {
    if (!seen.insert((__bridge const void*)i).second)
      violate("%s: one image twice among the destinations", name_of(kernel));
    check_temporary(i->_temporary, cb, "written");
  }
}
void consume_images(id<MTLCommandBuffer> cb, MPSImageBatch* batch) {
  std::unordered_set<const void*> seen;
  for (MPSImage* i in batch)
    if (seen.insert((__bridge const void*)i).second) consume(i->_temporary, cb);
}
Tensor crop(const Tensor& x, const Geometry& g, long h, long w) {
  Tensor y(h, w, x.c);
  for (long i = 0; i < h; ++i)
    for (long j = 0; j < w; ++j) {
      long yy = g.y.o + g.y.s * i, xx = g.x.o + g.x.s * j;
      if (g.clamp) {
        yy = std::min(std::max(yy, 0L), x.h - 1);
        xx = std::min(std::max(xx, 0L), x.w - 1);
      }
      if (yy < 0 || xx < 0 || yy >= x.h || xx >= x.w) continue;
      std::copy_n(x.at(yy, xx), x.c, y.at(i, j));
    }
  return y;
}
}  // namespace apple_sim

namespace {
struct Region {
  long x, y, w, h;
};
// clipRect, cut to the destination.
Region region_of(MTLRegion clip, MPSImage* destination) {
  const auto cut = [](NSUInteger origin, NSUInteger size, NSUInteger limit) {
    if (origin >= limit) return 0L;
    return static_cast<long>(std::min(size, limit - origin));
  };
  return {static_cast<long>(clip.origin.x), static_cast<long>(clip.origin.y),
          cut(clip.origin.x, clip.size.width, destination.width),
          cut(clip.origin.y, clip.size.height, destination.height)};
}
long bounded(NSUInteger n) { return n > LONG_MAX ? LONG_MAX : static_cast<long>(n); }
void check_offsets(id kernel, std::initializer_list<NSUInteger> offsets) {
  for (NSUInteger o : offsets)
    if (o % 4) violate("%s: a feature channel offset is not a multiple of 4", name_of(kernel));
}
void check_channels(id kernel, MPSImage* destination, NSUInteger first, NSUInteger count) {
  if (first + count > destination.featureChannels)
    violate("%s: %lu channels from %lu do not fit a destination of %lu", name_of(kernel), count,
            first, destination.featureChannels);
}
struct Placed {
  long size, offset;
};
// Size and offset of one dimension under a padding policy (2.4).
Placed place(MPSNNPaddingMethod m, const Window& w, long source, bool x) {
  const long kd = w.dilated(),
             style = (m & MPSNNPaddingMethodSizeMask) == MPSNNPaddingMethodSizeSame   ? 0
                     : (m & MPSNNPaddingMethodSizeMask) == MPSNNPaddingMethodSizeFull ? 1
                                                                                      : -1;
  const long reach = source + style * (kd - 1), size = (reach + w.s - 1) / w.s;
  const long extra = (size - 1) * w.s + kd - source;
  long left;
  switch (m & MPSNNPaddingMethodAlignMask) {
    case MPSNNPaddingMethodAlignTopLeft:
      left = extra;
      break;
    case MPSNNPaddingMethodAlignBottomRight:
      left = 0;
      break;
    default: {
      const NSUInteger r = (m & MPSNNPaddingMethodAddRemainderToMask) >> 2;
      const bool to_start = x ? (r == 0 || r == 2) : (r == 0 || r == 1);
      left = (extra + to_start) / 2;
    }
  }
  return {size, kd / 2 - left};
}
}  // namespace

@implementation MPSNNDefaultPadding {
  MPSNNPaddingMethod _method;
}
+ (instancetype)paddingWithMethod:(MPSNNPaddingMethod)method {
  MPSNNDefaultPadding* p = [[self alloc] init];
  p->_method = method;
  return p;
}
- (MPSNNPaddingMethod)paddingMethod {
  return _method;
}
- (NSString*)label {
  return @"MPSNNDefaultPadding";
}
@end
static MPSNNDefaultPadding* default_padding() {
  return [MPSNNDefaultPadding paddingWithMethod:MPSNNPaddingMethodAlignCentered |
                                                MPSNNPaddingMethodAddRemainderToTopLeft |
                                                MPSNNPaddingMethodSizeSame];
}

@implementation MPSCNNKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  if ((self = [super initWithDevice:device])) {
    _clipRect = MPSRectNoClip;
    _sourceFeatureChannelMaxCount = NSUIntegerMax;
    _kernelWidth = _kernelHeight = _strideInPixelsX = _strideInPixelsY = 1;
    _dilationRateX = _dilationRateY = 1;
    _padding = default_padding();
    _destinationImageAllocator = [MPSTemporaryImage defaultAllocator];
  }
  return self;
}
- (void)simSetKernelWidth:(NSUInteger)kw
                   height:(NSUInteger)kh
                  strideX:(NSUInteger)sx
                  strideY:(NSUInteger)sy
                dilationX:(NSUInteger)dx
                dilationY:(NSUInteger)dy {
  _kernelWidth = kw;
  _kernelHeight = kh;
  _strideInPixelsX = sx;
  _strideInPixelsY = sy;
  _dilationRateX = dx;
  _dilationRateY = dy;
}
- (Geometry)simGeometry {
  Geometry g;
  g.x = {bounded(_kernelWidth), bounded(_strideInPixelsX), bounded(_dilationRateX), _offset.x};
  g.y = {bounded(_kernelHeight), bounded(_strideInPixelsY), bounded(_dilationRateY), _offset.y};
  g.clamp = _edgeMode == MPSImageEdgeModeClamp;
  return g;
}
- (NSUInteger)simChannelsFor:(NSUInteger)channels {
  return channels;
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  [self doesNotRecognizeSelector:_cmd];
  return nullptr;
}
- (MPSState*)simStateOn:(id<MTLCommandBuffer>)cb source:(MPSImage*)source {
  (void)source;
  return [[MPSNNGradientState alloc] initWithSimDevice:self.device commandBuffer:cb];
}
- (Stores)simWrites:(MPSStateBatch*)states {
  Stores all;
  std::unordered_set<const void*> seen;
  for (MPSState* s in states)
    if (seen.insert((__bridge const void*)s).second)
      for (id<MTLResource> r in s->_resources) all.push_back(store_of(r));
  return all;
}
- (void)simEncode:(id<MTLCommandBuffer>)cb
          sources:(MPSImageBatch*)sources
           states:(MPSStateBatch*)states
     destinations:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_batch(self, sources, "sources");
  check_batch(self, destinations, "destinations");
  check_read(self, cb, sources);
  check_write(self, cb, destinations);
  check_states(self, cb, states, "written");
  check_offsets(self, {_sourceFeatureChannelOffset, _destinationFeatureChannelOffset});
  if (sources.count != destinations.count || (states && states.count != sources.count)) {
    violate("%s: %lu sources, %lu destinations, %lu states", name_of(self), sources.count,
            destinations.count, states.count);
    return;
  }
  MPSImage *source = sources.firstObject, *destination = destinations.firstObject;
  const long first = bounded(_sourceFeatureChannelOffset);
  const long most = bounded(_sourceFeatureChannelMaxCount);
  const long given = std::min(bounded(source.featureChannels) - first, most);
  if (given <= 0) violate("%s: no source channels at offset %ld", name_of(self), first);
  const long to = bounded(_destinationFeatureChannelOffset);
  long count = bounded([self simChannelsFor:static_cast<NSUInteger>(std::max(0L, given))]);
  check_channels(self, destination, _destinationFeatureChannelOffset,
                 static_cast<NSUInteger>(count));
  count = std::min(count, bounded(destination.featureChannels) - to);
  const Region r = region_of(_clipRect, destination);
  for (MPSState* s in states) {
    if (![s isKindOfClass:[MPSNNGradientState class]]) continue;
    Forward& f = ((MPSNNGradientState*)s)->_forward;
    const void* here = (__bridge const void*)cb;
    if (f.command_buffer && f.command_buffer != here && self.isResultStateReusedAcrossBatch)
      violate("%s: a gradient state is used for a second batch", name_of(self));
    f = {[self simGeometry], bounded(source.width), bounded(source.height), r.w, r.h, here};
  }
  Unary run = [self simUnary:states];
  encode(
      cb, name_of(self), self.label, stores(sources),
      [&] {
        Stores w = stores(destinations);
        for (const auto& s : [self simWrites:states]) w.push_back(s);
        return w;
      }(),
      [=, from = refs(sources), into = refs(destinations)] {
        for (size_t i = 0; i < from.size(); ++i) {
          Tensor y(r.h, r.w, count);
          run(load(from[i], first, most), y, static_cast<long>(i));
          store(into[i], y, r.x, r.y, to);
        }
      });
  consume_images(cb, sources);
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                  sourceImage:(MPSImage*)source
             destinationImage:(MPSImage*)destination {
  [self simEncode:cb sources:@[ source ] states:nil destinations:@[ destination ]];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                  sourceImage:(MPSImage*)source
             destinationState:(MPSState*)state
             destinationImage:(MPSImage*)destination {
  [self simEncode:cb sources:@[ source ] states:@[ state ] destinations:@[ destination ]];
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
                 destinationImages:(MPSImageBatch*)destinations {
  [self simEncode:cb sources:sources states:nil destinations:destinations];
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
                 destinationStates:(MPSStateBatch*)states
                 destinationImages:(MPSImageBatch*)destinations {
  [self simEncode:cb sources:sources states:states destinations:destinations];
}
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sources
                                                    sourceStates:(NSArray<MPSState*>*)states {
  MPSImage* s = sources.firstObject;
  const MPSNNPaddingMethod m = _padding.paddingMethod;
  const Geometry g = [self simGeometry];
  const Placed x = place(m, g.x, bounded(s.width), true),
               y = place(m, g.y, bounded(s.height), false);
  _offset.x = x.offset;
  _offset.y = y.offset;
  const NSUInteger given =
      std::min(s.featureChannels - _sourceFeatureChannelOffset, _sourceFeatureChannelMaxCount);
  MPSImageDescriptor* d =
      [MPSImageDescriptor imageDescriptorWithChannelFormat:s.featureChannelFormat
                                                     width:static_cast<NSUInteger>(x.size)
                                                    height:static_cast<NSUInteger>(y.size)
                                           featureChannels:_destinationFeatureChannelOffset +
                                                           [self simChannelsFor:given]];
  if (m & MPSNNPaddingMethodCustom)
    d = [_padding destinationImageDescriptorForSourceImages:sources
                                               sourceStates:states
                                                  forKernel:self
                                        suggestedDescriptor:d];
  return d;
}
- (MPSImageBatch*)simAllocate:(id<MTLCommandBuffer>)cb for:(MPSImageBatch*)sources {
  MPSImageDescriptor* d = [self destinationImageDescriptorForSourceImages:@[ sources[0] ]
                                                             sourceStates:nil];
  NSMutableArray* out = [NSMutableArray array];
  for (NSUInteger i = 0; i < sources.count; ++i)
    [out addObject:[_destinationImageAllocator imageForCommandBuffer:cb
                                                     imageDescriptor:d
                                                              kernel:self]];
  return [NSArray arrayWithArray:out];
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                                sourceImages:(MPSImageBatch*)sources {
  MPSImageBatch* out = [self simAllocate:cb for:sources];
  [self simEncode:cb sources:sources states:nil destinations:out];
  return out;
}
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb sourceImage:(MPSImage*)source {
  return [self encodeBatchToCommandBuffer:cb sourceImages:@[ source ]][0];
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                                sourceImages:(MPSImageBatch*)sources
                           destinationStates:(MPSStateBatch**)states
                 destinationStateIsTemporary:(BOOL)temporary {
  MPSImageBatch* out = [self simAllocate:cb for:sources];
  *states = [self simStates:temporary ? cb : nil for:sources];
  [self simEncode:cb sources:sources states:*states destinations:out];
  return out;
}
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                       sourceImage:(MPSImage*)source
                  destinationState:(MPSState**)state
       destinationStateIsTemporary:(BOOL)temporary {
  MPSStateBatch* states = nil;
  MPSImageBatch* out = [self encodeBatchToCommandBuffer:cb
                                           sourceImages:@[ source ]
                                      destinationStates:&states
                            destinationStateIsTemporary:temporary];
  *state = states[0];
  return out[0];
}
- (BOOL)isResultStateReusedAcrossBatch {
  return NO;
}
- (BOOL)appendBatchBarrier {
  return NO;
}
- (BOOL)isBackwards {
  return NO;
}
- (MPSStateBatch*)simStates:(id<MTLCommandBuffer>)cb for:(MPSImageBatch*)sources {
  NSMutableArray* states = [NSMutableArray array];
  for (MPSImage* s in sources)
    [states addObject:states.count && self.isResultStateReusedAcrossBatch ? states[0]
                                                                          : [self simStateOn:cb
                                                                                      source:s]];
  return [NSArray arrayWithArray:states];
}
- (MPSState*)resultStateForSourceImage:(MPSImage*)source
                          sourceStates:(NSArray<MPSState*>*)states
                      destinationImage:(MPSImage*)destination {
  (void)states;
  (void)destination;
  return [self simStateOn:nil source:source];
}
- (MPSStateBatch*)resultStateBatchForSourceImage:(MPSImageBatch*)sources
                                    sourceStates:(NSArray<MPSStateBatch*>*)states
                                destinationImage:(MPSImageBatch*)destinations {
  (void)states;
  (void)destinations;
  return [self simStates:nil for:sources];
}
- (MPSState*)temporaryResultStateForCommandBuffer:(id<MTLCommandBuffer>)cb
                                      sourceImage:(MPSImage*)source
                                     sourceStates:(NSArray<MPSState*>*)states
                                 destinationImage:(MPSImage*)destination {
  (void)states;
  (void)destination;
  return [self simStateOn:cb source:source];
}
- (MPSStateBatch*)temporaryResultStateBatchForCommandBuffer:(id<MTLCommandBuffer>)cb
                                                sourceImage:(MPSImageBatch*)sources
                                               sourceStates:(NSArray<MPSStateBatch*>*)states
                                           destinationImage:(MPSImageBatch*)destinations {
  (void)states;
  (void)destinations;
  return [self simStates:cb for:sources];
}
@end

@implementation MPSCNNBinaryKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  if ((self = [super initWithDevice:device])) {
    _clipRect = MPSRectNoClip;
    _primarySourceFeatureChannelMaxCount = _secondarySourceFeatureChannelMaxCount = NSUIntegerMax;
    _primaryStrideInPixelsX = _primaryStrideInPixelsY = 1;
    _secondaryStrideInPixelsX = _secondaryStrideInPixelsY = 1;
    _padding = default_padding();
    _destinationImageAllocator = [MPSTemporaryImage defaultAllocator];
  }
  return self;
}
- (NSUInteger)simChannelsFor:(NSUInteger)a secondary:(NSUInteger)b {
  return std::max(a, b);
}
- (bool)simWritesDestination {
  return true;
}
- (Stores)simWrites:(MPSStateBatch*)states {
  (void)states;
  return {};
}
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  [self doesNotRecognizeSelector:_cmd];
  return nullptr;
}
- (void)simEncode:(id<MTLCommandBuffer>)cb
        primaries:(MPSImageBatch*)primaries
      secondaries:(MPSImageBatch*)secondaries
           states:(MPSStateBatch*)states
     destinations:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_batch(self, primaries, "primary images");
  check_batch(self, secondaries, "secondary images");
  check_batch(self, destinations, "destinations");
  check_read(self, cb, primaries);
  check_read(self, cb, secondaries);
  check_write(self, cb, destinations);
  check_states(self, cb, states, "read");
  check_offsets(self, {_primarySourceFeatureChannelOffset, _secondarySourceFeatureChannelOffset,
                       _destinationFeatureChannelOffset});
  const NSUInteger n = primaries.count;
  if (secondaries.count != n || destinations.count != n || (states && states.count != n)) {
    violate("%s: %lu primary, %lu secondary images, %lu destinations, %lu states", name_of(self), n,
            secondaries.count, destinations.count, states.count);
    return;
  }
  const long first_a = bounded(_primarySourceFeatureChannelOffset);
  const long first_b = bounded(_secondarySourceFeatureChannelOffset);
  const long most_a = bounded(_primarySourceFeatureChannelMaxCount);
  const long most_b = bounded(_secondarySourceFeatureChannelMaxCount);
  const long a = std::min(bounded([primaries[0] featureChannels]) - first_a, most_a);
  const long b = std::min(bounded([secondaries[0] featureChannels]) - first_b, most_b);
  if (a <= 0 || b <= 0) violate("%s: no source channels at the offset", name_of(self));
  MPSImage* destination = destinations[0];
  const long to = bounded(_destinationFeatureChannelOffset);
  const bool writes = [self simWritesDestination];
  long count = bounded([self simChannelsFor:static_cast<NSUInteger>(std::max(0L, a))
                                  secondary:static_cast<NSUInteger>(std::max(0L, b))]);
  if (writes)
    check_channels(self, destination, _destinationFeatureChannelOffset,
                   static_cast<NSUInteger>(count));
  count = std::min(count, bounded(destination.featureChannels) - to);
  const Region r = region_of(_clipRect, destination);
  Binary run = [self simBinary:states];
  Stores reads = stores(primaries), more = stores(secondaries), writes_to = [self simWrites:states];
  reads.insert(reads.end(), more.begin(), more.end());
  if (writes)
    for (const auto& s : stores(destinations)) writes_to.push_back(s);
  encode(cb, name_of(self), self.label, reads, writes_to,
         [=, pa = refs(primaries), pb = refs(secondaries), into = refs(destinations)] {
           for (size_t i = 0; i < pa.size(); ++i) {
             Tensor y(r.h, r.w, count);
             run(load(pa[i], first_a, most_a), load(pb[i], first_b, most_b), y,
                 static_cast<long>(i));
             if (writes) store(into[i], y, r.x, r.y, to);
           }
         });
  consume_images(cb, primaries);
  consume_images(cb, secondaries);
  consume_states(cb, states);
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                 primaryImage:(MPSImage*)a
               secondaryImage:(MPSImage*)b
             destinationImage:(MPSImage*)d {
  [self simEncode:cb primaries:@[ a ] secondaries:@[ b ] states:nil destinations:@[ d ]];
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                     primaryImages:(MPSImageBatch*)a
                   secondaryImages:(MPSImageBatch*)b
                 destinationImages:(MPSImageBatch*)d {
  [self simEncode:cb primaries:a secondaries:b states:nil destinations:d];
}
- (MPSImageBatch*)simAllocate:(id<MTLCommandBuffer>)cb
                         like:(MPSImage*)like
                     channels:(NSUInteger)channels
                        count:(NSUInteger)count {
  MPSImageDescriptor* d =
      [MPSImageDescriptor imageDescriptorWithChannelFormat:like.featureChannelFormat
                                                     width:like.width
                                                    height:like.height
                                           featureChannels:channels];
  NSMutableArray* out = [NSMutableArray array];
  for (NSUInteger i = 0; i < count; ++i)
    [out addObject:[_destinationImageAllocator imageForCommandBuffer:cb
                                                     imageDescriptor:d
                                                              kernel:self]];
  return [NSArray arrayWithArray:out];
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                               primaryImages:(MPSImageBatch*)a
                             secondaryImages:(MPSImageBatch*)b {
  MPSImage* larger = [a[0] width] * [a[0] height] >= [b[0] width] * [b[0] height] ? a[0] : b[0];
  MPSImageBatch* d = [self simAllocate:cb
                                  like:larger
                              channels:[self simChannelsFor:[a[0] featureChannels]
                                                  secondary:[b[0] featureChannels]]
                                 count:a.count];
  [self simEncode:cb primaries:a secondaries:b states:nil destinations:d];
  return d;
}
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                      primaryImage:(MPSImage*)a
                    secondaryImage:(MPSImage*)b {
  return [self encodeBatchToCommandBuffer:cb primaryImages:@[ a ] secondaryImages:@[ b ]][0];
}
- (BOOL)isResultStateReusedAcrossBatch {
  return NO;
}
- (BOOL)appendBatchBarrier {
  return NO;
}
@end

@implementation MPSCNNGradientKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  return [super initWithDevice:device];
}
- (NSUInteger)simChannelsFor:(NSUInteger)a secondary:(NSUInteger)b {
  (void)a;
  return b;
}
- (void)simAdopt:(MPSState*)state {
  (void)state;
}
- (void)simCheck:(MPSStateBatch*)states {
  for (MPSState* s in states)
    if ([s isKindOfClass:[MPSNNGradientState class]] &&
        !((MPSNNGradientState*)s)->_forward.command_buffer)
      violate("%s: the gradient state was not filled by a forward encode", name_of(self));
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                   sourceGradients:(MPSImageBatch*)gradients
                      sourceImages:(MPSImageBatch*)images
                    gradientStates:(MPSStateBatch*)states
              destinationGradients:(MPSImageBatch*)destinations {
  [self simCheck:states];
  [self simEncode:cb
         primaries:gradients
       secondaries:images
            states:states
      destinations:destinations];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
               sourceGradient:(MPSImage*)gradient
                  sourceImage:(MPSImage*)image
                gradientState:(MPSState*)state
          destinationGradient:(MPSImage*)destination {
  [self encodeBatchToCommandBuffer:cb
                   sourceGradients:@[ gradient ]
                      sourceImages:@[ image ]
                    gradientStates:@[ state ]
              destinationGradients:@[ destination ]];
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                             sourceGradients:(MPSImageBatch*)gradients
                                sourceImages:(MPSImageBatch*)images
                              gradientStates:(MPSStateBatch*)states {
  [self simAdopt:states.firstObject];
  MPSImage* like = images[0];
  MPSImageBatch* out = [self simAllocate:cb
                                    like:like
                                channels:[self simChannelsFor:[gradients[0] featureChannels]
                                                    secondary:like.featureChannels]
                                   count:images.count];
  [self encodeBatchToCommandBuffer:cb
                   sourceGradients:gradients
                      sourceImages:images
                    gradientStates:states
              destinationGradients:out];
  return out;
}
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                    sourceGradient:(MPSImage*)gradient
                       sourceImage:(MPSImage*)image
                     gradientState:(MPSState*)state {
  return [self encodeBatchToCommandBuffer:cb
                          sourceGradients:@[ gradient ]
                             sourceImages:@[ image ]
                           gradientStates:@[ state ]][0];
}
@end
