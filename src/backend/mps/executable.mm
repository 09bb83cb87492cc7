#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/executable.h"

#include <algorithm>
#include <cstring>

#include "backend/mps/kernels.h"
#include "mpsnn/error.h"
#include "mpsnn/log.h"
#include "runtime/arena.h"
#include "runtime/staging.h"

namespace mpsnn::backend::mps {
namespace {

constexpr std::size_t kAlignment = 256;  // of an offset that a kernel is given

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t bytes_of(const Value& value) {
  if (value.opaque_bytes != 0) return value.opaque_bytes;
  return static_cast<std::size_t>(count(value.shape)) * size_of(value.dtype);
}

// An input's or result's bytes as a Tensor; the buffer outlives it.
Tensor view(const Value& value, BufferRef buffer, std::size_t offset) {
  void* at = static_cast<char*>(buffer.contents) + offset;
  return Tensor(value.shape, value.dtype, std::shared_ptr<void>(at, [](void*) {}));
}

std::string op_name(const Node& node) {
  return std::string(name_of(node.op)) + (node.gradient ? " gradient" : "");
}

// Runs `body`; its errors name the node.
template <class F>
void naming(const Node& node, F body) {
  const auto where = [&] { return "[" + node.layer + "] " + op_name(node) + ": "; };
  try {
    @try {
      body();
    } @catch (NSException* e) {
      throw DeviceError(where() + (e.reason == nil ? e.name : e.reason).UTF8String);
    }
  } catch (const OutOfMemoryError& e) {
    throw OutOfMemoryError(where() + e.what());
  } catch (const UnsupportedError& e) {
    throw UnsupportedError(where() + e.what());
  } catch (const DeviceError& e) {
    throw DeviceError(e.what()[0] == '[' ? e.what() : where() + e.what());
  }
}

}  // namespace

Executable::Executable(Gpu& gpu, std::shared_ptr<const ir::Plan> plan,
                       const std::vector<runtime::Storage*>& persistents)
    : gpu_(gpu), plan_(std::move(plan)) {
  pooled([&] {
    const ir::Plan& p = *plan_;
    storages_.assign(p.values.size(), nullptr);
    buffers_.assign(p.values.size(), {});
    for (std::size_t i = 0; i < p.persistents.size(); ++i) {
      const auto v = static_cast<std::size_t>(p.persistents[i]);
      storages_[v] = static_cast<DeviceStorage*>(persistents[i]);
      buffers_[v] = {storages_[v]->buffer(), 0};
    }
    takers_.assign(p.nodes.size(), 0);
    for (const Node& node : p.nodes)
      if (node.gradient && node.forward >= 0) ++takers_[static_cast<std::size_t>(node.forward)];
    place_values();
    place_buffers();
    place_results();
    for (std::size_t i = 0; i < p.nodes.size(); ++i) {
      scratch_next_ = 0;
      Builder builder(*this, p.nodes[i], static_cast<int>(i));
      naming(p.nodes[i], [&] { operations_.push_back(make_operation(builder)); });
    }
    if (scratch_bytes_ != 0) scratch_ = gpu_.buffer(scratch_bytes_, Use::gpu);
    if (!p.update) return;
    update_ = make_update(gpu_, p, {gradients_, 0}, trained_count_, gradient_count_);
    for (const auto& item : p.update->items) {
      written_.push_back(storages_[static_cast<std::size_t>(item.parameter)]);
      if (item.accumulator != kNone)
        written_.push_back(storages_[static_cast<std::size_t>(item.accumulator)]);
      for (const ir::GradientShare& share : item.further)
        written_.push_back(storages_[static_cast<std::size_t>(share.accumulator)]);
      for (const ValueId m : item.moments)
        written_.push_back(storages_[static_cast<std::size_t>(m)]);
      for (const ValueId v : {item.host_gradient, item.average})
        if (v != kNone) written_.push_back(storages_[static_cast<std::size_t>(v)]);
    }
    for (const auto& s : p.update->statistics)
      written_.push_back(storages_[static_cast<std::size_t>(s.running)]);
  });
}

Executable::~Executable() {
  pooled([&] {
    operations_.clear();
    update_.reset();
    buffers_.clear();
  });
}

// Which values live in images, and of what size.
void Executable::place_values() {
  const ir::Plan& p = *plan_;
  const std::size_t n = p.values.size();
  in_images_.assign(n, true);
  input_of_.assign(n, -1);
  home_.resize(n);
  std::vector<std::size_t> rank(n, 0);
  for (std::size_t v = 0; v < n; ++v) {
    const std::size_t r = root(static_cast<ValueId>(v));
    if (p.values[v].kind != ValueKind::temporary) in_images_[r] = false;
    if (p.values[v].shape.size() < rank[r]) continue;
    rank[r] = p.values[v].shape.size();
    home_[r] = geometry_of(p.values[v].shape);
  }
  for (std::size_t i = 0; i < p.inputs.size(); ++i)
    input_of_[root(p.inputs[i])] = static_cast<int>(i);
  const auto in_buffer = [&](ValueId v) {
    if (v != kNone) in_images_[root(v)] = false;
  };
  for (const Node& node : p.nodes) {
    if (ir::rule(node.op).loss && !node.gradient) {
      for (const ValueId v : node.outputs) in_buffer(v);
      for (const ValueId v : node.states) in_buffer(v);
    }
    const bool keeps = node.op == Op::batch_norm || node.op == Op::group_norm ||
                       node.op == Op::layer_norm || node.op == Op::rnn;
    if (keeps && !node.gradient)
      for (const ValueId v : node.states) in_buffer(v);
    if (node.gradient && (node.op == Op::conv2d || node.op == Op::conv_transpose2d ||
                          node.op == Op::linear || node.op == Op::batch_norm))
      for (std::size_t i = 1; i < node.outputs.size(); ++i) in_buffer(node.outputs[i]);
    if (node.gradient && node.forward >= 0) {  // gradients of other parameters
      const Node& forward = p.nodes[static_cast<std::size_t>(node.forward)];
      for (std::size_t i = 0; i < node.outputs.size() && forward.op == node.op; ++i)
        if (forward.inputs[i] != kNone && value(forward.inputs[i]).kind == ValueKind::persistent)
          in_buffer(node.outputs[i]);
    }
    if (node.gradient && node.op == Op::total_loss)
      for (const ValueId v : node.outputs) in_buffer(v);
    if (node.op == Op::add && !node.gradient)  // of gradients of one parameter
      for (const ValueId v : node.inputs)
        if (!in_images_[root(v)] && input_of_[root(v)] < 0) in_buffer(node.outputs[0]);
  }
  if (p.update)
    for (const auto& item : p.update->items) {
      in_buffer(item.gradient);
      for (const ir::GradientShare& share : item.further) in_buffer(share.gradient);
    }

  dying_.resize(p.nodes.size() + 1);
  for (std::size_t v = 0; v < n; ++v) {
    if (root(static_cast<ValueId>(v)) != v || p.lifetimes[v].last < 0) continue;
    dying_[static_cast<std::size_t>(p.lifetimes[v].last)].push_back(static_cast<ValueId>(v));
    if (in_images_[v] || input_of_[v] >= 0)
      image_bytes_ = std::max(image_bytes_, bytes_of(p.values[v]));
  }
}

// Values in buffers: gradients of what is trained side by side in one vector, which the end of the
// step reads as a whole; the others in an arena by their lifetimes.
void Executable::place_buffers() {
  const ir::Plan& p = *plan_;
  std::size_t total = 0;
  std::vector<std::size_t> place(p.values.size(), SIZE_MAX);
  const auto put = [&](ValueId gradient) {
    const std::size_t r = root(gradient);
    if (place[r] != SIZE_MAX) return;
    place[r] = total;
    total += bytes_of(p.values[r]);
  };
  if (p.update) {
    for (const auto& item : p.update->items) put(item.gradient);
    trained_count_ = static_cast<int64_t>(total / sizeof(float));
    for (const auto& item : p.update->items)
      for (const ir::GradientShare& share : item.further) put(share.gradient);
  }
  if (total != 0) gradients_ = gpu_.buffer(total, Use::gpu);
  gradient_count_ = static_cast<int64_t>(total / sizeof(float));
  std::vector<runtime::Block> blocks;
  std::vector<std::size_t> roots;
  for (std::size_t v = 0; v < p.values.size(); ++v) {
    if (p.values[v].kind != ValueKind::temporary || in_images_[v]) continue;
    if (root(static_cast<ValueId>(v)) != v || p.lifetimes[v].first < 0) continue;
    if (place[v] != SIZE_MAX) {
      buffers_[v] = {gradients_, place[v]};
      continue;
    }
    blocks.push_back({bytes_of(p.values[v]), p.lifetimes[v].first, p.lifetimes[v].last, 0});
    roots.push_back(v);
  }
  arena_bytes_ = runtime::assign_offsets(blocks, kAlignment);
  if (arena_bytes_ != 0) arena_ = gpu_.buffer(arena_bytes_, Use::gpu);
  for (std::size_t i = 0; i < blocks.size(); ++i) buffers_[roots[i]] = {arena_, blocks[i].offset};
  arena_bytes_ += total;
}

void Executable::place_results() {
  const ir::Plan& p = *plan_;
  for (const ValueId v : p.inputs) {
    input_offset_.push_back(input_bytes_);
    input_bytes_ += aligned(bytes_of(value(v)));
  }
  for (const ResultSpec& r : p.results) {
    result_offset_.push_back(result_bytes_);
    result_bytes_ += aligned(bytes_of(value(r.value)));
  }
  status_offset_ = result_bytes_;
  result_bytes_ += aligned(sizeof(UpdateControlBlock));
  for (int slot = 0; slot < kSlots; ++slot) {
    inputs_[slot] = gpu_.buffer(input_bytes_, Use::upload);
    results_[slot] = gpu_.buffer(result_bytes_, Use::download);
    ones_[slot].assign(p.inputs.size(), false);
  }
}

void Executable::stage(int slot, int input, const HostView& host) {
  pooled([&] {
    const auto i = static_cast<std::size_t>(input);
    const bool ones = host.data == nullptr;
    if (ones && ones_[slot][i]) return;
    ones_[slot][i] = ones;
    const Value& v = value(plan_->inputs[i]);
    Tensor to = view(v, inputs_[slot], input_offset_[i]);
    if (ones)
      runtime::fill_ones(to);
    else
      runtime::copy_view(host, to);
    if (!gpu_.unified())
      [inputs_[slot] didModifyRange:NSMakeRange(input_offset_[i], aligned(bytes_of(v)))];
  });
}

void Executable::encode(int slot, const runtime::StepScalars& scalars,
                        runtime::Completion& completion) {
  pooled([&] {
    const ir::Plan& p = *plan_;
    Encoding e(*this, slot, scalars);
    for (std::size_t i = 0; i < p.nodes.size(); ++i) {
      e.begin(static_cast<int>(i), p.nodes[i].layer);
      naming(p.nodes[i], [&] {
        operations_[i]->encode(e);
        e.end();
      });
    }
    e.begin(static_cast<int>(p.nodes.size()), kUpdateLabel);
    if (update_) {
      update_->encode(e, {results_[slot], status_offset_});
      for (DeviceStorage* storage : written_) storage->changed();
    }
    e.results();
    Gpu* gpu = &gpu_;
    runtime::Completion* waiting = &completion;
    [e.commands_ addCompletedHandler:^(id<MTLCommandBuffer> done) {
      std::exception_ptr error;
      @autoreleasepool {
        error = gpu->outcome(done);
      }
      waiting->done(error);  // the executable may be gone after this
    }];
    if (!reported_ && log::enabled(log::Level::debug))
      log::write(log::Level::debug, "mps: a step of " + std::to_string(p.nodes.size()) +
                                        " nodes: " + std::to_string(e.encodes_) + " encodes, " +
                                        std::to_string(e.conversions_) +
                                        " conversions between images and buffers, " +
                                        std::to_string(e.copies_) + " copies of buffers, 0 waits");
    reported_ = true;
    gpu_.commit(e.commands_);
  });
}

void Executable::read(int slot, int result, Tensor& out) {
  pooled([&] {
    const char* from = static_cast<const char*>(results_[slot].contents);
    const auto i = static_cast<std::size_t>(result);
    convert(from + result_offset_[i], value(plan_->results[i].value).dtype, out.data(), out.dtype(),
            out.count());
  });
}

runtime::StepStatus Executable::status(int slot) {
  runtime::StepStatus status;
  if (!update_) return status;
  UpdateControlBlock block;
  pooled([&] {
    std::memcpy(&block, static_cast<const char*>(results_[slot].contents) + status_offset_,
                sizeof block);
  });
  status.finite = block.finite != 0;
  status.blocked = block.blocked != 0;
  status.updated = block.updated != 0;
  status.loss_scale = static_cast<double>(block.scale);
  return status;
}

// Temporary images share a heap that Metal sizes: the most that live at one time is what it needs.
// As on other devices the memory of results is the steps', not the plan's.
std::size_t Executable::planned_bytes() const {
  const ir::Plan& p = *plan_;
  std::vector<runtime::Block> blocks;
  for (std::size_t v = 0; v < p.values.size(); ++v) {
    if (!in_images_[v] && input_of_[v] < 0) continue;
    if (root(static_cast<ValueId>(v)) != v || p.lifetimes[v].first < 0) continue;
    const Geometry& g = home_[v];  // channels in fours
    const auto elements = static_cast<std::size_t>(g.n * g.h * g.w * ((g.c + 3) / 4 * 4));
    blocks.push_back(
        {elements * size_of(p.values[v].dtype), p.lifetimes[v].first, p.lifetimes[v].last, 0});
  }
  return runtime::assign_offsets(blocks) + arena_bytes_ + scratch_bytes_ + kSlots * input_bytes_;
}

std::string Executable::detail(int node) const {
  return operations_[static_cast<std::size_t>(node)]->detail();
}

}  // namespace mpsnn::backend::mps
