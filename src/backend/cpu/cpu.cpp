#include "backend/cpu/cpu.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/onednn.h"
#include "backend/register.h"
#include "core/host_info.h"
#include "ir/rnn.h"

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
    if (node.op == Op::conv2d || node.op == Op::conv_transpose2d) return false;
    const auto shape = [&](ValueId v) -> const Shape& {
      return plan.values[static_cast<std::size_t>(v)].shape;
    };
    double made = 0, read = 0;
    for (const ValueId v : node.outputs)
      if (v != kNone) made += static_cast<double>(count(shape(v)));
    if (node.inputs[0] != kNone)  // a reduction reads more than it makes
      read = static_cast<double>(count(shape(node.inputs[0])));
    elements += std::max(made, read);
    double work = 0;
    if (node.op == Op::rnn) {
      const Shape& x = shape(node.x(ir::rnn_operand::x));
      work = static_cast<double>(count(x) / x.back()) *
             static_cast<double>(count(shape(node.x(ir::rnn_operand::weight_ih))) +
                                 count(shape(node.x(ir::rnn_operand::weight_hh))));
    } else if (node.op == Op::linear) {
      const ValueId y = node.gradient ? node.gy(0) : node.outputs[0];
      const ValueId w = node.x(1) != kNone ? node.x(1) : node.gx(1);
      work = static_cast<double>(count(shape(y))) * static_cast<double>(shape(w)[1]);
    }
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
    if (plan.dtype == DType::bfloat16 && !multiplies_bfloat())
      return {false, "bfloat16 needs a CPU with AVX512-BF16"};
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
        if (ir::gradient_from_output(ir::neuron_of(node.attrs)))
          reads.x = 0;
        else
          reads.y = 0;
        break;
      case Op::max_pool2d:
        reads = {0, node.attrs.has("neuron") ? 1u : 0u, 1};
        break;
      case Op::batch_norm:
        reads.y = 0;  // what a fused neuron returned is computed again, which needs the bias
        reads.x = node.attrs.flag("training") ? 0b100011 : 0b111011;
        if (node.attrs.has("neuron")) reads.x |= 0b100;
        if (!node.attrs.flag("training")) reads.state = 0;
        break;
      case Op::rnn:
        reads.x &= ~(1u << ir::rnn_operand::bias | 1u << ir::rnn_operand::bias_hn);
        break;
      default:
        break;
    }
    return reads;
  }

  bool fuses(runtime::Pattern pattern, const Node& node, const Node&, bool) const override {
    using runtime::Pattern;
    switch (pattern) {
      case Pattern::gradient_sum:
      case Pattern::recompute:
      case Pattern::folded_norm:
      case Pattern::neuron_epilogue:
      case Pattern::loss_gradient:
      case Pattern::pooled_norm:
        return true;
      case Pattern::added_gradient:
        return node.op == Op::avg_pool2d;
    }
    return false;
  }
  bool can_alias(const ir::Plan&, const Node&) const override { return true; }
  bool takes_slice(const ir::Plan& plan, const Node& node) const override {
    return cpu::takes_slice(plan, node);
  }
  uint64_t overwrites(const ir::Plan&, const Node& node) const override {
    return cpu::overwrites(node);
  }
  std::size_t state_bytes(const ir::Plan& plan, const Node& node, int) const override {
    if (node.op == Op::rnn) return rnn_state_bytes(plan, node);
    const Shape& y = plan.values[static_cast<std::size_t>(node.outputs[0])].shape;
    const auto elements = static_cast<std::size_t>(count(y));
    if (node.op == Op::max_pool2d || node.op == Op::batch_norm) return elements * sizeof(int32_t);
    return node.attrs.flag("spatial") ? static_cast<std::size_t>(y[0] * y.back()) : elements;
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
  return static_cast<std::size_t>(threads::team() * apart<float>(c));
}

void bias_gradient(const float* g, int64_t rows, int64_t c, float* partial, float* gb) {
  const int64_t parts = threads::team(), pitch = apart<float>(c);
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r0 = rows * t / parts, r1 = rows * (t + 1) / parts;
      std::memset(partial + t * pitch, 0, static_cast<std::size_t>(c) * sizeof(float));
      select().column_sums(g + r0 * c, r1 - r0, c, partial + t * pitch);
    }
  });
  std::copy_n(partial, c, gb);
  for (int64_t t = 1; t < parts; ++t) select().add(gb, partial + t * pitch, gb, c);
}

}  // namespace cpu

std::vector<Device> enumerate_cpu() {
  Device device;
  device.kind = "cpu";
  device.name = host::cpu_name();
  device.memory = host::total_memory();
  device.dtypes = {DType::float32, DType::float16};
  device.dtype_notes = {"stored and computed as such",
                        "half the memory of images; every kernel converts its halves and computes "
                        "float32, which takes time, and saves it only where memory is the limit"};
  device.notes = "oneDNN " + cpu::onednn_version() + ", own kernels " + cpu::select().name +
                 "; float16 is stored, float32 is computed";
  if (cpu::multiplies_bfloat()) {
    device.dtypes.push_back(DType::bfloat16);
    device.dtype_notes.push_back(
        "half the memory of images; convolutions and dense layers multiply bfloat16 and sum "
        "float32 (AVX512-BF16), the faster the more there are of them; batch-norm, pooling, sums "
        "and joins read and write it; other kernels convert and compute float32; the range of "
        "float32 needs no loss scale");
    device.notes += "; products of bfloat16 are computed";
  }
  return {device};
}

std::unique_ptr<runtime::Backend> create_cpu(const Device& device) {
  return std::make_unique<cpu::CpuBackend>(device);
}

}  // namespace mpsnn::backend
