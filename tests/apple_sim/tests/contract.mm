// What the stand-in must refuse: each broken contract is recorded, and only that.
#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#import "check.h"

namespace {
using V = std::vector<float>;

MPSCNNNeuron* copy_kernel() {
  return [[MPSCNNNeuron alloc]
        initWithDevice:device()
      neuronDescriptor:[MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeNone]];
}
void finish(id<MTLCommandBuffer> cb) {
  [cb commit];
  [cb waitUntilCompleted];
}

const bool reads = add_test("read counts of temporaries are enforced", [] {
  MPSImage* x = image(1, 1, 1, {1});
  VIOLATES("reads missing at the commit", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSTemporaryImage* t = temporary(cb, 1, 1, 1);
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:t];
    finish(cb);
    t.readCount = 0;
  });
  VIOLATES("deallocated with a readCount of 1", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    @autoreleasepool {
      temporary(cb, 1, 1, 1);
    }
  });
  VIOLATES("read after its readCount fell to 0", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSTemporaryImage* t = temporary(cb, 1, 1, 1);
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:t];
    for (int i = 0; i < 2; ++i)
      [copy_kernel() encodeToCommandBuffer:cb sourceImage:t destinationImage:blank(1, 1, 1)];
    finish(cb);
  });
  VIOLATES("on another command buffer", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer], other = [queue() commandBuffer];
    MPSTemporaryImage* t = temporary(cb, 1, 1, 1);
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:t];
    [copy_kernel() encodeToCommandBuffer:other sourceImage:t destinationImage:blank(1, 1, 1)];
  });
  VIOLATES("private storage", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSTemporaryImage* t = temporary(cb, 1, 1, 1);
    read(t);
    t.readCount = 0;
  });
});

const bool batches = add_test("a batch's read counts change once an image", [] {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  MPSTemporaryImage* t = temporary(cb, 1, 1, 1);
  CHECK(MPSImageBatchIncrementReadCount(@[ t, t ], 2) == 1);
  CHECK(t.readCount == 3);
  CHECK(MPSImageBatchIncrementReadCount(@[ t, t ], -3) == 1);
});

const bool encoders = add_test("commits, encoders, early and unsynchronised reads", [] {
  MPSImage *x = image(1, 1, 1, {1}), *y = blank(1, 1, 1);
  VIOLATES("already committed", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    finish(cb);
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
  });
  VIOLATES("while another encoder", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    id<MTLBlitCommandEncoder> blit = [cb blitCommandEncoder];
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
    [blit endEncoding];
    finish(cb);
  });
  VIOLATES("open encoder", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    id<MTLBlitCommandEncoder> blit = [cb blitCommandEncoder];
    [cb commit];
    [blit endEncoding];
    [cb waitUntilCompleted];
  });
  VIOLATES("not synchronised", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
    finish(cb);
    read(y);
  });
  VIOLATES("before the command buffer that writes it has completed", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
    read(y);
  });
  VIOLATES("a source is also a destination", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [copy_kernel() encodeToCommandBuffer:cb sourceImage:x destinationImage:x];
    finish(cb);
  });
  VIOLATES("addCompletedHandler:] after the commit", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    finish(cb);
    [cb addCompletedHandler:^(id<MTLCommandBuffer>){
    }];
  });
  VIOLATES("before the commit", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    [cb waitUntilCompleted];
  });
  VIOLATES("multiple of 4", {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    MPSCNNNeuron* k = copy_kernel();
    k.destinationFeatureChannelOffset = 2;
    [k encodeToCommandBuffer:cb sourceImage:x destinationImage:blank(1, 1, 4)];
    finish(cb);
  });
});

const bool storage = add_test("managed buffers have two copies, private ones no contents", [] {
  id<MTLBuffer> a = buffer({1}), b = buffer({2});
  const auto copy = [&] {
    id<MTLCommandBuffer> cb = [queue() commandBuffer];
    id<MTLBlitCommandEncoder> blit = [cb blitCommandEncoder];
    [blit copyFromBuffer:a sourceOffset:0 toBuffer:b destinationOffset:0 size:4];
    [blit synchronizeResource:b];
    [blit endEncoding];
    finish(cb);
    return floats(b);
  };
  static_cast<float*>(a.contents)[0] = 5;
  NEAR(copy(), {1});  // the GPU was not told
  [a didModifyRange:NSMakeRange(0, 4)];
  NEAR(copy(), {5});
  VIOLATES("private storage", {
    id<MTLBuffer> p = [device() newBufferWithLength:4 options:MTLResourceStorageModePrivate];
    CHECK(p.contents == nullptr);
  });
  VIOLATES("not managed", {
    id<MTLBuffer> p = [device() newBufferWithLength:4 options:MTLResourceStorageModeShared];
    [p didModifyRange:NSMakeRange(0, 4)];
  });
});

id<MTLComputePipelineState> pipeline(NSString* name) {
  std::ifstream in(KERNELS);
  std::stringstream text;
  text << in.rdbuf();
  MTLCompileOptions* options = [[MTLCompileOptions alloc] init];
  options.fastMathEnabled = NO;
  NSError* error = nil;
  id<MTLLibrary> library =
      [device() newLibraryWithSource:[NSString stringWithUTF8String:text.str().c_str()]
                             options:options
                               error:&error];
  CHECK(library && !error);
  CHECK(library.functionNames.count == 2);
  return [device() newComputePipelineStateWithFunction:[library newFunctionWithName:name]
                                                 error:&error];
}
struct ScaleParameters {
  float factor;
  uint32_t count;
};
void scale(id<MTLBuffer> x, id<MTLBuffer> y, ScaleParameters p, size_t bytes, NSUInteger groups,
           NSUInteger threads) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  id<MTLComputeCommandEncoder> e = [cb computeCommandEncoder];
  [e setComputePipelineState:pipeline(@"scale")];
  [e setBuffer:x offset:0 atIndex:0];
  [e setBuffer:y offset:0 atIndex:1];
  [e setBytes:&p length:bytes atIndex:2];
  [e dispatchThreadgroups:MTLSizeMake(groups, 1, 1)
      threadsPerThreadgroup:MTLSizeMake(threads, 1, 1)];
  [e endEncoding];
  if (y) synchronize(cb, y);
  finish(cb);
}
const bool metal =
    add_test("Metal kernels run by name, with checked arguments, grids and indices", [] {
      id<MTLBuffer> x = buffer({1, 2, 3}), y = buffer({0, 0, 0});
      scale(x, y, {2, 3}, sizeof(ScaleParameters), 1, 32);
      NEAR(floats(y), {2, 4, 6});
      VIOLATES("argument y [[buffer(1)]] is missing",
               { scale(x, nil, {2, 3}, sizeof(ScaleParameters), 1, 32); });
      VIOLATES("needs 8", { scale(x, y, {2, 3}, 4, 1, 32); });
      VIOLATES("grid", { scale(x, y, {2, 3}, sizeof(ScaleParameters), 1, 4096); });
      VIOLATES("index 3 of a buffer of 3 elements",
               { scale(x, y, {2, 4}, sizeof(ScaleParameters), 1, 32); });
      NSError* error = nil;
      CHECK(![device() newLibraryWithSource:@"kernel void f() {}" options:nil error:&error] &&
            error);
    });

const bool faults = add_test("faults: command buffer errors, allocation, removal", [] {
  MPSImage *x = image(1, 1, 1, {1}), *y = image(1, 1, 1, {7});
  apple_sim_fail_command_buffer(MTLCommandBufferErrorPageFault, "second", 0);
  MTLCommandBufferDescriptor* d = [[MTLCommandBufferDescriptor alloc] init];
  d.errorOptions = MTLCommandBufferErrorOptionEncoderExecutionStatus;
  id<MTLCommandBuffer> cb = [queue() commandBufferWithDescriptor:d];
  MPSCNNNeuron *first = copy_kernel(), *second = copy_kernel();
  first.label = @"first";
  second.label = @"second";
  [first encodeToCommandBuffer:cb sourceImage:x destinationImage:blank(1, 1, 1)];
  [second encodeToCommandBuffer:cb sourceImage:x destinationImage:y];
  finish(cb);
  CHECK(cb.status == MTLCommandBufferStatusError);
  CHECK(cb.error.code == MTLCommandBufferErrorPageFault);
  NSArray<id<MTLCommandBufferEncoderInfo>>* infos =
      cb.error.userInfo[MTLCommandBufferEncoderInfoErrorKey];
  CHECK(infos.count == 2 && infos[0].errorState == MTLCommandEncoderErrorStateCompleted);
  CHECK([infos[1].label isEqualToString:@"second"] &&
        infos[1].errorState == MTLCommandEncoderErrorStateFaulted);
  NEAR(read(y), {7});

  apple_sim_fail_allocation(1);
  CHECK([device() newBufferWithLength:4 options:0] != nil);
  CHECK([device() newBufferWithLength:4 options:0] == nil);
  CHECK([device() newBufferWithLength:4 options:0] != nil);

  __block int told = 0;
  id<NSObject> observer = nil;
  NSArray<id<MTLDevice>>* all = MTLCopyAllDevicesWithObserver(
      &observer, ^(id<MTLDevice> gone, MTLDeviceNotificationName name) {
        told += gone.isRemovable && [name isEqualToString:MTLDeviceWasRemovedNotification];
      });
  CHECK(all.count == 3);
  id<MTLCommandBuffer> last = [[all[2] newCommandQueue] commandBuffer];
  apple_sim_remove_device(2);
  CHECK(told == 1 && MTLCopyAllDevices().count == 2);
  finish(last);
  CHECK(last.error.code == MTLCommandBufferErrorDeviceRemoved);
  MTLRemoveDeviceObserver(observer);
  apple_sim_restore_devices();
});

const bool devices = add_test("devices tell what they are", [] {
  NSArray<id<MTLDevice>>* all = MTLCopyAllDevices();
  CHECK(!all[0].hasUnifiedMemory && !all[0].isRemovable && !all[0].isLowPower);
  CHECK(all[1].hasUnifiedMemory && [all[1] supportsFamily:MTLGPUFamilyApple7]);
  CHECK(all[2].isRemovable && all[2].location == MTLDeviceLocationExternal);
  CHECK(all[0].registryID != all[1].registryID);
  CHECK(MPSSupportsMTLDevice(all[0]) && !MPSSupportsMTLDevice(nil));
});

const bool selectors = add_test("what is not simulated fails by name", [] {
  bool named = false;
  @try {
    [copy_kernel() encodingStorageSizeForSourceImage:blank(1, 1, 1)
                                        sourceStates:nil
                                    destinationImage:nil];
  } @catch (NSException* e) {
    named = std::string(e.reason.UTF8String).find("MPSCNNNeuron encodingStorageSize") !=
            std::string::npos;
  }
  CHECK(named);
});

const bool order = add_test("two in flight complete in order, handlers on another thread", [] {
  std::atomic<int> done{0}, wrong{0};
  std::atomic<int>*d = &done, *w = &wrong;
  const auto here = std::this_thread::get_id();
  id<MTLCommandBuffer> last = nil;
  for (int i = 0; i < 20; ++i) {
    @autoreleasepool {
      last = [queue() commandBuffer];
      [copy_kernel() encodeToCommandBuffer:last
                               sourceImage:image(1, 1, 1, {1})
                          destinationImage:blank(1, 1, 1)];
      [last addCompletedHandler:^(id<MTLCommandBuffer>) {
        *w += d->fetch_add(1) != i || std::this_thread::get_id() == here;
      }];
      [last commit];
    }
  }
  [last waitUntilCompleted];
  while (done < 20) std::this_thread::yield();  // the wait may end before the handlers have run
  CHECK(wrong == 0);
});

const bool threads = add_test("two threads with queues of their own", [] {
  const auto work = [] {
    for (int i = 0; i < 50; ++i) {
      @autoreleasepool {
        id<MTLCommandQueue> q = [device() newCommandQueue];
        id<MTLCommandBuffer> cb = [q commandBuffer];
        MPSTemporaryImage* t = temporary(cb, 2, 2, 3);
        MPSImage* y = blank(2, 2, 3);
        [copy_kernel() encodeToCommandBuffer:cb
                                 sourceImage:image(2, 2, 3, V(12, 4))
                            destinationImage:t];
        [copy_kernel() encodeToCommandBuffer:cb sourceImage:t destinationImage:y];
        CHECK(run_and_read(cb, y) == V(12, 4));
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
});
}  // namespace
