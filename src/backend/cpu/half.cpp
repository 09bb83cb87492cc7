// float16 and bfloat16 graphs: values are stored half, most kernels compute float32. Each half
// operand of such a kernel is converted into scratch before it, each half result out of scratch
// after it.
#include <algorithm>

#include "backend/cpu/cpu.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::cpu {
namespace {

bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

void widen(const Conversion& c) {
  const auto* from = c.half.get<uint16_t>();
  auto* to = c.single.get<float>();
  pointwise(c.count, [&](int64_t b, int64_t e) {
    (c.dtype == DType::float16 ? select().from_half : select().from_bfloat)(from + b, to + b,
                                                                            e - b);
  });
}

void narrow(const Conversion& c) {
  const auto* from = c.single.get<float>();
  auto* to = c.half.get<uint16_t>();
  pointwise(c.count, [&](int64_t b, int64_t e) {
    (c.dtype == DType::float16 ? select().to_half : select().to_bfloat)(from + b, to + b, e - b);
  });
}

class HalfKernel final : public runtime::Kernel {
 public:
  HalfKernel(KernelPtr inner, std::vector<Conversion> before, std::vector<Conversion> after)
      : inner_(std::move(inner)), before_(std::move(before)), after_(std::move(after)) {}
  void run(const runtime::StepContext& context) override {
    for (const Conversion& c : before_) widen(c);
    inner_->run(context);
    for (const Conversion& c : after_) narrow(c);
  }
  std::string detail() const override { return inner_->detail() + ", halves converted"; }

 private:
  KernelPtr inner_;
  std::vector<Conversion> before_, after_;
};

// float32 weights of a half graph, rounded to what half copies would hold.
class RoundedWeights final : public runtime::Kernel {
 public:
  RoundedWeights(KernelPtr inner, std::vector<std::pair<runtime::Ref, Conversion>> copies)
      : inner_(std::move(inner)), copies_(std::move(copies)) {}
  void run(const runtime::StepContext& context) override {
    for (const auto& [from, copy] : copies_) {
      narrow({copy.half, from, copy.dtype, copy.count});
      widen(copy);
    }
    inner_->run(context);
  }
  std::string detail() const override { return inner_->detail(); }

 private:
  KernelPtr inner_;
  std::vector<std::pair<runtime::Ref, Conversion>> copies_;
};

constexpr int64_t kBlock = 2048;

}  // namespace

void Epilogue::apply(uint16_t* y, int64_t n) const {
  if (*this) pointwise(n, [&](int64_t b, int64_t e) { apply_here(y + b, e - b); });
}

void Epilogue::apply_here(uint16_t* y, int64_t n) const {
  if (!*this) return;
  float block[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t size = std::min(kBlock, n - i);
    select().from_bfloat(y + i, block, size);
    select().neuron(params, block, block, size);
    select().to_bfloat(block, y + i, size);
  }
}

void Epilogue::gradient(const uint16_t* gy, const uint16_t* y, uint16_t* gz, int64_t n) const {
  pointwise(n, [&](int64_t b, int64_t e) { gradient_here(gy + b, y + b, gz + b, e - b); });
}

void Epilogue::gradient_here(const uint16_t* gy, const uint16_t* y, uint16_t* gz, int64_t n) const {
  float g[kBlock], out[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t size = std::min(kBlock, n - i);
    select().from_bfloat(gy + i, g, size);
    select().from_bfloat(y + i, out, size);
    select().neuron_gradient(params, g, out, g, size);
    select().to_bfloat(g, gz + i, size);
  }
}

bool takes_bfloat(const ir::Plan& plan, const Node& node) {
  const auto is = [&](ValueId id) {
    return id != kNone && plan.values[static_cast<std::size_t>(id)].dtype == DType::bfloat16;
  };
  const auto other = [&](ValueId id) { return id != kNone && !is(id); };
  const bool weighed = node.nx > 1;
  if (!is(node.gradient ? node.gy(0) : node.y(0)) || other(node.x(0)) || (weighed && is(node.x(1))))
    return false;
  return !node.gradient || !(other(node.gx(0)) || (weighed && is(node.gx(1))));
}

runtime::Ref Builder::convert(ValueId id, DType through, std::vector<Conversion>& list) {
  const int64_t n = count(shape(id));
  const Conversion c{base_.ref(id), workspace(static_cast<std::size_t>(n)), through, n};
  list.push_back(c);
  return c.single;
}

std::vector<int64_t> Builder::strides(ValueId id) const {
  const Shape& own = shape(id);
  std::vector<int64_t> strides = ir::dense_strides(own);
  for (std::size_t i = 0; i + 1 < own.size(); ++i) strides[i] = strides[i] / own.back() * pitch(id);
  return strides;
}

bool Builder::constant(const std::vector<ValueId>& values) const {
  if (plan().update) return false;
  for (const ValueId v : values)
    if (v != kNone && base_.value(v).kind != ValueKind::persistent) return false;
  return true;
}

runtime::Ref Builder::in(ValueId id) {
  if (id == kNone || !is_half(base_.value(id).dtype)) return base_.ref(id);
  return convert(id, base_.value(id).dtype, before_);
}

runtime::Ref Builder::weight(ValueId id) {
  if (id == kNone || !is_half(plan().dtype) || is_half(base_.value(id).dtype)) return in(id);
  const int64_t n = count(shape(id));
  const Conversion copy{scratch(static_cast<std::size_t>(n) * 2),
                        workspace(static_cast<std::size_t>(n)), plan().dtype, n};
  rounded_.emplace_back(base_.ref(id), copy);
  return copy.single;
}

runtime::Ref Builder::out(ValueId id) {
  if (id == kNone || !is_half(base_.value(id).dtype)) return base_.ref(id);
  return convert(id, base_.value(id).dtype, after_);
}

KernelPtr Builder::finish(KernelPtr kernel) {
  if (!rounded_.empty())
    kernel = std::make_unique<RoundedWeights>(std::move(kernel), std::move(rounded_));
  if (before_.empty() && after_.empty()) return kernel;
  return std::make_unique<HalfKernel>(std::move(kernel), std::move(before_), std::move(after_));
}

}  // namespace mpsnn::backend::cpu
