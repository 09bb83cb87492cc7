// What the stand-ins of Metal and of Metal Performance Shaders share. All files that include it are
// compiled with ARC. Simulated work is a closure over Stores, never over Objective-C objects.
#pragma once
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "violation.h"

namespace apple_sim {
// The memory of one resource. Managed resources have a copy of the CPU beside the GPU's; fresh
// memory holds NaN in every float format.
struct Store {
  Store(MTLStorageMode mode, size_t bytes);
  ~Store();
  uint8_t* host() { return mode == MTLStorageModeManaged ? cpu.data() : gpu.data(); }
  void synchronize();  // GPU to CPU, on the GPU's time line
  void upload(size_t offset, size_t bytes);
  float* floats() { return reinterpret_cast<float*>(gpu.data()); }
  size_t size() const { return gpu.size(); }

  const MTLStorageMode mode;
  std::vector<uint8_t> gpu, cpu;
  std::atomic<int> writers{0};     // encoded, uncompleted commands that write here
  std::atomic<int> in_flight{0};   // committed, uncompleted commands that use it
  std::atomic<bool> stale{false};  // the GPU wrote after the last synchronisation
};
using StorePtr = std::shared_ptr<Store>;
using Stores = std::vector<StorePtr>;

struct Heap {  // of a command buffer's temporaries
  Heap() { ++counters().heaps; }
  ~Heap() { --counters().heaps; }
};
struct Temporary {  // the life of a temporary image, state or matrix
  const void* command_buffer = nullptr;
  std::string class_name;
  std::shared_ptr<Heap> heap;
  Stores stores;
  std::atomic<long> reads{1};
  bool reported = false;
};
using TemporaryPtr = std::shared_ptr<Temporary>;

void encode(id<MTLCommandBuffer> cb, const char* class_name, NSString* label, Stores reads,
            Stores writes, std::function<void()> run);
TemporaryPtr make_temporary(id<MTLCommandBuffer> cb, const char* class_name);
void set_reads(const TemporaryPtr& t, id<MTLCommandBuffer> cb, long reads, id owner);
void check_temporary(const TemporaryPtr& t, id<MTLCommandBuffer> cb, const char* verb);
void consume(const TemporaryPtr& t, id<MTLCommandBuffer> cb);
void check_dead(const TemporaryPtr& t);

float half_to_float(uint16_t h);
uint16_t float_to_half(float f);
inline float round_half(float f) { return half_to_float(float_to_half(f)); }

// One thread at a time may encode a kernel.
struct KernelUse {
  KernelUse(std::atomic<int>& busy, const char* class_name) : busy_(busy) {
    if (busy_.fetch_add(1) > 0) violate("%s: encoded from two threads at once", class_name);
  }
  ~KernelUse() { busy_.fetch_sub(1); }
  std::atomic<int>& busy_;
};
const char* name_of(id object);
}  // namespace apple_sim

@interface SimBuffer : NSObject <MTLBuffer>
- (instancetype)initWithDevice:(id<MTLDevice>)device
                        length:(NSUInteger)length
                          mode:(MTLStorageMode)mode;
- (apple_sim::StorePtr)store;
@end
@interface SimTexture : NSObject <MTLTexture>
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MTLTextureDescriptor*)descriptor;
- (apple_sim::StorePtr)store;
@end
@interface SimQueue : NSObject <MTLCommandQueue>
- (instancetype)initWithDevice:(id<MTLDevice>)device limit:(NSUInteger)limit;
@end
@interface SimDevice : NSObject <MTLDevice>
- (bool)simRemoved;
@end

namespace apple_sim {
inline StorePtr store_of(id<MTLResource> r) { return r ? [(SimBuffer*)r store] : nullptr; }
id<MTLBuffer> make_buffer(id<MTLDevice> device, size_t bytes);  // as MPS makes its own: managed
}  // namespace apple_sim
