// Command queues (one thread each), command buffers and blit encoders. A command buffer is a list
// of commands; each names what it reads and writes, and runs on the queue's thread after the
// commit.
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#import "metal_command.h"

NSErrorDomain const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";
NSErrorUserInfoKey const MTLCommandBufferEncoderInfoErrorKey = @"MTLCommandBufferEncoderInfos";
using namespace apple_sim;

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

@implementation MTLCommandBufferDescriptor
- (instancetype)init {
  if ((self = [super init])) _retainedReferences = YES;
  return self;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MTLCommandBufferDescriptor* d = [[MTLCommandBufferDescriptor alloc] init];
  d.retainedReferences = _retainedReferences;
  d.errorOptions = _errorOptions;
  return d;
}
@end

@interface SimEncoderInfo : NSObject <MTLCommandBufferEncoderInfo>
@end
@implementation SimEncoderInfo {
  NSString* _text;
  MTLCommandEncoderErrorState _state;
}
- (instancetype)initWithLabel:(NSString*)label state:(MTLCommandEncoderErrorState)state {
  if ((self = [super init])) {
    _text = label;
    _state = state;
  }
  return self;
}
- (NSString*)label {
  return _text;
}
- (NSArray<NSString*>*)debugSignposts {
  return @[];
}
- (MTLCommandEncoderErrorState)errorState {
  return _state;
}
@end

namespace {
struct Worker {  // the thread holds this alone, so that the queue object may go at any time
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<SimCommandBuffer*> work;
  bool stop = false;
};
}  // namespace
@implementation SimQueue {
  id<MTLDevice> _device;
  std::shared_ptr<Worker> _worker;
  std::thread _thread;
  NSUInteger _limit;
  std::shared_ptr<std::atomic<long>> _uncompleted;
}
@synthesize label = _label;
- (instancetype)initWithDevice:(id<MTLDevice>)device limit:(NSUInteger)limit {
  if ((self = [super init])) {
    _device = device;
    _limit = limit;
    _uncompleted = std::make_shared<std::atomic<long>>(0);
    _worker = std::make_shared<Worker>();
    _thread = std::thread([w = _worker] {
      for (;;) {
        @autoreleasepool {
          SimCommandBuffer* cb;
          {
            std::unique_lock<std::mutex> lock(w->mutex);
            w->wake.wait(lock, [&] { return w->stop || !w->work.empty(); });
            if (w->work.empty()) return;
            cb = w->work.front();
            w->work.pop_front();
          }
          [cb simExecute];
        }
      }
    });
  }
  return self;
}
- (void)dealloc {
  {
    std::lock_guard<std::mutex> lock(_worker->mutex);
    _worker->stop = true;
  }
  _worker->wake.notify_all();
  if (_thread.get_id() == std::this_thread::get_id())
    _thread.detach();
  else
    _thread.join();
}
- (id<MTLDevice>)device {
  return _device;
}
- (id<MTLCommandBuffer>)commandBuffer {
  return [self commandBufferWithDescriptor:[[MTLCommandBufferDescriptor alloc] init]];
}
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  return [self commandBuffer];
}
- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor*)descriptor {
  if (*_uncompleted >= static_cast<long>(_limit))
    violate("-[MTLCommandQueue commandBuffer] would block: %lu are not completed", _limit);
  return [[SimCommandBuffer alloc] initWithQueue:self
                                         options:descriptor.errorOptions
                                     uncompleted:_uncompleted];
}
- (void)simPush:(SimCommandBuffer*)cb {
  {
    std::lock_guard<std::mutex> lock(_worker->mutex);
    _worker->work.push_back(cb);
  }
  _worker->wake.notify_all();
}
@end

@implementation SimCommandBuffer {
  SimQueue* _queue;
  id<MTLDevice> _device;
  std::vector<Command> _commands;
  std::vector<MTLCommandBufferHandler> _scheduled, _completed;
  std::vector<TemporaryPtr> _temporaries;
  NSMutableArray* _held;
  std::shared_ptr<Heap> _heap;
  __weak id _encoder;
  std::mutex _mutex;
  std::condition_variable _done;
  MTLCommandBufferStatus _status;
  MTLCommandBufferErrorOption _options;
  NSError* _error;
  double _start, _end;
  std::shared_ptr<std::atomic<long>> _uncompleted;
}
@synthesize label = _label;
- (instancetype)initWithQueue:(SimQueue*)queue
                      options:(MTLCommandBufferErrorOption)options
                  uncompleted:(std::shared_ptr<std::atomic<long>>)uncompleted {
  if ((self = [super init])) {
    _queue = queue;
    _device = queue.device;
    _options = options;
    _uncompleted = uncompleted;
    ++*_uncompleted;
    _held = [[NSMutableArray alloc] init];
  }
  return self;
}
- (void)dealloc {
  if (_status < MTLCommandBufferStatusCommitted) {
    if (_encoder) violate("a command buffer dies with an open encoder");
    [self simRelease:false];
    --*_uncompleted;
  }
}
- (id<MTLDevice>)device {
  return _device;
}
- (id<MTLCommandQueue>)commandQueue {
  return _queue;
}
- (MTLCommandBufferErrorOption)errorOptions {
  return _options;
}
- (BOOL)retainedReferences {
  return YES;
}
- (std::shared_ptr<Heap>)simHeap {
  if (!_heap) _heap = std::make_shared<Heap>();
  return _heap;
}
- (void)simHold:(id)object {
  [_held addObject:object];
}
- (void)simAddTemporary:(TemporaryPtr)t {
  _temporaries.push_back(t);
}
- (bool)simOpenFor:(const char*)what encoder:(id)encoder {
  if (self.status >= MTLCommandBufferStatusCommitted) {
    violate("%s: encoded on a command buffer that is already committed", what);
    return false;
  }
  if (_encoder && _encoder != encoder)
    violate("%s: encoded while another encoder of the command buffer is open", what);
  return true;
}
- (void)simSetEncoder:(id)encoder {
  _encoder = encoder;
}
- (void)simAdd:(Command)command {
  for (const auto& s : command.writes)
    if (s) ++s->writers;
  _commands.push_back(std::move(command));
}
- (void)simRelease:(bool)committed {
  for (const Command& c : _commands) {
    for (const auto& s : c.writes) {
      if (!s) continue;
      --s->writers;
      if (committed) --s->in_flight;
    }
    for (const auto& s : c.reads)
      if (s && committed) --s->in_flight;
  }
  _commands.clear();
}
- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  if (![self simOpenFor:"blitCommandEncoder" encoder:nil]) return nil;
  SimBlitEncoder* e = [[SimBlitEncoder alloc] initWithCommandBuffer:self];
  _encoder = e;
  return e;
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  if (![self simOpenFor:"computeCommandEncoder" encoder:nil]) return nil;
  SimComputeEncoder* e = [[SimComputeEncoder alloc] initWithCommandBuffer:self];
  _encoder = e;
  return e;
}
- (void)enqueue {
  if (_status == MTLCommandBufferStatusNotEnqueued) _status = MTLCommandBufferStatusEnqueued;
}
- (void)addScheduledHandler:(MTLCommandBufferHandler)block {
  if (self.status >= MTLCommandBufferStatusCommitted)
    violate("-[MTLCommandBuffer addScheduledHandler:] after the commit");
  else
    _scheduled.push_back([block copy]);
}
- (void)addCompletedHandler:(MTLCommandBufferHandler)block {
  if (self.status >= MTLCommandBufferStatusCommitted)
    violate("-[MTLCommandBuffer addCompletedHandler:] after the commit");
  else
    _completed.push_back([block copy]);
}
- (void)commit {
  if (self.status >= MTLCommandBufferStatusCommitted) {
    violate("-[MTLCommandBuffer commit]: committed twice");
    return;
  }
  if (_encoder) violate("-[MTLCommandBuffer commit] with an open encoder");
  for (const auto& t : _temporaries)
    if (t->reads > 0 && !t->reported) {
      t->reported = true;
      violate("%s: %ld reads missing at the commit", t->class_name.c_str(), t->reads.load());
    }
  _temporaries.clear();
  [_held removeAllObjects];
  for (const Command& c : _commands) {
    for (const auto& s : c.reads)
      if (s) ++s->in_flight;
    for (const auto& s : c.writes)
      if (s) ++s->in_flight;
  }
  ++counters().commits;
  {
    std::lock_guard<std::mutex> lock(_mutex);
    _status = MTLCommandBufferStatusCommitted;
  }
  [_queue simPush:self];
}
- (NSError*)simErrorWithCode:(long)code faulted:(size_t)at {
  NSMutableArray* infos = [[NSMutableArray alloc] init];
  for (size_t i = 0; i < _commands.size(); ++i) {
    if (_commands[i].internal) continue;
    const MTLCommandEncoderErrorState state = i < at    ? MTLCommandEncoderErrorStateCompleted
                                              : i == at ? MTLCommandEncoderErrorStateFaulted
                                                        : MTLCommandEncoderErrorStatePending;
    NSString* label = [NSString stringWithUTF8String:_commands[i].label.c_str()];
    [infos addObject:[[SimEncoderInfo alloc] initWithLabel:label state:state]];
  }
  NSString* text = [NSString stringWithFormat:@"simulated command buffer error %ld", code];
  const bool detailed = _options & MTLCommandBufferErrorOptionEncoderExecutionStatus;
  NSDictionary* info =
      detailed
          ? @{NSLocalizedDescriptionKey : text, MTLCommandBufferEncoderInfoErrorKey : [infos copy]}
          : @{NSLocalizedDescriptionKey : text};
  return [NSError errorWithDomain:MTLCommandBufferErrorDomain code:code userInfo:info];
}
- (void)simExecute {
  wait_while_held();
  _start = now();
  for (MTLCommandBufferHandler h : _scheduled) h(self);
  long code = 0;
  std::string label;
  size_t stop = _commands.size();
  if ([(SimDevice*)_device simRemoved]) {
    code = MTLCommandBufferErrorDeviceRemoved;
    stop = 0;
  } else if (command_buffer_fails(&code, &label)) {
    stop = 0;
    for (size_t i = 0; i < _commands.size(); ++i)
      if (!_commands[i].internal &&
          (label.empty() || _commands[i].label == label || _commands[i].kernel == label)) {
        stop = i;
        if (!label.empty()) break;
      }
  }
  for (size_t i = 0; i < stop; ++i) {
    _commands[i].run();
    for (const auto& s : _commands[i].writes)
      if (s && s->mode == MTLStorageModeManaged && !_commands[i].synchronizes) s->stale = true;
    if ([(SimDevice*)_device simRemoved]) {
      code = MTLCommandBufferErrorDeviceRemoved;
      stop = i;
    }
  }
  NSError* error = code ? [self simErrorWithCode:code faulted:stop] : nil;
  [self simRelease:true];
  _end = now();
  {
    std::lock_guard<std::mutex> lock(_mutex);
    _error = error;
    _status = code ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted;
  }
  --*_uncompleted;
  _done.notify_all();  // before the handlers ran: Metal promises no more
  for (MTLCommandBufferHandler h : _completed) h(self);
  _scheduled.clear();
  _completed.clear();
}
- (void)waitUntilScheduled {
}
- (void)waitUntilCompleted {
  ++counters().waits;
  std::unique_lock<std::mutex> lock(_mutex);
  if (_status < MTLCommandBufferStatusCommitted) {
    violate("-[MTLCommandBuffer waitUntilCompleted] before the commit");
    return;
  }
  _done.wait(lock, [&] { return _status >= MTLCommandBufferStatusCompleted; });
}
- (MTLCommandBufferStatus)status {
  std::lock_guard<std::mutex> lock(_mutex);
  return _status;
}
- (NSError*)error {
  std::lock_guard<std::mutex> lock(_mutex);
  return _error;
}
- (CFTimeInterval)GPUStartTime {
  return _start;
}
- (CFTimeInterval)GPUEndTime {
  return _end;
}
- (void)pushDebugGroup:(NSString*)s {
  (void)s;
}
- (void)popDebugGroup {
}
@end

@implementation SimEncoder {
 @public
  SimCommandBuffer* _cb;
  bool _ended;
}
@synthesize label = _label;
- (instancetype)initWithCommandBuffer:(SimCommandBuffer*)cb {
  if ((self = [super init])) _cb = cb;
  return self;
}
- (void)dealloc {
  if (!_ended) violate("%s: deallocated without endEncoding", name_of(self));
}
- (id<MTLDevice>)device {
  return _cb.device;
}
- (bool)simOpen {
  if (_ended) violate("%s: used after endEncoding", name_of(self));
  return !_ended && [_cb simOpenFor:name_of(self) encoder:self];
}
- (void)simAdd:(Command)command {
  command.label = self.label ? self.label.UTF8String : "";
  [_cb simAdd:std::move(command)];
}
- (void)endEncoding {
  if (_ended) violate("%s: endEncoding twice", name_of(self));
  _ended = true;
  [_cb simSetEncoder:nil];
}
- (void)insertDebugSignpost:(NSString*)s {
  (void)s;
}
- (void)pushDebugGroup:(NSString*)s {
  (void)s;
}
- (void)popDebugGroup {
}
@end

@implementation SimBlitEncoder
- (void)synchronizeResource:(id<MTLResource>)resource {
  if (![self simOpen]) return;
  StorePtr s = store_of(resource);
  if (s->mode != MTLStorageModeManaged) {
    violate("synchronizeResource: on a resource that is not managed");
    return;
  }
  ++counters().synchronizations;
  Command c;
  c.synchronizes = true;
  c.writes = {s};
  c.run = [s] { s->synchronize(); };
  [self simAdd:c];
}
- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  if (![self simOpen]) return;
  StorePtr s = store_of(buffer);
  if (range.location + range.length > s->size()) {
    violate("fillBuffer: beyond the buffer's end");
    return;
  }
  ++counters().blits;
  Command c;
  c.writes = {s};
  c.run = [=] { std::memset(s->gpu.data() + range.location, value, range.length); };
  [self simAdd:c];
}
- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)from
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)to
                  size:(NSUInteger)size {
  if (![self simOpen]) return;
  StorePtr s = store_of(source), d = store_of(destination);
  if (!s || !d || from + size > s->size() || to + size > d->size()) {
    violate("copyFromBuffer: no buffer, or beyond a buffer's end");
    return;
  }
  if ((from | to | size) % 4)
    violate("copyFromBuffer: offsets and size are multiples of 4 on macOS");
  if (s == d && from < to + size && to < from + size) violate("copyFromBuffer: ranges overlap");
  ++counters().blits;
  Command c;
  c.reads = {s};
  c.writes = {d};
  c.run = [=] { std::memmove(d->gpu.data() + to, s->gpu.data() + from, size); };
  [self simAdd:c];
}
@end

namespace apple_sim {
const char* name_of(id object) { return NSStringFromClass([object class]).UTF8String; }

void encode(id<MTLCommandBuffer> cb, const char* class_name, NSString* label, Stores reads,
            Stores writes, std::function<void()> run) {
  SimCommandBuffer* sim = (SimCommandBuffer*)cb;
  if (![sim simOpenFor:class_name encoder:nil]) return;
  for (const auto& r : reads)
    for (const auto& w : writes)
      if (r && r == w) violate("%s: a source is also a destination", class_name);
  count_encode(class_name);
  Command c;
  c.label = label ? label.UTF8String : class_name;
  c.reads = std::move(reads);
  c.writes = std::move(writes);
  c.run = std::move(run);
  [sim simAdd:std::move(c)];
}

TemporaryPtr make_temporary(id<MTLCommandBuffer> cb, const char* class_name) {
  SimCommandBuffer* sim = (SimCommandBuffer*)cb;
  [sim simOpenFor:class_name encoder:nil];
  auto t = std::make_shared<Temporary>();
  t->command_buffer = (__bridge const void*)cb;
  t->class_name = class_name;
  t->heap = [sim simHeap];
  [sim simAddTemporary:t];
  return t;
}
static void died(const TemporaryPtr& t, id<MTLCommandBuffer> cb) {
  if (!cb || cb.status >= MTLCommandBufferStatusCommitted) return;
  Command c;  // its memory goes to others
  c.internal = true;
  c.run = [stores = t->stores] {
    for (const auto& s : stores) std::memset(s->gpu.data(), 0xff, s->size());
  };
  [(SimCommandBuffer*)cb simAdd:std::move(c)];
}
void set_reads(const TemporaryPtr& t, id<MTLCommandBuffer> cb, long reads, id owner) {
  const long before = t->reads;
  if (before == 0 && reads != 0)
    violate("%s: readCount raised after it had fallen to 0", name_of(owner));
  if (reads < 0) {
    violate("%s: readCount below 0", name_of(owner));
    reads = 0;
  }
  t->reads = reads;
  if (before > 0 && reads == 0) died(t, cb);
}
void check_temporary(const TemporaryPtr& t, id<MTLCommandBuffer> cb, const char* verb) {
  if (!t) return;
  if (t->command_buffer != (__bridge const void*)cb)
    violate("%s: %s on another command buffer than its own", t->class_name.c_str(), verb);
  if (t->reads <= 0) violate("%s: %s after its readCount fell to 0", t->class_name.c_str(), verb);
}
void consume(const TemporaryPtr& t, id<MTLCommandBuffer> cb) {
  if (!t || t->reads <= 0) return;
  if (--t->reads == 0) died(t, cb);
}
void check_dead(const TemporaryPtr& t) {
  if (!t || t->reads <= 0 || t->reported) return;
  t->reported = true;
  violate("%s: deallocated with a readCount of %ld", t->class_name.c_str(), t->reads.load());
}
}  // namespace apple_sim
