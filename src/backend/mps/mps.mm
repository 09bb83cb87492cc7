// The mps backend: its devices, what it supports, and the table of operations.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>
#include <cstdlib>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"
#include "backend/register.h"
#include "ir/neuron.h"
#include "ir/rnn.h"
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

// The value a flatten or reshape makes is a view: its readers see the images it came from.
const Shape& images_behind(const ir::Plan& plan, ValueId id) {
  for (const Node& node : plan.nodes)
    if ((node.op == Op::flatten || node.op == Op::reshape) && !node.gradient &&
        node.outputs[0] == id)
      return images_behind(plan, node.inputs[0]);
  return plan.values[static_cast<std::size_t>(id)].shape;
}

// Whether all operands are images, not only the first.
bool several_images(Op op) {
  return op == Op::add || op == Op::subtract || op == Op::multiply || op == Op::divide ||
         op == Op::add_n || op == Op::concat || op == Op::stack;
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

// What a node needs and this backend has not got yet, by name; empty where it has all.
std::string lacking(const Node& node) {
  if (node.attrs.has("neuron") && (node.op == Op::batch_norm || node.op == Op::add))
    return std::string("neuron fused into ") + name_of(node.op);
  if (node.op != Op::neuron && node.op != Op::rnn && !mps_has(ir::epilogue_of(node.attrs)))
    return node.attrs.text("neuron") + " of this kind fused into " + name_of(node.op);
  switch (node.op) {
    case Op::avg_pool2d: {
      const auto& pads = node.attrs.integers("pads");
      const bool uneven = pads[0] != pads[2] || pads[1] != pads[3];
      return uneven && node.attrs.flag("ceil_mode", false) && node.attrs.flag("count_include_pad")
                 ? "ceil_mode with count_include_pad and uneven padding"
                 : "";
    }
    default:
      return "";
  }
}

// MPSNN_SAVE_SECONDS: how old the weights may be that the host has of an external GPU.
double save_seconds() {
  const char* text = std::getenv("MPSNN_SAVE_SECONDS");
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 30;
}

class MpsBackend final : public runtime::Backend {
 public:
  explicit MpsBackend(const Device& device) : device_(device), gpu_(device) {}

  const Device& device() const override { return device_; }

  Support supports(const ir::Plan& plan, const Node& node) const override {
    if (plan.dtype != DType::float32 && plan.dtype != DType::float16)
      return {false, std::string("Metal Performance Shaders has no ") + name_of(plan.dtype)};
    if (const std::string what = lacking(node); !what.empty())
      return {false, "mps has no " + what + " yet"};
    const bool view = node.op == Op::flatten || node.op == Op::reshape;
    if (node.gradient || view) return {};  // as large as the forward node's
    std::vector<ValueId> images{node.outputs[0]};
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (i == 0 || several_images(node.op)) images.push_back(node.inputs[i]);
    for (const ValueId id : images) {
      if (id == kNone) continue;
      const Value& value = plan.values[static_cast<std::size_t>(id)];
      if (value.kind == ValueKind::persistent || !is_floating(value.dtype)) continue;
      if (value.shape.size() > MPSNN_MOST_AXES) return {false, "arrays have at most 8 axes"};
      const Shape& shape =
          node.op == Op::linear && id == node.inputs[0] ? images_behind(plan, id) : value.shape;
      if (const std::string why = too_large(shape); !why.empty()) return {false, why};
    }
    return {};
  }

  ir::Reads saves(const ir::Plan&, const Node& node, ir::Reads offers) const override {
    ir::Reads reads = offers;
    switch (node.op) {
      case Op::conv2d:
      case Op::conv_transpose2d:
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
        if (node.nx <= 5)
          reads = node.attrs.flag("training") ? ir::Reads{0b1, 0, 0} : ir::Reads{0b11011, 0, 0};
        break;
      case Op::rnn:
        reads.y = 0;
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
  bool fuses(runtime::Pattern pattern, const Node& node, const Node& next,
             bool training) const override {
    const bool takes =
        node.op == Op::conv2d || node.op == Op::conv_transpose2d || node.op == Op::linear;
    return pattern == runtime::Pattern::neuron_epilogue && takes && !training &&
           mps_has(ir::neuron_of(next.attrs));
  }
  bool can_alias(const ir::Plan&, const Node& node) const override {
    return node.op != Op::stack && node.op != Op::unstack;  // images are whole
  }
  std::size_t state_bytes(const ir::Plan& plan, const Node& node, int) const override {
    if (node.op != Op::rnn || rnn_has_layer(plan, node)) return 0;  // MPS keeps its states itself
    const auto shape = [&](int i) -> const Shape& {
      return plan.values[static_cast<std::size_t>(node.x(i))].shape;
    };
    return rnn_state_bytes(shape(ir::rnn_operand::x), shape(ir::rnn_operand::weight_hh),
                           node.attrs);
  }
  int channel_alignment() const override { return 4; }
  double save_interval() const override { return device_.removable ? save_seconds() : 0; }
  bool lost() const override { return gpu_.lost(); }

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
    case Op::conv_transpose2d:
      return make_conv_transpose2d(b);
    case Op::linear:
      return make_linear(b);
    case Op::neuron:
      return make_neuron(b);
    case Op::prelu:
      return make_prelu(b);
    case Op::max_pool2d:
    case Op::avg_pool2d:
    case Op::l2_pool2d:
      return make_pool(b);
    case Op::resize2d:
    case Op::pad2d:
      return make_resample(b);
    case Op::batch_norm:
      return b.node().nx > 5 ? make_masked_norm(b) : make_batch_norm(b);
    case Op::group_norm:
    case Op::layer_norm:
      return make_set_norm(b);
    case Op::local_response_norm:
    case Op::local_contrast_norm:
      return make_local_norm(b);
    case Op::dropout:
      return make_dropout(b);
    case Op::flatten:
    case Op::reshape:
      return make_flatten(b);
    case Op::softmax:
    case Op::log_softmax:
      return make_softmax(b);
    case Op::permute:
      return make_permute(b);
    case Op::slice:
      return make_slice(b);
    case Op::concat:
      return make_concat(b);
    case Op::stack:
      return make_stack(b);
    case Op::unstack:
      return make_unstack(b);
    case Op::add:
    case Op::subtract:
    case Op::multiply:
    case Op::divide:
      return make_arithmetic(b);
    case Op::add_n:
      return make_sum(b);
    case Op::reduce_sum:
    case Op::reduce_mean:
    case Op::reduce_max:
    case Op::reduce_min:
      return make_reduction(b);
    case Op::rnn:
      return make_rnn(b);
    case Op::embedding:
      return make_embedding(b);
    case Op::softmax_cross_entropy:
    case Op::element_loss:
      return make_loss(b);
    case Op::cosine_distance:
    case Op::yolo_loss:
    case Op::given_loss:
      return make_unit_loss(b);
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
