// Libraries, pipelines and the compute encoder. A dispatch checks its argument table against the
// kernel's signature; the kernel's pointers check every index.
#include <array>
#include <cstring>
#include <mutex>

#import "metal_command.h"
#import "metal_compute.h"

NSErrorDomain const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";
using namespace apple_sim;

namespace apple_sim {
static std::vector<Library>& libraries() {
  static auto* v = new std::vector<Library>;
  return *v;
}
bool register_library(Library library) {
  libraries().push_back(std::move(library));
  return true;
}
void index_violation(const char* kernel, size_t index, size_t count) {
  violate("Metal kernel %s: index %zu of a buffer of %zu elements", kernel, index, count);
}
}  // namespace apple_sim

@implementation MTLCompileOptions
- (instancetype)init {
  if ((self = [super init])) _fastMathEnabled = YES;
  return self;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MTLCompileOptions* o = [[MTLCompileOptions alloc] init];
  o.fastMathEnabled = _fastMathEnabled;
  o.languageVersion = _languageVersion;
  return o;
}
@end

@interface SimFunction : NSObject <MTLFunction>
@end
@implementation SimFunction {
 @public
  id<MTLDevice> _device;
  const Kernel* _kernel;
}
@synthesize label = _label;
- (id<MTLDevice>)device {
  return _device;
}
- (NSString*)name {
  return [NSString stringWithUTF8String:_kernel->name];
}
- (MTLFunctionType)functionType {
  return MTLFunctionTypeKernel;
}
@end

@interface SimLibrary : NSObject <MTLLibrary>
@end
@implementation SimLibrary {
 @public
  id<MTLDevice> _device;
  const Library* _library;
}
@synthesize label = _label;
- (id<MTLDevice>)device {
  return _device;
}
- (NSArray<NSString*>*)functionNames {
  NSMutableArray* names = [NSMutableArray array];
  for (const Kernel& k : _library->kernels)
    [names addObject:[NSString stringWithUTF8String:k.name]];
  return names;
}
- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  for (const Kernel& k : _library->kernels)
    if (!std::strcmp(k.name, name.UTF8String)) {
      SimFunction* f = [[SimFunction alloc] init];
      f->_device = _device;
      f->_kernel = &k;
      return f;
    }
  return nil;
}
@end

@interface SimPipeline : NSObject <MTLComputePipelineState>
@end
@implementation SimPipeline {
 @public
  id<MTLDevice> _device;
  const Kernel* _kernel;
}
- (NSString*)label {
  return nil;
}
- (id<MTLDevice>)device {
  return _device;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return 256;
}
- (NSUInteger)threadExecutionWidth {
  return 32;
}
- (NSUInteger)staticThreadgroupMemoryLength {
  return 0;
}
@end

id<MTLLibrary> sim_new_library(id<MTLDevice> device, NSString* source, MTLCompileOptions* options,
                               NSError** error) {
  NSString* why = @"the source is not what was compiled into the stand-in";
  if (!options || options.fastMathEnabled) {
    why = @"the stand-in compiles without fast math; set MTLCompileOptions.fastMathEnabled to NO";
  } else {
    for (const Library& l : libraries())
      if (l.source == source.UTF8String) {
        SimLibrary* lib = [[SimLibrary alloc] init];
        lib->_device = device;
        lib->_library = &l;
        return lib;
      }
  }
  if (error)
    *error = [NSError errorWithDomain:MTLLibraryErrorDomain
                                 code:MTLLibraryErrorCompileFailure
                             userInfo:@{NSLocalizedDescriptionKey : why}];
  return nil;
}
id<MTLComputePipelineState> sim_new_pipeline(id<MTLDevice> device, id<MTLFunction> function,
                                             NSError** error) {
  (void)error;
  SimPipeline* p = [[SimPipeline alloc] init];
  p->_device = device;
  p->_kernel = ((SimFunction*)function)->_kernel;
  return p;
}

namespace {
struct Slot {
  StorePtr store;
  size_t offset = 0;
  std::vector<uint8_t> bytes;
  bool set = false;
};
}  // namespace
@implementation SimComputeEncoder {
  SimPipeline* _pipeline;
  std::array<Slot, 31> _slots;
}
- (MTLDispatchType)dispatchType {
  return MTLDispatchTypeSerial;
}
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  if (![self simOpen]) return;
  _pipeline = (SimPipeline*)state;
}
- (Slot*)simSlot:(NSUInteger)index {
  if (index < _slots.size()) return &_slots[index];
  violate("compute encoder: argument index %lu", index);
  return nullptr;
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  Slot* s = [self simOpen] ? [self simSlot:index] : nullptr;
  if (!s) return;
  if (length == 0 || length > 4096) violate("setBytes: %lu bytes", length);
  const auto* p = static_cast<const uint8_t*>(bytes);
  *s = Slot();
  s->bytes.assign(p, p + length);
  s->set = true;
}
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  Slot* s = [self simOpen] ? [self simSlot:index] : nullptr;
  if (!s) return;
  *s = Slot();
  s->store = store_of(buffer);
  s->offset = offset;
  s->set = buffer != nil;
  if (buffer && (offset >= buffer.length || offset % 4))
    violate("setBuffer: offset %lu in a buffer of %lu bytes", offset, buffer.length);
}
- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
  if (Slot* s = [self simSlot:index]) s->offset = offset;
}
- (void)dispatchThreads:(MTLSize)threads threadsPerThreadgroup:(MTLSize)group {
  [self simDispatch:threads group:group];
}
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)group {
  [self simDispatch:MTLSizeMake(groups.width * group.width, groups.height * group.height,
                                groups.depth * group.depth)
              group:group];
}
- (void)simDispatch:(MTLSize)grid group:(MTLSize)group {
  if (![self simOpen]) return;
  if (!_pipeline) {
    violate("compute encoder: dispatch without a pipeline");
    return;
  }
  const Kernel* kernel = _pipeline->_kernel;
  if (grid.width == 0 || grid.height != 1 || grid.depth != 1 || group.width == 0 ||
      group.height != 1 || group.depth != 1 ||
      group.width > _pipeline.maxTotalThreadsPerThreadgroup) {
    violate("Metal kernel %s: grid %lux%lux%lu in groups of %lux%lux%lu", kernel->name, grid.width,
            grid.height, grid.depth, group.width, group.height, group.depth);
    return;
  }
  Command c;
  std::vector<Slot> bound;
  for (const KernelArgument& a : kernel->arguments) {
    const Slot& s = _slots[a.index];
    const size_t have = s.store ? s.store->size() - s.offset : s.bytes.size();
    if (!s.set) {
      violate("Metal kernel %s: argument %s [[buffer(%u)]] is missing", kernel->name, a.name,
              a.index);
      return;
    }
    if (have < a.element) {
      violate("Metal kernel %s: argument %s has %zu bytes, needs %zu", kernel->name, a.name, have,
              a.element);
      return;
    }
    if (s.bytes.size() && a.writes)
      violate("Metal kernel %s: argument %s is written, but set by setBytes:", kernel->name,
              a.name);
    if (s.store) (a.writes ? c.writes : c.reads).push_back(s.store);
    bound.push_back(s);
  }
  count_encode(kernel->name);
  c.kernel = kernel->name;
  c.run = [kernel, bound, threads = static_cast<unsigned>(grid.width)] {
    std::vector<BoundArgument> args;
    for (const Slot& s : bound) {
      BoundArgument b;
      b.data = s.store ? s.store->gpu.data() + s.offset : const_cast<uint8_t*>(s.bytes.data());
      b.bytes = s.store ? s.store->size() - s.offset : s.bytes.size();
      args.push_back(b);
    }
    for (unsigned t = 0; t < threads; ++t) kernel->run(args.data(), t);
  };
  [self simAdd:std::move(c)];
}
@end
