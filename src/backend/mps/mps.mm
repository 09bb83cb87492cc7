// The mps backend: its devices, what it supports, and the table of operations.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>

#include "backend/mps/executable.h"
#include "backend/register.h"
#include "ir/neuron.h"
#include "mpsnn/error.h"

namespace mpsnn::backend {
namespace mps {
namespace {

constexpr int64_t kMaxChannels = 8192, kMaxSide = 16384;  // 2048 array slices of four channels

// Removable cards first: somebody plugged one in to compute on. Then discrete ones, those without a
// display before those that draw it; integrated ones last. On Apple silicon there is but one.
int preference(id<MTLDevice> device) {
  if (device.removable) return 0;
  if (device.lowPower) return 3;
  return device.headless ? 1 : 2;
}

// The value a flatten makes is a view: its readers see the images it came from.
const Shape& images_behind(const ir::Plan& plan, ValueId id) {
  for (const Node& node : plan.nodes)
    if (node.op == Op::flatten && !node.gradient && node.outputs[0] == id)
      return images_behind(plan, node.inputs[0]);
  return plan.values[static_cast<std::size_t>(id)].shape;
}

std::string too_large(const Shape& shape) {
  const Geometry g = geometry_of(shape);
  if (g.c > kMaxChannels) return "images have at most 8192 channels, got " + std::to_string(g.c);
  if (g.h > kMaxSide || g.w > kMaxSide)
    return "images have at most 16384 pixels a side, got " + std::to_string(std::max(g.h, g.w));
  if (g.count() > INT32_MAX)
    return "a batch has at most 2^31 - 1 elements, got " + std::to_string(g.count());
  return "";
}

// Whether a node repeats an operand; values that its gradient does not see do not count.
bool broadcasts(const ir::Plan& plan, const Node& node) {
  const Shape* first = nullptr;
  for (const auto* ids : {&node.inputs, &node.outputs})
    for (const ValueId id : *ids) {
      if (id == kNone) continue;
      const Shape& shape = plan.values[static_cast<std::size_t>(id)].shape;
      if (first != nullptr && shape != *first) return true;
      first = &shape;
    }
  return false;
}

// Of a concat or a reduction, the shape it takes apart or brings together.
const Shape& whole(const ir::Plan& plan, const Node& node) {
  ValueId id = node.gradient ? node.gx(0) : node.x(0);
  if (node.op == Op::concat) id = node.gradient ? node.gy(0) : node.y(0);
  return plan.values[static_cast<std::size_t>(id)].shape;
}

// What a node needs and this backend has not got yet, by name; empty where it has all.
std::string lacking(const ir::Plan& plan, const Node& node) {
  switch (node.op) {
    case Op::conv2d:
    case Op::linear:
    case Op::neuron:
    case Op::max_pool2d:
    case Op::flatten:
    case Op::softmax:
    case Op::total_loss:
      break;
    case Op::batch_norm:
      if (node.nx > 5) return "lengths of a batch_norm";
      break;
    case Op::dropout:
      return node.attrs.flag("spatial") ? "spatial dropout" : "";
    case Op::concat: {
      const auto axis = static_cast<std::size_t>(node.attrs.integer("dim"));
      return axis + 1 != whole(plan, node).size() ? "concat of other axes than channels" : "";
    }
    case Op::add:
    case Op::subtract:
    case Op::multiply:
      if (broadcasts(plan, node)) return "broadcasting";
      // Of a sum it is a node of its own only where an operand is of another dtype.
      return node.op == Op::add && node.gradient ? "gradient of add" : "";
    case Op::reduce_mean: {
      const std::size_t axes = node.attrs.integers("dims").size();
      return axes + 1 != whole(plan, node).size() ? "reduce_mean over some axes" : "";
    }
    case Op::avg_pool2d:
      if (node.attrs.flag("ceil_mode", false) && node.attrs.flag("count_include_pad"))
        return "ceil_mode with count_include_pad";
      break;
    case Op::element_loss:
      if (node.attrs.text("kind") != "mse") return "loss " + node.attrs.text("kind");
      if (node.attrs.has("weight")) return "class weights of an element_loss";
      [[fallthrough]];
    case Op::softmax_cross_entropy:
    case Op::given_loss:
      if (node.attrs.text("reduction") == "none") return "unreduced losses";
      if (node.nx > 3) return "weights of elements";
      return node.gradient && node.gy(1) != kNone ? "gradients by losses of images" : "";
    default:
      return name_of(node.op);
  }
  const ir::NeuronSpec s =
      node.op == Op::neuron ? ir::neuron_of(node.attrs) : ir::epilogue_of(node.attrs);
  if (s.kind > ir::Neuron::tanh) return std::string("neuron ") + name_of(s.kind);
  const bool scaled = s.kind == ir::Neuron::tanh && (s.a != 1 || s.b != 1);
  return scaled ? "scaled tanh" : "";
}

class MpsBackend final : public runtime::Backend {
 public:
  explicit MpsBackend(const Device& device) : device_(device), gpu_(device) {}

  const Device& device() const override { return device_; }

  Support supports(const ir::Plan& plan, const Node& node) const override {
    if (plan.dtype != DType::float32 && plan.dtype != DType::float16)
      return {false, std::string("Metal Performance Shaders has no ") + name_of(plan.dtype)};
    if (const std::string what = lacking(plan, node); !what.empty())
      return {false, "mps has no " + what + " yet"};
    if (node.gradient || node.op == Op::flatten) return {};  // as large as the forward node's
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const bool image = i == 0 || node.op == Op::add || node.op == Op::subtract ||
                         node.op == Op::multiply || node.op == Op::concat;
      if (node.inputs[i] == kNone || !image) continue;
      const std::string why = too_large(
          node.op == Op::linear ? images_behind(plan, node.inputs[i])
                                : plan.values[static_cast<std::size_t>(node.inputs[i])].shape);
      if (!why.empty()) return {false, why};
    }
    const std::string why = too_large(plan.values[static_cast<std::size_t>(node.outputs[0])].shape);
    return {why.empty(), why};
  }

  Support supports_update(const ir::Update& update) const override {
    if (!update.further.empty()) return {false, "accumulation of several losses is not supported"};
    return {};
  }

  ir::Reads saves(const ir::Plan&, const Node& node, ir::Reads offers) const override {
    ir::Reads reads = offers;
    switch (node.op) {
      case Op::conv2d:
      case Op::linear:
        if (!node.attrs.has("neuron")) reads.y = 0;
        break;
      case Op::neuron:
        reads.y = 0;
        break;
      case Op::max_pool2d:
        reads = {0b1, node.attrs.has("neuron") ? 0b1u : 0, 0};
        break;
      case Op::batch_norm:
        // Batch statistics are in the state of the forward kernel.
        reads = node.attrs.flag("training") ? ir::Reads{0b1, 0, 0} : ir::Reads{0b11011, 0, 0};
        break;
      case Op::dropout:
        reads.state = 0;
        break;
      default:
        break;
    }
    return reads;
  }

  // MPS fuses a neuron into a convolution, and does not differentiate what it fused.
  bool fuses(runtime::Pattern, const Node& node, const Node&, bool training) const override {
    return !training && node.op != Op::max_pool2d;
  }
  bool can_alias(const ir::Plan&, const Node&) const override { return true; }
  std::size_t state_bytes(const ir::Plan&, const Node&, int) const override {
    return 0;  // MPS keeps its states itself
  }
  int channel_alignment() const override { return 4; }

  std::unique_ptr<runtime::Storage> allocate(const Shape& shape, DType dtype) override {
    std::unique_ptr<runtime::Storage> made;
    pooled([&] {
      made = std::make_unique<DeviceStorage>(
          gpu_, static_cast<std::size_t>(count(shape)) * size_of(dtype));
    });
    return made;
  }

  std::unique_ptr<runtime::Executable> instantiate(
      std::shared_ptr<const ir::Plan> plan,
      const std::vector<runtime::Storage*>& storage) override {
    return std::make_unique<Executable>(gpu_, std::move(plan), storage);
  }

 private:
  Device device_;
  Gpu gpu_;
};

}  // namespace

std::unique_ptr<Operation> make_operation(Builder& b) {
  switch (b.node().op) {
    case Op::conv2d:
      return make_conv2d(b);
    case Op::linear:
      return make_linear(b);
    case Op::neuron:
      return make_neuron(b);
    case Op::max_pool2d:
      return make_max_pool2d(b);
    case Op::avg_pool2d:
      return make_avg_pool2d(b);
    case Op::batch_norm:
      return make_batch_norm(b);
    case Op::dropout:
      return make_dropout(b);
    case Op::flatten:
      return make_flatten(b);
    case Op::softmax:
      return make_softmax(b);
    case Op::concat:
      return make_concat(b);
    case Op::add:
      return make_add(b);
    case Op::subtract:
      return make_subtract(b);
    case Op::multiply:
      return make_multiply(b);
    case Op::reduce_mean:
      return make_reduce_mean(b);
    case Op::softmax_cross_entropy:
    case Op::element_loss:
      return make_loss(b);
    case Op::given_loss:
      return make_given_loss(b);
    case Op::total_loss:
      return make_total_loss(b);
    default:
      break;
  }
  throw UnsupportedError("no such op");
}

}  // namespace mps

std::vector<Device> enumerate_mps() {
  std::vector<Device> found;
  mps::pooled([&] {
    NSMutableArray<id<MTLDevice>>* usable = [NSMutableArray<id<MTLDevice>> array];
    for (id<MTLDevice> device in MTLCopyAllDevices())
      if (MPSSupportsMTLDevice(device)) [usable addObject:device];
    std::vector<std::pair<int, NSUInteger>> order;
    for (NSUInteger i = 0; i < usable.count; ++i) order.emplace_back(mps::preference(usable[i]), i);
    std::sort(order.begin(), order.end());
    for (const auto& [rank, i] : order) {
      id<MTLDevice> metal = usable[i];
      Device device;
      device.kind = "mps";
      device.index = static_cast<int>(found.size());
      device.name = metal.name.UTF8String;
      device.memory = static_cast<int64_t>(metal.recommendedMaxWorkingSetSize);
      device.removable = metal.removable;
      device.low_power = metal.lowPower;
      device.headless = metal.headless;
      device.unified_memory = metal.hasUnifiedMemory;
      device.registry_id = metal.registryID;
      device.dtypes = {DType::float32, DType::float16};
      device.dtype_notes = {"twice the memory and bandwidth of float16 images",
                            "half the memory and bandwidth of images; sums stay float32 unless "
                            "accumulator=\"float16\" permits less"};
      device.notes = std::string("Metal Performance Shaders; ") +
                     (metal.removable  ? "removable"
                      : metal.lowPower ? "integrated"
                                       : "built in") +
                     (metal.hasUnifiedMemory ? ", unified memory" : ", memory of its own");
      found.push_back(std::move(device));
    }
  });
  return found;
}

std::unique_ptr<runtime::Backend> create_mps(const Device& device) {
  return std::make_unique<mps::MpsBackend>(device);
}

}  // namespace mpsnn::backend
