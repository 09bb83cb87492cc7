// How an operation sees its operands: images, states, buffers and the conversions between them.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"
#include "mpsnn/error.h"

namespace mpsnn::backend::mps {
namespace {

constexpr std::size_t kAlignment = 256;

MPSDataType mps_type(DType dtype) {
  return dtype == DType::float16 ? MPSDataTypeFloat16 : MPSDataTypeFloat32;
}

// A buffer's part as a matrix: row n is image n.
MPSMatrix* matrix(const Buffer& at, const Geometry& g, DType dtype) {
  const auto columns = static_cast<NSUInteger>(g.h * g.w * g.c);
  MPSMatrixDescriptor* descriptor =
      [MPSMatrixDescriptor matrixDescriptorWithRows:static_cast<NSUInteger>(g.n)
                                            columns:columns
                                           rowBytes:columns * size_of(dtype)
                                           dataType:mps_type(dtype)];
  return [[MPSMatrix alloc] initWithBuffer:at.buffer offset:at.offset descriptor:descriptor];
}

bool is_temporary(MPSImageBatch* images) {
  return [images[0] isKindOfClass:[MPSTemporaryImage class]];
}

void let_go(MPSImageBatch* images) {
  for (MPSImage* image in images) {
    if (![image isKindOfClass:[MPSTemporaryImage class]]) continue;
    MPSTemporaryImage* temporary = static_cast<MPSTemporaryImage*>(image);
    if (temporary.readCount != 0) temporary.readCount = 0;
  }
}

}  // namespace

Geometry geometry_of(const Shape& shape) {
  Geometry g;
  const std::size_t rank = shape.size();
  if (rank > 0) g.n = shape[0];
  if (rank > 1) g.c = shape[rank - 1];
  if (rank > 2) g.w = shape[rank - 2];
  for (std::size_t i = 1; i + 2 < rank; ++i) g.h *= shape[i];
  return g;
}

Gpu& Builder::gpu() const { return executable_.gpu_; }
const ir::Plan& Builder::plan() const { return *executable_.plan_; }

const Shape& Builder::x_shape(int i) const {
  ValueId id = node_.x(i);
  if (id == kNone && node_.gradient) id = node_.gx(i);
  if (id == kNone) id = plan().nodes[static_cast<std::size_t>(forward())].x(i);
  return value(id).shape;
}

const Shape& Builder::y_shape() const {
  ValueId id = node_.gradient ? node_.gy(0) : node_.outputs[0];
  if (id == kNone) id = plan().nodes[static_cast<std::size_t>(forward())].y(0);
  return value(id).shape;
}

Geometry Builder::home(ValueId id) const { return executable_.home_[executable_.root(id)]; }
bool Builder::in_images(ValueId id) const { return executable_.in_images_[executable_.root(id)]; }

Operation& Builder::forward_operation() const {
  return *executable_.operations_[static_cast<std::size_t>(forward())];
}

int Builder::gradients() const { return executable_.takers_[static_cast<std::size_t>(index_)]; }

std::size_t Builder::scratch(std::size_t bytes) {
  const std::size_t place = executable_.scratch_next_;
  executable_.scratch_next_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  executable_.scratch_bytes_ = std::max(executable_.scratch_bytes_, executable_.scratch_next_);
  return place;
}

Dense Builder::dense(ValueId id) {
  const auto elements = static_cast<std::size_t>(count(value(id).shape));
  return {id, scratch(elements * 4), value(id).dtype == DType::float16 ? scratch(elements * 2) : 0};
}

Encoding::Encoding(Executable& executable, int slot, const runtime::StepScalars& scalars)
    : executable_(executable),
      slot_(slot),
      scalars_(scalars),
      commands_(executable.gpu_.commands("mpsnn step")),
      live_(executable.plan_->values.size(), nullptr) {}

Encoding::~Encoding() {
  close();
  for (ImagesRef images : live_)
    if (images != nil) let_go(images);
  for (ImagesRef images : own_) let_go(images);
  for (Detour& detour : detours_) let_go(detour.images);
  for (const Kept& kept : states_)
    for (MPSState* state in kept.states)
      if (state.isTemporary && state.readCount != 0) state.readCount = 0;
}

Gpu& Encoding::gpu() const { return executable_.gpu_; }
const ir::Plan& Encoding::plan() const { return *executable_.plan_; }

void Encoding::close() {
  if (compute_ == nil) return;
  [compute_ endEncoding];
  compute_ = nil;
}

CommandsRef Encoding::commands() {
  close();
  ++encodes_;
  return commands_;
}

void Encoding::begin(int node, const std::string& layer) {
  node_ = node;
  layer_ = layer;
}

void Encoding::end() {
  for (Detour& d : detours_) {
    const std::size_t r = executable_.root(d.id);
    const DType dtype = executable_.plan_->values[r].dtype;
    if (!executable_.in_images_[r]) {
      to_buffer(d.images, d.geometry, dtype, executable_.buffers_[r]);
    } else {
      const Geometry& home = executable_.home_[r];
      to_buffer(d.images, d.geometry, dtype, passage());
      live_[r] = make_images(home, dtype);
      to_images(passage(), home, dtype, live_[r]);
    }
    MPSImageBatchIncrementReadCount(d.images, -1);
  }
  detours_.clear();
  own_.clear();
  for (const ValueId id : executable_.dying_[static_cast<std::size_t>(node_)]) {
    __strong ImagesRef& images = live_[static_cast<std::size_t>(id)];
    if (images == nil) continue;
    MPSImageBatchIncrementReadCount(images, -1);
    images = nil;
  }
}

void Encoding::results() {
  const ir::Plan& p = *executable_.plan_;
  for (std::size_t i = 0; i < p.results.size(); ++i) {
    const ValueId id = p.results[i].value;
    const std::size_t r = executable_.root(id);
    const Buffer to{executable_.results_[slot_], executable_.result_offset_[i]};
    const Value& value = p.values[r];
    const std::size_t bytes =
        static_cast<std::size_t>(mpsnn::count(value.shape)) * size_of(value.dtype);
    if (executable_.in_images_[r])
      to_buffer(live_[r], executable_.home_[r], value.dtype, to);
    else
      copy(buffer(id), to, (bytes + 3) / 4 * 4);  // blits move words; halves lie in wider places
  }
  end();
  close();
  if (!executable_.gpu_.unified()) {
    id<MTLBlitCommandEncoder> blit = [commands_ blitCommandEncoder];
    [blit synchronizeResource:executable_.results_[slot_]];
    [blit endEncoding];
  }
}

ImagesRef Encoding::make_images(const Geometry& g, DType dtype) {
  close();
  MPSImageDescriptor* descriptor = [MPSImageDescriptor
      imageDescriptorWithChannelFormat:dtype == DType::float16 ? MPSImageFeatureChannelFormatFloat16
                                                               : MPSImageFeatureChannelFormatFloat32
                                 width:static_cast<NSUInteger>(g.w)
                                height:static_cast<NSUInteger>(g.h)
                       featureChannels:static_cast<NSUInteger>(g.c)];
  descriptor.storageMode = MTLStorageModePrivate;
  NSMutableArray<MPSImage*>* images =
      [NSMutableArray<MPSImage*> arrayWithCapacity:static_cast<NSUInteger>(g.n)];
  for (int64_t n = 0; n < g.n; ++n)
    [images addObject:[MPSTemporaryImage temporaryImageWithCommandBuffer:commands_
                                                         imageDescriptor:descriptor]];
  return images;
}

ImagesRef Encoding::read(ValueId id, const Geometry& g, int reads) {
  const std::size_t r = executable_.root(id);
  const DType dtype = executable_.plan_->values[r].dtype;
  Buffer from;
  if (executable_.in_images_[r] || executable_.input_of_[r] >= 0) {
    const Geometry& home = executable_.home_[r];
    if (live_[r] == nil) {  // an input, at its first use
      live_[r] = make_images(home, dtype);
      to_images(buffer(id), home, dtype, live_[r]);
    }
    if (home == g) {
      MPSImageBatchIncrementReadCount(live_[r], reads);
      return live_[r];
    }
    to_buffer(live_[r], home, dtype, passage());
    from = passage();
  } else {
    from = buffer(id);
  }
  ImagesRef images = temporary(g, dtype, reads);
  to_images(from, g, dtype, images);
  return images;
}

ImagesRef Encoding::write(ValueId id, const Geometry& g) {
  const std::size_t r = executable_.root(id);
  ImagesRef images = make_images(g, executable_.plan_->values[r].dtype);
  if (executable_.in_images_[r] && executable_.home_[r] == g)
    live_[r] = images;
  else
    detours_.push_back({id, g, images});
  return images;
}

ImagesRef Encoding::temporary(const Geometry& g, DType dtype, int reads) {
  ImagesRef images = make_images(g, dtype);
  if (reads > 1) MPSImageBatchIncrementReadCount(images, reads - 1);
  own_.push_back(images);
  return images;
}

ImagesRef Encoding::sizes(const Geometry& g, DType dtype) {
  Geometry one = g;
  one.n = 1;
  MPSImage* image = temporary(one, dtype, 1)[0];
  NSMutableArray<MPSImage*>* images = [NSMutableArray<MPSImage*> array];
  for (int64_t n = 0; n < g.n; ++n) [images addObject:image];
  return images;
}

void Encoding::give_back(ImagesRef written) { MPSImageBatchIncrementReadCount(written, -1); }

StatesRef Encoding::make_states(KernelRef kernel, ImagesRef source, ImagesRef destination) {
  close();
  StatesRef states = [kernel temporaryResultStateBatchForCommandBuffer:commands_
                                                           sourceImage:source
                                                          sourceStates:nil
                                                      destinationImage:destination];
  if (states == nil || states.count != source.count)
    throw DeviceError("the forward kernel keeps no state for its gradient");
  return states;
}

void Encoding::keep_states(int forward, StatesRef states, int reads) {
  const int takers = executable_.takers_[static_cast<std::size_t>(forward)];
  if (takers > 1) MPSStateBatchIncrementReadCount(states, (takers - 1) * reads);
  states_.push_back({forward, takers, states});
}

StatesRef Encoding::take_states(int forward) {
  for (auto it = states_.begin(); it != states_.end(); ++it)
    if (it->forward == forward) {
      StatesRef states = it->states;
      if (--it->takers == 0) states_.erase(it);
      return states;
    }
  throw DeviceError("the forward kernel left no state");
}

void Encoding::forward(KernelRef kernel, ImagesRef x, ImagesRef y, int keeper) {
  if (keeper < 0) {
    [kernel encodeBatchToCommandBuffer:commands() sourceImages:x destinationImages:y];
    return;
  }
  StatesRef states = make_states(kernel, x, y);
  [kernel encodeBatchToCommandBuffer:commands()
                        sourceImages:x
                   destinationStates:states
                   destinationImages:y];
  keep_states(keeper, states);
}

Buffer Encoding::buffer(ValueId id) {
  const std::size_t r = executable_.root(id);
  const int input = executable_.input_of_[r];
  if (input >= 0)
    return {executable_.inputs_[slot_], executable_.input_offset_[static_cast<std::size_t>(input)]};
  return executable_.buffers_[r];
}

DeviceStorage* Encoding::storage(ValueId id) { return executable_.storages_[executable_.root(id)]; }

Buffer Encoding::scratch(std::size_t place) { return {executable_.scratch_, place}; }

Buffer Encoding::passage() {
  if (executable_.passage_ == nil)
    executable_.passage_ = executable_.gpu_.buffer(executable_.image_bytes_, Use::gpu);
  return {executable_.passage_, 0};
}

Buffer Encoding::load(const Dense& dense) {
  const std::size_t r = executable_.root(dense.value);
  const Value& value = executable_.plan_->values[r];
  const bool half = value.dtype == DType::float16;
  const int elements = static_cast<int>(mpsnn::count(value.shape));
  Buffer from;
  if (!executable_.in_images_[r]) {
    from = buffer(dense.value);
    if (!half) return from;
  } else {
    from = scratch(half ? dense.halves : dense.floats);
    to_buffer(live_[r], executable_.home_[r], value.dtype, from);
  }
  const Buffer to = scratch(dense.floats);
  if (half) run(gpu().pipeline("half_to_float"), {from, to}, CountParams{elements}, elements);
  return to;
}

Buffer Encoding::target(const Dense& dense) {
  const std::size_t r = executable_.root(dense.value);
  if (!executable_.in_images_[r] && executable_.plan_->values[r].dtype == DType::float32)
    return executable_.buffers_[r];
  return scratch(dense.floats);
}

void Encoding::store(const Dense& dense) {
  const std::size_t r = executable_.root(dense.value);
  const Value& value = executable_.plan_->values[r];
  const bool half = value.dtype == DType::float16, images = executable_.in_images_[r];
  if (!images && !half) return;
  const int elements = static_cast<int>(mpsnn::count(value.shape));
  Buffer from = scratch(dense.floats);
  if (half) {
    const Buffer to = images ? scratch(dense.halves) : executable_.buffers_[r];
    run(gpu().pipeline("float_to_half"), {from, to}, CountParams{elements}, elements);
    from = to;
  }
  if (!images) return;
  live_[r] = make_images(executable_.home_[r], value.dtype);
  to_images(from, executable_.home_[r], value.dtype, live_[r]);
}

// Whether this kernel takes a read from the count is not documented: it is given one, and what is
// left of it afterwards is taken back.
void Encoding::to_buffer(ImagesRef from, const Geometry& g, DType dtype, Buffer to) {
  const bool counts = is_temporary(from);
  const auto count = [&] { return static_cast<MPSTemporaryImage*>(from[0]).readCount; };
  const NSUInteger before = counts ? count() : 0;
  if (counts) MPSImageBatchIncrementReadCount(from, 1);
  [gpu().to_matrix() encodeBatchToCommandBuffer:commands()
                                   sourceImages:from
                              destinationMatrix:matrix(to, g, dtype)];
  if (counts && count() != before) MPSImageBatchIncrementReadCount(from, -1);
  ++conversions_;
}

void Encoding::to_images(Buffer from, const Geometry& g, DType dtype, ImagesRef to) {
  [gpu().to_image() encodeBatchToCommandBuffer:commands()
                                  sourceMatrix:matrix(from, g, dtype)
                             destinationImages:to];
  ++conversions_;
}

void Encoding::copy(Buffer from, Buffer to, std::size_t bytes) {
  close();
  id<MTLBlitCommandEncoder> blit = [commands_ blitCommandEncoder];
  blit.label = @(layer_.c_str());
  [blit copyFromBuffer:from.buffer
           sourceOffset:from.offset
               toBuffer:to.buffer
      destinationOffset:to.offset
                   size:bytes];
  [blit endEncoding];
  ++copies_;
}

void Encoding::dispatch(PipelineRef kernel, std::initializer_list<Buffer> buffers,
                        const void* parameters, std::size_t bytes, int64_t threads) {
  if (compute_ == nil) {
    compute_ = [commands_ computeCommandEncoder];
    compute_.label = @(layer_.c_str());
    ++encodes_;
  }
  [compute_ setComputePipelineState:kernel];
  NSUInteger index = 0;
  for (const Buffer& b : buffers) [compute_ setBuffer:b.buffer offset:b.offset atIndex:index++];
  [compute_ setBytes:parameters length:bytes atIndex:index];
  const NSUInteger width =
      std::min<NSUInteger>(static_cast<NSUInteger>(threads), kernel.maxTotalThreadsPerThreadgroup);
  [compute_ dispatchThreadgroups:MTLSizeMake((static_cast<NSUInteger>(threads) + width - 1) / width,
                                             1, 1)
           threadsPerThreadgroup:MTLSizeMake(width, 1, 1)];
}

}  // namespace mpsnn::backend::mps
