// The end of a training step (ir::Update), element by element in double. The decisions are those of
// runtime::UpdateControl; the formulas are PyTorch's.
#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"

namespace mpsnn::backend::reference {
namespace {

struct Share {
  runtime::Ref gradient, accumulator;
  std::size_t index;
};
struct Item {
  runtime::Ref parameter, host_gradient, average;
  std::vector<Share> shares;
  DType gradient_dtype;
  std::vector<runtime::Ref> moments;
  int64_t count;
  std::size_t group;
};

class ReferenceUpdate final : public runtime::UpdateKernel {
 public:
  ReferenceUpdate(runtime::KernelBuilder& b, const ir::Update& update)
      : update_(update), control_(b, update), master_(master_dtype(b.plan().dtype)) {
    for (const ir::UpdateItem& i : update.items) {
      Item item{b.ref(i.parameter),
                b.ref(i.host_gradient),
                b.ref(i.average),
                {{b.ref(i.gradient), b.ref(i.accumulator), i.share}},
                b.value(i.gradient).dtype,
                {},
                count(b.value(i.parameter).shape),
                static_cast<std::size_t>(i.group)};
      for (const ir::GradientShare& s : i.further)
        item.shares.push_back({b.ref(s.gradient), b.ref(s.accumulator), s.share});
      for (const ValueId m : i.moments) item.moments.push_back(b.ref(m));
      items_.push_back(std::move(item));
    }
  }

  runtime::StepStatus run(const runtime::StepContext& context) override {
    runtime::StepStatus status;
    status.loss_scale = control_.scale();
    status.blocked = control_.blocked();
    if (status.blocked) return status;
    if (!control_.accept(finite(), status)) return status;
    if (update_.accumulate > 1) accumulate();
    if (control_.ready()) {
      const double norm = update_.clip_norm ? std::sqrt(square_norm()) : 0;
      // torch.nn.utils.clip_grad_norm_
      const double shrink =
          update_.clip_norm ? std::min(1.0, *update_.clip_norm / (norm + 1e-6)) : 1;
      for (Item& item : items_) apply(item, context.scalars.rates[item.group], shrink);
      control_.updated(status);
    }
    control_.update_statistics();
    return status;
  }

 private:
  double get(const runtime::Ref& ref, int64_t i) const {
    return load_as_double(ref.get(), master_, i);
  }
  void set(const runtime::Ref& ref, int64_t i, double v) const {
    store_double(ref.get(), master_, i, v);
  }

  bool finite() const {
    if (!control_.losses_finite()) return false;
    for (const Item& item : items_)
      for (const Share& share : item.shares)
        for (int64_t i = 0; i < item.count; ++i)
          if (!std::isfinite(load_as_double(share.gradient.get(), item.gradient_dtype, i)))
            return false;
    return true;
  }

  void accumulate() {
    const bool first = control_.first();
    for (const Item& item : items_)
      for (const Share& share : item.shares)
        for (int64_t i = 0; i < item.count; ++i) {
          const double g =
              load_as_double(share.gradient.get(), item.gradient_dtype, i) / control_.scale();
          set(share.accumulator, i, (first ? 0 : get(share.accumulator, i)) + g);
        }
  }

  double gradient(const Item& item, int64_t i) const {
    double g = 0;
    for (const Share& share : item.shares)
      g += control_.factor(share.index) *
           (share.accumulator ? get(share.accumulator, i)
                              : load_as_double(share.gradient.get(), item.gradient_dtype, i));
    if (update_.clip_value) g = std::clamp(g, -*update_.clip_value, *update_.clip_value);
    return g;
  }

  double square_norm() const {
    double sum = 0;
    for (const Item& item : items_)
      for (int64_t i = 0; i < item.count; ++i) sum += gradient(item, i) * gradient(item, i);
    return sum;
  }

  void apply(Item& item, double lr, double shrink) {
    const Hyper& h = update_.groups[item.group];
    const int32_t t = control_.updates() + 1;
    const double correct1 = 1 - std::pow(h.beta1, t), correct2 = 1 - std::pow(h.beta2, t);
    for (int64_t i = 0; i < item.count; ++i) {
      double w = get(item.parameter, i), g = gradient(item, i) * shrink;
      if (item.host_gradient) {
        set(item.host_gradient, i, g);
        continue;
      }
      if (update_.kind == OptimizerKind::adamw)
        w *= 1 - lr * h.weight_decay;
      else
        g += h.weight_decay * w;
      switch (update_.kind) {
        case OptimizerKind::sgd:
          if (h.momentum != 0) {
            const double b =
                t == 1 ? g : h.momentum * get(item.moments[0], i) + (1 - h.dampening) * g;
            set(item.moments[0], i, b);
            g = h.nesterov ? g + h.momentum * b : b;
          }
          w -= lr * g;
          break;
        case OptimizerKind::adam:
        case OptimizerKind::adamw: {
          const double m = h.beta1 * get(item.moments[0], i) + (1 - h.beta1) * g;
          const double v = h.beta2 * get(item.moments[1], i) + (1 - h.beta2) * g * g;
          set(item.moments[0], i, m);
          set(item.moments[1], i, v);
          w -= lr / correct1 * m / (std::sqrt(v) / std::sqrt(correct2) + h.epsilon);
          break;
        }
        case OptimizerKind::rmsprop: {
          std::size_t next = 1;
          const double v = h.alpha * get(item.moments[0], i) + (1 - h.alpha) * g * g;
          set(item.moments[0], i, v);
          const std::size_t buffer = h.momentum != 0 ? next++ : 0;
          double average = v;
          if (h.centered) {
            const double mean = h.alpha * get(item.moments[next], i) + (1 - h.alpha) * g;
            set(item.moments[next], i, mean);
            average -= mean * mean;
          }
          double step = g / (std::sqrt(average) + h.epsilon);
          if (buffer != 0) {
            step += h.momentum * get(item.moments[buffer], i);
            set(item.moments[buffer], i, step);
          }
          w -= lr * step;
          break;
        }
      }
      set(item.parameter, i, w);
      if (item.average) {
        const double d = t == 1 ? 0 : update_.average_decay;
        set(item.average, i, d * (t == 1 ? 0 : get(item.average, i)) + (1 - d) * w);
      }
    }
  }

  const ir::Update& update_;
  runtime::UpdateControl control_;
  DType master_;
  std::vector<Item> items_;
};

}  // namespace

std::unique_ptr<runtime::UpdateKernel> make_update(runtime::KernelBuilder& builder,
                                                   const ir::Update& update) {
  return std::make_unique<ReferenceUpdate>(builder, update);
}

}  // namespace mpsnn::backend::reference
