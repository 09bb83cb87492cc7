// MPSState, its batches, and MPSKernel (mps-reference 1.2 and 1.8).
#include <unordered_set>

#import "metal_command.h"
#import "mps.h"

using namespace apple_sim;

@implementation MPSKernel
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  if ((self = [super init])) {
    if (!device) return nil;
    _device = device;
  }
  return self;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  [self doesNotRecognizeSelector:_cmd];
  return nil;
}
@end

@implementation MPSState {
  id<MTLDevice> _simDevice;
  __weak id<MTLCommandBuffer> _commandBuffer;
}
@synthesize label = _label;
- (instancetype)initWithSimDevice:(id<MTLDevice>)device commandBuffer:(id<MTLCommandBuffer>)cb {
  if ((self = [super init])) {
    _simDevice = device;
    _commandBuffer = cb;
    _resources = [[NSMutableArray alloc] init];
    if (cb) _temporary = make_temporary(cb, name_of(self));
  }
  return self;
}
- (void)dealloc {
  check_dead(_temporary);
}
- (StorePtr)simAddBuffer:(size_t)bytes {
  SimBuffer* b =
      [[SimBuffer alloc] initWithDevice:_simDevice
                                 length:bytes
                                   mode:_temporary ? MTLStorageModePrivate : MTLStorageModeManaged];
  [_resources addObject:b];
  if (_temporary) _temporary->stores.push_back([b store]);
  return [b store];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device bufferSize:(size_t)bytes {
  if ((self = [self initWithSimDevice:device commandBuffer:nil])) [self simAddBuffer:bytes];
  return self;
}
- (instancetype)initWithResource:(id<MTLResource>)resource {
  return [self initWithResources:resource ? @[ resource ] : nil];
}
- (instancetype)initWithResources:(NSArray<id<MTLResource>>*)resources {
  if ((self = [self initWithSimDevice:resources.firstObject.device commandBuffer:nil]))
    for (id<MTLResource> r in resources) [_resources addObject:r];
  return self;
}
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cb bufferSize:(size_t)bytes {
  MPSState* s = [[self alloc] initWithSimDevice:cb.device commandBuffer:cb];
  [s simAddBuffer:bytes];
  return s;
}
+ (instancetype)temporaryStateWithCommandBuffer:(id<MTLCommandBuffer>)cb {
  return [[self alloc] initWithSimDevice:cb.device commandBuffer:cb];
}
- (NSUInteger)resourceCount {
  return _resources.count;
}
- (id<MTLResource>)resourceAtIndex:(NSUInteger)index allocateMemory:(BOOL)allocate {
  (void)allocate;
  return _resources[index];
}
- (NSUInteger)bufferSizeAtIndex:(NSUInteger)index {
  return ((id<MTLBuffer>)_resources[index]).length;
}
- (MPSStateResourceType)resourceTypeAtIndex:(NSUInteger)index {
  return index < _resources.count ? MPSStateResourceTypeBuffer : MPSStateResourceTypeNone;
}
- (NSUInteger)resourceSize {
  NSUInteger n = 0;
  for (id<MTLResource> r in _resources) n += r.allocatedSize;
  return n;
}
- (BOOL)isTemporary {
  return _temporary != nullptr;
}
- (NSUInteger)readCount {
  return _temporary ? static_cast<NSUInteger>(_temporary->reads.load()) : 0;
}
- (void)setReadCount:(NSUInteger)count {
  if (!_temporary) {
    if (count) violate("%s: readCount set on a state that is not temporary", name_of(self));
    return;
  }
  set_reads(_temporary, _commandBuffer, static_cast<long>(count), self);
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)cb {
  SimCommandBuffer* sim = (SimCommandBuffer*)cb;
  if (![sim simOpenFor:"-[MPSState synchronizeOnCommandBuffer:]" encoder:nil]) return;
  Stores all;
  for (id<MTLResource> r in _resources)
    if (store_of(r)->mode == MTLStorageModeManaged) all.push_back(store_of(r));
  if (all.empty()) return;
  ++counters().synchronizations;
  Command c;
  c.label = "synchronize";
  c.synchronizes = true;
  c.writes = all;
  c.run = [all] {
    for (const auto& s : all) s->synchronize();
  };
  [sim simAdd:std::move(c)];
}
@end
@implementation MPSNNGradientState
@end
@implementation MPSNNBinaryGradientState
@end

namespace apple_sim {
void check_states(id kernel, id<MTLCommandBuffer> cb, MPSStateBatch* states, const char* verb) {
  (void)kernel;
  std::unordered_set<const void*> seen;
  for (MPSState* s in states)
    if (seen.insert((__bridge const void*)s).second) check_temporary(s->_temporary, cb, verb);
}
void consume_states(id<MTLCommandBuffer> cb, MPSStateBatch* states) {
  std::unordered_set<const void*> seen;
  for (MPSState* s in states)
    if (seen.insert((__bridge const void*)s).second) consume(s->_temporary, cb);
}
}  // namespace apple_sim

extern "C" {
NSUInteger MPSStateBatchIncrementReadCount(MPSStateBatch* batch, NSInteger amount) {
  std::unordered_set<const void*> seen;
  for (MPSState* s in batch)
    if (seen.insert((__bridge const void*)s).second && s.isTemporary)
      s.readCount = static_cast<NSUInteger>(static_cast<NSInteger>(s.readCount) + amount);
  return seen.size();
}
void MPSStateBatchSynchronize(MPSStateBatch* batch, id<MTLCommandBuffer> cb) {
  std::unordered_set<const void*> seen;
  for (MPSState* s in batch)
    if (seen.insert((__bridge const void*)s).second) [s synchronizeOnCommandBuffer:cb];
}
NSUInteger MPSStateBatchResourceSize(MPSStateBatch* batch) {
  std::unordered_set<const void*> seen;
  NSUInteger n = 0;
  for (MPSState* s in batch)
    if (seen.insert((__bridge const void*)s).second) n += s.resourceSize;
  return n;
}
}
