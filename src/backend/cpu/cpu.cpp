#include "backend/cpu/cpu.h"

#include <cstring>

#include "backend/cpu/onednn.h"
#include "backend/register.h"
#include "core/host_info.h"

namespace mpsnn::backend {
namespace cpu {
namespace {

using Make = KernelPtr (*)(Builder&, const Node&);

constexpr Make kMake[] = {
#define OP(name, ...) make_##name,
#include "mpsnn/ops.def"
#undef OP
};

// Work that one thread does sooner than a queue thread wakes up: no convolution, and products of at
// most a few hundred microseconds' worth of multiplications.
bool is_small(const ir::Plan& plan) {
  constexpr double kMultiplications = 2e6, kElements = 2e5;
  double multiplications = 0, elements = 0;
  for (const Node& node : plan.nodes) {
    if (node.op == Op::conv2d) return false;
    for (const ValueId v : node.outputs)
      if (v != kNone)
        elements += static_cast<double>(count(plan.values[static_cast<std::size_t>(v)].shape));
    if (node.op != Op::linear) continue;
    const ValueId y = node.gradient ? node.gy(0) : node.outputs[0];
    const ValueId w = node.x(1) != kNone ? node.x(1) : node.gx(1);
    const double work = static_cast<double>(count(plan.values[static_cast<std::size_t>(y)].shape)) *
                        static_cast<double>(plan.values[static_cast<std::size_t>(w)].shape[1]);
    multiplications += node.gradient ? 2 * work : work;
  }
  return multiplications <= kMultiplications && elements <= kElements;
}

class CpuBackend final : public runtime::Backend {
 public:
  explicit CpuBackend(Device device) : device_(std::move(device)) {}
  const Device& device() const override { return device_; }

  Support supports(const ir::Plan& plan, const Node&) const override {
    if (plan.dtype == DType::float64)
      return {false, "float64 is computed by the reference device only"};
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
        if (ir::gradient_from_output(ir::parse_neuron(node.attrs.text("kind")),
                                     node.attrs.number("a")))
          reads.x = 0;
        else
          reads.y = 0;
        break;
      case Op::max_pool2d:
        reads = {0, node.attrs.has("neuron") ? 1u : 0u, 1};
        break;
      case Op::batch_norm:
        reads.y = 0;  // what a fused neuron returned is computed again, which needs the bias
        reads.x = node.attrs.flag("training") ? 0b11 : 0b11011;
        if (node.attrs.has("neuron")) reads.x |= 0b100;
        if (!node.attrs.flag("training")) reads.state = 0;
        break;
      default:
        break;
    }
    return reads;
  }

  Support supports_update(const ir::Update&) const override { return {}; }
  bool fuses(runtime::Pattern, const Node&, const Node&, bool) const override { return true; }
  bool can_alias(const ir::Plan&, const Node&) const override { return true; }
  bool takes_slice(const ir::Plan& plan, const Node& node) const override {
    return node.op == Op::batch_norm && plan.dtype == DType::float32;
  }
  std::size_t state_bytes(const ir::Plan& plan, const Node& node, int) const override {
    const auto elements = static_cast<std::size_t>(
        count(plan.values[static_cast<std::size_t>(node.outputs[0])].shape));
    return node.op == Op::max_pool2d ? elements * sizeof(int32_t) : elements;
  }

  std::unique_ptr<runtime::Storage> allocate(const Shape& shape, DType dtype) override {
    return std::make_unique<runtime::HostStorage>(shape, dtype);
  }

  std::unique_ptr<runtime::Executable> instantiate(
      std::shared_ptr<const ir::Plan> plan,
      const std::vector<runtime::Storage*>& storage) override {
    const bool small = is_small(*plan);
    if (small) threads::set_team(1);
    announce_team();
    return std::make_unique<runtime::LinearExecutable>(
        std::move(plan), storage, arena_,
        [small](runtime::KernelBuilder& base, const Node& node) {
          Builder b(base, small);
          return b.finish(kMake[static_cast<std::size_t>(node.op)](b, node));
        },
        make_update, small);
  }

 private:
  Device device_;
  runtime::Arena arena_;
};

}  // namespace

std::size_t bias_gradient_floats(int64_t c) {
  return static_cast<std::size_t>(threads::team()) * static_cast<std::size_t>(c);
}

void bias_gradient(const float* g, int64_t rows, int64_t c, float* partial, float* gb) {
  const int64_t parts = threads::team();
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r0 = rows * t / parts, r1 = rows * (t + 1) / parts;
      std::memset(partial + t * c, 0, static_cast<std::size_t>(c) * sizeof(float));
      select().column_sums(g + r0 * c, r1 - r0, c, partial + t * c);
    }
  });
  std::memset(gb, 0, static_cast<std::size_t>(c) * sizeof(float));
  select().column_sums(partial, parts, c, gb);
}

}  // namespace cpu

std::vector<Device> enumerate_cpu() {
  Device device;
  device.kind = "cpu";
  device.name = host::cpu_name();
  device.memory = host::total_memory();
  device.dtypes = {DType::float32, DType::float16, DType::bfloat16};
  device.notes = "oneDNN " + cpu::onednn_version() + ", own kernels " + cpu::select().name +
                 "; halves are stored, float32 is computed";
  return {device};
}

std::unique_ptr<runtime::Backend> create_cpu(const Device& device) {
  return std::make_unique<cpu::CpuBackend>(device);
}

}  // namespace mpsnn::backend
