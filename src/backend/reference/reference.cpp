#include "backend/reference/reference.h"

#include <algorithm>

#include "backend/register.h"
#include "core/host_info.h"

namespace mpsnn::backend {
namespace reference {
namespace {

const OpFunctions& functions(Op op) {
  static const OpFunctions none{nullptr, nullptr};
  switch (op) {
#define ROW(name)                                      \
  case Op::name: {                                     \
    static const OpFunctions f{name, name##_gradient}; \
    return f;                                          \
  }
    ROW(conv2d)
    ROW(conv_transpose2d)
    ROW(linear)
    ROW(neuron)
    ROW(prelu)
    ROW(max_pool2d)
    ROW(avg_pool2d)
    ROW(l2_pool2d)
    ROW(resize2d)
    ROW(pad2d)
    ROW(batch_norm)
    ROW(group_norm)
    ROW(layer_norm)
    ROW(local_response_norm)
    ROW(local_contrast_norm)
    ROW(dropout)
    ROW(flatten)
    ROW(softmax)
    ROW(log_softmax)
    ROW(reshape)
    ROW(permute)
    ROW(slice)
    ROW(concat)
    ROW(rnn)
    ROW(embedding)
    ROW(stack)
    ROW(unstack)
    ROW(softmax_cross_entropy)
    ROW(add)
    ROW(subtract)
    ROW(multiply)
    ROW(divide)
    ROW(reduce_sum)
    ROW(reduce_mean)
    ROW(reduce_max)
    ROW(reduce_min)
    ROW(element_loss)
    ROW(cosine_distance)
    ROW(yolo_loss)
    ROW(given_loss)
    ROW(total_loss)
#undef ROW
    case Op::add_n: {
      static const OpFunctions f{add_n, nullptr};  // its gradient is the identity
      return f;
    }
  }
  return none;
}

class ReferenceKernel final : public runtime::Kernel {
 public:
  ReferenceKernel(runtime::KernelBuilder& builder, const Node& node)
      : call_(builder, node),
        function_(node.gradient ? functions(node.op).gradient : functions(node.op).forward) {}
  void run(const runtime::StepContext& context) override {
    call_.set_step(context);
    call_.load();
    function_(call_);
    call_.store();
  }
  std::string detail() const override { return "loops"; }

 private:
  Call call_;
  Function function_;
};

class ReferenceBackend final : public runtime::Backend {
 public:
  explicit ReferenceBackend(Device device) : device_(std::move(device)) {}
  const Device& device() const override { return device_; }

  Support supports(const ir::Plan&, const Node& node) const override {
    const OpFunctions& f = functions(node.op);
    if ((node.gradient ? f.gradient : f.forward) != nullptr) return {};
    return {false, "no such op"};
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
        reads = {offers.x, 0, 0};  // the gradient runs the sequence again
        break;
      default:
        break;
    }
    return reads;
  }

  bool fuses(runtime::Pattern pattern, const Node&, const Node&, bool) const override {
    using runtime::Pattern;
    return pattern == Pattern::gradient_sum || pattern == Pattern::recompute ||
           pattern == Pattern::folded_norm || pattern == Pattern::neuron_epilogue;
  }
  bool can_alias(const ir::Plan&, const Node&) const override { return true; }
  bool takes_slice(const ir::Plan&, const Node&) const override { return true; }
  std::size_t state_bytes(const ir::Plan& plan, const Node& node, int) const override {
    const Shape& y = plan.values[static_cast<std::size_t>(node.outputs[0])].shape;
    const auto elements = static_cast<std::size_t>(count(y));
    if (node.op == Op::max_pool2d) return elements * sizeof(int32_t);
    return node.attrs.flag("spatial") ? static_cast<std::size_t>(y[0] * y.back()) : elements;
  }

  std::unique_ptr<runtime::Storage> allocate(const Shape& shape, DType dtype) override {
    return std::make_unique<runtime::HostStorage>(shape, dtype);
  }

  std::unique_ptr<runtime::Executable> instantiate(
      std::shared_ptr<const ir::Plan> plan,
      const std::vector<runtime::Storage*>& storage) override {
    return std::make_unique<runtime::LinearExecutable>(
        std::move(plan), storage, arena_,
        [](runtime::KernelBuilder& b, const Node& node) {
          return std::make_unique<ReferenceKernel>(b, node);
        },
        make_update, /*small=*/false);
  }

 private:
  Device device_;
  runtime::Arena arena_;
};

}  // namespace

double load_as_double(const void* at, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::float32:
      return static_cast<const float*>(at)[i];
    case DType::float64:
      return static_cast<const double*>(at)[i];
    case DType::float16:
      return half_to_float(static_cast<const uint16_t*>(at)[i]);
    case DType::bfloat16:
      return bfloat_to_float(static_cast<const uint16_t*>(at)[i]);
    case DType::int32:
      return static_cast<const int32_t*>(at)[i];
    case DType::int64:
      return static_cast<double>(static_cast<const int64_t*>(at)[i]);
    case DType::uint8:
      return static_cast<const uint8_t*>(at)[i];
  }
  return 0;
}

void store_double(void* at, DType dtype, int64_t i, double value) {
  switch (dtype) {
    case DType::float32:
      static_cast<float*>(at)[i] = static_cast<float>(value);
      break;
    case DType::float64:
      static_cast<double*>(at)[i] = value;
      break;
    case DType::float16:
      static_cast<uint16_t*>(at)[i] = double_to_half(value);
      break;
    case DType::bfloat16:
      static_cast<uint16_t*>(at)[i] = double_to_bfloat(value);
      break;
    case DType::int32:
      static_cast<int32_t*>(at)[i] = static_cast<int32_t>(value);
      break;
    case DType::int64:
      static_cast<int64_t*>(at)[i] = static_cast<int64_t>(value);
      break;
    case DType::uint8:
      static_cast<uint8_t*>(at)[i] = static_cast<uint8_t>(value);
      break;
  }
}

Call::Call(runtime::KernelBuilder& builder, const Node& node) : plan_(builder.plan()), node_(node) {
  for (const ValueId id : node.inputs) add_operand(builder, id, in_);
  for (const ValueId id : node.outputs) add_operand(builder, id, out_);
  for (const ValueId id : node.states) add_operand(builder, id, out_);
  if (node.gradient) {
    // Absent operands have the shape of their gradient, if that is there.
    for (int i = 0; i < node.nx; ++i)
      forward_x_.push_back(node.x(i) != kNone ? node.x(i) : node.gx(i));
    y_shape_ = node.gy(0) != kNone ? builder.value(node.gy(0)).shape : Shape{};
  } else {
    forward_x_ = node.inputs;
    y_shape_ = builder.value(node.outputs[0]).shape;
  }
  if (node.op == Op::rnn)
    scratch_ = builder.workspace(rnn_scratch(*this) * sizeof(double));
  else if (forward_x_[0] != kNone && !x_shape(0).empty())
    scratch_ = builder.workspace(2 * static_cast<std::size_t>(x_shape(0).back()) * sizeof(double));
  const std::string accumulator = node.attrs.text("accumulator", "");
  half_accumulator_ = plan_.dtype == DType::float16 &&
                      (accumulator == "float16" || (accumulator.empty() && plan_.half_accumulator));
}

void Call::add_operand(runtime::KernelBuilder& builder, ValueId id, std::vector<Operand>& to) {
  if (id == kNone) return;
  for (const Operand& known : to)
    if (known.id == id) return;
  const Value& v = builder.value(id);
  Operand operand{id,
                  builder.ref(id),
                  v.dtype,
                  v.dtype,
                  v.opaque_bytes != 0 || v.shape == Shape{0},
                  count(v.shape),
                  1,
                  1,
                  {}};
  if (const int64_t pitch = plan_.slices[static_cast<std::size_t>(id)].pitch; pitch != 0) {
    operand.channels = v.shape.back();
    operand.pitch = pitch;
  }
  bool weight = false;
  for (int i = 0; i < node_.nx; ++i) weight |= ir::is_weight(node_.op, i) && id == node_.x(i);
  if (weight && plan_.dtype != DType::float64) operand.rounded = plan_.dtype;
  if (!operand.opaque)
    operand.values = builder.workspace(static_cast<std::size_t>(operand.count) * sizeof(double));
  to.push_back(std::move(operand));
}

void Call::load() {
  for (const Operand& o : in_) {
    if (o.opaque) continue;
    const void* from = o.ref.get();
    auto* values = o.values.get<double>();
    each(o.count, 1, [&](int64_t i) {
      double v = load_as_double(from, o.dtype, o.place(i));
      if (o.rounded != o.dtype) {
        if (o.rounded == DType::float16) v = half_to_float(double_to_half(v));
        if (o.rounded == DType::bfloat16) v = bfloat_to_float(double_to_bfloat(v));
      }
      values[i] = v;
    });
  }
  for (const Operand& o : out_)
    if (!o.opaque) std::fill_n(o.values.get<double>(), o.count, 0.0);
}

void Call::store() {
  for (const Operand& o : out_) {
    if (o.opaque) continue;
    void* to = o.ref.get();
    const auto* values = o.values.get<double>();
    each(o.count, 1, [&](int64_t i) { store_double(to, o.dtype, o.place(i), values[i]); });
  }
}

Call::Operand* Call::find(ValueId id) {
  for (Operand& o : in_)
    if (o.id == id) return &o;
  for (Operand& o : out_)
    if (o.id == id) return &o;
  return nullptr;
}
double* Call::at(ValueId id) {
  if (id == kNone) return nullptr;
  Operand* o = find(id);
  return o == nullptr ? nullptr : o->values.get<double>();
}
runtime::Ref Call::ref(ValueId id) {
  Operand* o = id == kNone ? nullptr : find(id);
  return o == nullptr ? runtime::Ref() : o->ref;
}

}  // namespace reference

std::vector<Device> enumerate_reference() {
  Device device;
  device.kind = "reference";
  device.name = "plain loops";
  device.memory = host::total_memory();
  device.dtypes = {DType::float32, DType::float16, DType::bfloat16, DType::float64};
  const std::string halves =
      "half the memory of images, no time: computed in double, each stored value rounded once";
  device.dtype_notes = {"computed in double, each stored value rounded once",
                        halves + "; a half accumulator is simulated, sum by sum", halves,
                        "twice the memory of images and weights; no rounding but double's own"};
  device.notes = "double accumulation; the oracle of the tests";
  return {device};
}

std::unique_ptr<runtime::Backend> create_reference(const Device& device) {
  return std::make_unique<reference::ReferenceBackend>(device);
}

}  // namespace mpsnn::backend
