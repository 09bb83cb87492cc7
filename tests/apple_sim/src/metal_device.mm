// Devices: which there are is said by APPLE_SIM_DEVICES; they live as long as the process, like the
// GPUs they stand for.
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "apple_sim.h"
#import "metal_compute.h"
#import "sim.h"

MTLDeviceNotificationName const MTLDeviceWasAddedNotification = @"MTLDeviceWasAdded";
MTLDeviceNotificationName const MTLDeviceRemovalRequestedNotification =
    @"MTLDeviceRemovalRequested";
MTLDeviceNotificationName const MTLDeviceWasRemovedNotification = @"MTLDeviceWasRemoved";

using namespace apple_sim;
namespace {
struct Kind {
  const char* name;
  const char* title;
  bool unified, low_power, removable;
  uint64_t memory;
};
const Kind kKinds[] = {
    {"unified", "Simulated Apple GPU", true, false, false, 8ull << 30},
    {"discrete", "Simulated discrete GPU", false, false, false, 4ull << 30},
    {"integrated", "Simulated integrated GPU", true, true, false, 1ull << 30},
    {"removable", "Simulated external GPU", false, false, true, 8ull << 30},
};
}  // namespace

@implementation SimDevice {
  Kind _kind;
  NSUInteger _index;
  std::atomic<bool> _removed;
}
- (instancetype)initWithKind:(const Kind&)kind index:(NSUInteger)index {
  if ((self = [super init])) {
    _kind = kind;
    _index = index;
  }
  return self;
}
- (bool)simRemoved {
  return _removed;
}
- (void)simSetRemoved:(bool)removed {
  _removed = removed;
}
- (NSString*)name {
  return [NSString stringWithUTF8String:_kind.title];
}
- (uint64_t)registryID {
  return 0x100000100 + _index;
}
- (BOOL)isLowPower {
  return _kind.low_power;
}
- (BOOL)isHeadless {
  return _kind.removable;
}
- (BOOL)isRemovable {
  return _kind.removable;
}
- (BOOL)hasUnifiedMemory {
  return _kind.unified;
}
- (uint64_t)recommendedMaxWorkingSetSize {
  return _kind.memory;
}
- (uint64_t)maxTransferRate {
  return _kind.removable ? 3ull << 30 : 0;
}
- (MTLDeviceLocation)location {
  return _kind.removable ? MTLDeviceLocationExternal : MTLDeviceLocationBuiltIn;
}
- (NSUInteger)locationNumber {
  return 0;
}
- (NSUInteger)currentAllocatedSize {
  return static_cast<NSUInteger>(counters().bytes.load());
}
- (NSUInteger)maxBufferLength {
  return _kind.memory / 2;
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return 32768;
}
- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(1024, 1024, 1024);
}
- (BOOL)supportsFamily:(MTLGPUFamily)family {
  const bool apple = _kind.unified && !_kind.low_power;
  return family == MTLGPUFamilyMac1 || family == MTLGPUFamilyMac2 ||
         family == MTLGPUFamilyCommon1 || family == MTLGPUFamilyCommon2 ||
         family == MTLGPUFamilyCommon3 ||
         (apple && family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple7);
}
- (BOOL)supportsFeatureSet:(MTLFeatureSet)set {
  return set <= MTLFeatureSet_macOS_GPUFamily2_v1;
}
- (id<MTLCommandQueue>)newCommandQueue {
  return [self newCommandQueueWithMaxCommandBufferCount:64];
}
- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)limit {
  return _removed ? nil : [[SimQueue alloc] initWithDevice:self limit:limit];
}
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  const auto mode = static_cast<MTLStorageMode>((options >> 4) & 15);
  if (length == 0 || length > self.maxBufferLength) {
    if (length == 0) violate("a buffer of no bytes");
    return nil;
  }
  if (_removed || allocation_fails()) return nil;
  return [[SimBuffer alloc] initWithDevice:self length:length mode:mode];
}
- (id<MTLBuffer>)newBufferWithBytes:(const void*)bytes
                             length:(NSUInteger)length
                            options:(MTLResourceOptions)options {
  SimBuffer* b = (SimBuffer*)[self newBufferWithLength:length options:options];
  if (b.storageMode == MTLStorageModePrivate) {
    violate("a private buffer made with bytes");
  } else if (b) {
    memcpy([b store]->host(), bytes, length);
    memcpy([b store]->gpu.data(), bytes, length);
  }
  return b;
}
- (id<MTLTexture>)newTextureWithDescriptor:(MTLTextureDescriptor*)descriptor {
  if (_removed || allocation_fails()) return nil;
  return [[SimTexture alloc] initWithDevice:self descriptor:descriptor];
}
- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source
                               options:(MTLCompileOptions*)options
                                 error:(NSError**)error {
  return sim_new_library(self, source, options, error);
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function
                                                             error:(NSError**)error {
  return sim_new_pipeline(self, function, error);
}
@end

namespace {
struct Observer {
  NSObject* token;
  MTLDeviceNotificationHandler handler;
};
std::mutex& lock() {
  static auto* m = new std::mutex;
  return *m;
}
std::vector<Observer>& observers() {
  static auto* v = new std::vector<Observer>;
  return *v;
}
const std::vector<SimDevice*>& devices() {
  static const auto* all = [] {
    auto* v = new std::vector<SimDevice*>;
    const char* env = std::getenv("APPLE_SIM_DEVICES");
    std::string list = env ? env : "";
    if (list == "1") list = "discrete";
    for (size_t at = 0; at < list.size();) {
      size_t end = list.find(',', at);
      if (end == std::string::npos) end = list.size();
      const std::string name = list.substr(at, end - at);
      at = end + 1;
      for (const Kind& k : kKinds)
        if (name == k.name) v->push_back([[SimDevice alloc] initWithKind:k index:v->size()]);
    }
    return v;
  }();
  return *all;
}
}  // namespace

extern "C" {
NSArray<id<MTLDevice>>* MTLCopyAllDevices() {
  NSMutableArray<id<MTLDevice>>* a = [[NSMutableArray alloc] initWithCapacity:4];
  for (SimDevice* d : devices())
    if (![d simRemoved]) [a addObject:d];
  return a;
}
id<MTLDevice> MTLCreateSystemDefaultDevice() {
  SimDevice* best = nil;  // on a Mac with two GPUs: the fast one
  for (SimDevice* d : devices())
    if (![d simRemoved] && (!best || (best.lowPower && !d.lowPower))) best = d;
  return best;
}
NSArray<id<MTLDevice>>* MTLCopyAllDevicesWithObserver(id<NSObject> __strong* observer,
                                                      MTLDeviceNotificationHandler handler) {
  NSObject* token = [[NSObject alloc] init];
  {
    std::lock_guard<std::mutex> g(lock());
    observers().push_back({token, [handler copy]});
  }
  *observer = token;
  return MTLCopyAllDevices();
}
void MTLRemoveDeviceObserver(id<NSObject> observer) {
  std::lock_guard<std::mutex> g(lock());
  auto& all = observers();
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i].token == observer) {
      all.erase(all.begin() + static_cast<long>(i));
      return;
    }
  violate("MTLRemoveDeviceObserver: not an observer");
}
BOOL MPSSupportsMTLDevice(id<MTLDevice> device) { return device != nil; }
id<MTLDevice> MPSGetPreferredDevice(MPSDeviceOptions options) {
  (void)options;
  return MTLCreateSystemDefaultDevice();
}
void MPSHintTemporaryMemoryHighWaterMark(id<MTLCommandBuffer>, NSUInteger) {}
void MPSSetHeapCacheDuration(id<MTLCommandBuffer>, double) {}

void apple_sim_remove_device(unsigned long index) {
  @autoreleasepool {
    if (index >= devices().size()) return;
    SimDevice* gone = devices()[index];
    [gone simSetRemoved:true];
    std::vector<Observer> told;
    {
      std::lock_guard<std::mutex> g(lock());
      told = observers();
    }
    for (const Observer& o : told) o.handler(gone, MTLDeviceWasRemovedNotification);
  }
}
void apple_sim_restore_devices() {
  for (SimDevice* d : devices()) [d simSetRemoved:false];
}
}
