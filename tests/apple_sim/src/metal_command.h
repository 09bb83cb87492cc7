// Command buffers and encoders, as far as the files of Metal share them.
#pragma once
#include <chrono>

#import "sim.h"

namespace apple_sim {
struct Command {
  std::string label, kernel;
  Stores reads, writes;
  std::function<void()> run;
  bool internal = false;      // the stand-in's own, not an encoder
  bool synchronizes = false;  // brings the CPU's copy up to date
};
}  // namespace apple_sim

@interface SimCommandBuffer : NSObject <MTLCommandBuffer>
- (instancetype)initWithQueue:(SimQueue*)queue
                      options:(MTLCommandBufferErrorOption)options
                  uncompleted:(std::shared_ptr<std::atomic<long>>)uncompleted;
- (bool)simOpenFor:(const char*)what encoder:(id)encoder;
- (void)simAdd:(apple_sim::Command)command;
- (void)simAddTemporary:(apple_sim::TemporaryPtr)temporary;
- (void)simHold:(id)object;
- (void)simSetEncoder:(id)encoder;
- (std::shared_ptr<apple_sim::Heap>)simHeap;
- (void)simRelease:(bool)committed;
- (void)simExecute;
@end
@interface SimEncoder : NSObject <MTLCommandEncoder>
- (instancetype)initWithCommandBuffer:(SimCommandBuffer*)cb;
- (bool)simOpen;
- (void)simAdd:(apple_sim::Command)command;
@end
@interface SimBlitEncoder : SimEncoder <MTLBlitCommandEncoder>
@end
@interface SimComputeEncoder : SimEncoder <MTLComputeCommandEncoder>
@end
@interface SimQueue ()
- (void)simPush:(SimCommandBuffer*)cb;
@end
