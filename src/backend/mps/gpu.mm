#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/gpu.h"

#include <cstring>

#include "mpsnn/error.h"

namespace mpsnn::backend::mps {

void pooled(const std::function<void()>& body) {
  std::exception_ptr error;
  @autoreleasepool {
    try {
      @try {
        body();
      } @catch (NSException* e) {
        std::string why = e.name.UTF8String;
        if (e.reason != nil) why += std::string(": ") + e.reason.UTF8String;
        throw DeviceError(why);
      }
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

namespace {

NSString* text(const char* utf8) {
  NSString* made = [NSString stringWithUTF8String:utf8];
  return made == nil ? @"" : made;
}

std::string described(NSError* error) {
  NSString* why = error.localizedDescription;
  return why == nil ? "unknown error" : why.UTF8String;
}

// The layer whose commands failed: our encoders and MPS's carry their names as labels.
std::string failed_layer(NSError* error) {
  NSArray<id<MTLCommandBufferEncoderInfo>>* encoders =
      error.userInfo[MTLCommandBufferEncoderInfoErrorKey];
  for (id<MTLCommandBufferEncoderInfo> encoder in encoders)
    if (encoder.errorState == MTLCommandEncoderErrorStateFaulted && encoder.label.length != 0)
      return encoder.label.UTF8String;
  return "";
}

}  // namespace

Gpu::Gpu(const Device& wanted) {
  pooled([&] {
    const auto lost = lost_;
    const uint64_t own = wanted.registry_id;
    id<NSObject> observer = nil;
    NSArray<id<MTLDevice>>* all = MTLCopyAllDevicesWithObserver(
        &observer, ^(id<MTLDevice> device, MTLDeviceNotificationName what) {
          if (device.registryID == own && [what isEqualToString:MTLDeviceWasRemovedNotification])
            *lost = true;
        });
    observer_ = observer;
    for (id<MTLDevice> device in all)
      if (device.registryID == own) device_ = device;
    if (device_ == nil) throw DeviceError("the device " + wanted.name + " is gone");
    unified_ = device_.hasUnifiedMemory;
    queue_ = [device_ newCommandQueue];
    if (queue_ == nil) throw DeviceError("no command queue on " + wanted.name);
    queue_.label = @"mpsnn";

    MTLCompileOptions* options = [MTLCompileOptions new];
    options.fastMathEnabled = NO;  // NaN and infinity keep their meaning
    NSError* error = nil;
    library_ = [device_ newLibraryWithSource:text(kKernelSource) options:options error:&error];
    if (library_ == nil) throw DeviceError("kernels do not compile: " + described(error));
    to_matrix_ =
        [[MPSImageCopyToMatrix alloc] initWithDevice:device_
                                          dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels];
    to_image_ =
        [[MPSMatrixCopyToImage alloc] initWithDevice:device_
                                          dataLayout:MPSDataLayoutHeightxWidthxFeatureChannels];
  });
}

Gpu::~Gpu() {
  if (observer_ != nil) MTLRemoveDeviceObserver(observer_);
}

BufferRef Gpu::buffer(std::size_t bytes, Use use) {
  MTLResourceOptions options = MTLResourceStorageModePrivate;
  if (use == Use::upload || use == Use::download)
    options = unified_ ? MTLResourceStorageModeShared : MTLResourceStorageModeManaged;
  if (use == Use::lasting && unified_) options = MTLResourceStorageModeShared;
  const std::size_t length = bytes == 0 ? 16 : (bytes + 15) / 16 * 16;
  id<MTLBuffer> made =
      length > device_.maxBufferLength ? nil : [device_ newBufferWithLength:length options:options];
  if (made == nil)
    throw OutOfMemoryError("no memory for a buffer of " + std::to_string(bytes) + " bytes on " +
                           device_.name.UTF8String);
  if (options != MTLResourceStorageModePrivate) {
    std::memset(made.contents, 0, length);
    if (options == MTLResourceStorageModeManaged) [made didModifyRange:NSMakeRange(0, length)];
  }
  return made;
}

void Gpu::wrote(BufferRef upload, std::size_t bytes) const {
  if (!unified_) [upload didModifyRange:NSMakeRange(0, bytes)];
}

PipelineRef Gpu::pipeline(const char* kernel) {
  __strong PipelineRef& made = pipelines_[kernel];
  if (made == nil) {
    id<MTLFunction> function = [library_ newFunctionWithName:text(kernel)];
    if (function == nil) throw DeviceError(std::string("there is no kernel ") + kernel);
    NSError* error = nil;
    made = [device_ newComputePipelineStateWithFunction:function error:&error];
    if (made == nil) throw DeviceError(std::string(kernel) + ": " + described(error));
  }
  return made;
}

CommandsRef Gpu::commands(const char* label) {
  MTLCommandBufferDescriptor* descriptor = [MTLCommandBufferDescriptor new];
  descriptor.errorOptions = MTLCommandBufferErrorOptionEncoderExecutionStatus;
  id<MTLCommandBuffer> made = [queue_ commandBufferWithDescriptor:descriptor];
  if (made == nil) throw DeviceError("the device gives no command buffer");
  made.label = text(label);
  return made;
}

void Gpu::commit(CommandsRef commands) {
  [commands commit];
  last_ = commands;
}

void Gpu::wait_idle() {
  if (last_ == nil) return;
  [last_ waitUntilCompleted];
  last_ = nil;
}

void Gpu::write(BufferRef to, const void* from, std::size_t bytes) {
  wait_idle();
  if (unified_) {
    std::memcpy(to.contents, from, bytes);
    return;
  }
  id<MTLBuffer> staging = buffer(bytes, Use::upload);
  std::memcpy(staging.contents, from, bytes);
  wrote(staging, bytes);
  id<MTLCommandBuffer> made = commands("write");
  id<MTLBlitCommandEncoder> blit = [made blitCommandEncoder];
  [blit copyFromBuffer:staging sourceOffset:0 toBuffer:to destinationOffset:0 size:bytes];
  [blit endEncoding];
  commit(made);
  [made waitUntilCompleted];
  if (const auto error = outcome(made)) std::rethrow_exception(error);
}

void Gpu::read(BufferRef from, void* to, std::size_t bytes) {
  wait_idle();
  if (unified_) {
    std::memcpy(to, from.contents, bytes);
    return;
  }
  id<MTLBuffer> staging = buffer(bytes, Use::download);
  id<MTLCommandBuffer> made = commands("read");
  id<MTLBlitCommandEncoder> blit = [made blitCommandEncoder];
  [blit copyFromBuffer:from sourceOffset:0 toBuffer:staging destinationOffset:0 size:bytes];
  [blit synchronizeResource:staging];
  [blit endEncoding];
  commit(made);
  [made waitUntilCompleted];
  if (const auto error = outcome(made)) std::rethrow_exception(error);
  std::memcpy(to, staging.contents, bytes);
}

std::exception_ptr Gpu::outcome(CommandsRef commands) const {
  if (commands.status != MTLCommandBufferStatusError) return nullptr;
  NSError* error = commands.error;
  const std::string layer = failed_layer(error);
  std::string what = layer.empty() ? described(error) : "[" + layer + "] " + described(error);
  if (layer == kUpdateLabel) what += "; weights and moments may be written in part";
  switch (error.code) {
    case MTLCommandBufferErrorOutOfMemory:
      return std::make_exception_ptr(OutOfMemoryError(what));
    case MTLCommandBufferErrorDeviceRemoved:
      *lost_ = true;
      return std::make_exception_ptr(DeviceError("the device was removed: " + what));
    default:
      return std::make_exception_ptr(DeviceError(what));
  }
}

DeviceStorage::DeviceStorage(Gpu& gpu, std::size_t bytes)
    : gpu_(gpu), buffer_(gpu.buffer(bytes, Use::lasting)) {}
DeviceStorage::~DeviceStorage() = default;

void DeviceStorage::write(const Tensor& canonical) {
  pooled([&] { gpu_.write(buffer_, canonical.data(), canonical.bytes()); });
  changed();
}

void DeviceStorage::read(Tensor& canonical) const {
  pooled([&] { gpu_.read(buffer_, canonical.data(), canonical.bytes()); });
}

}  // namespace mpsnn::backend::mps
