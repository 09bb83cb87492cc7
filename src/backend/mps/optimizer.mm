// The end of a training step (ir::Update) by our own kernels, on the step's command buffer: the
// finite flag, loss scale, norm and counters are device memory, so that no decision waits for the
// host. MPSNNOptimizer* would take one state at a time, put Adam's epsilon elsewhere, keep the rate
// in SGD's momentum and know no flag. While it writes, the counters say "failed": steps that are
// queued behind a command buffer that breaks off in between leave everything as it is.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>
#include <cmath>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

namespace mpsnn::backend::mps {
namespace {

constexpr int kPartials = 256;  // of a sum over all gradients; a fixed order, so that runs repeat

class Update final : public UpdateOperation {
 public:
  Update(Gpu& gpu, const ir::Plan& plan, Buffer gradients, int64_t count, int64_t all)
      : gpu_(gpu), plan_(plan), update_(*plan.update), gradients_(gradients), count_(count) {
    const int partials =
        static_cast<int>(std::min<int64_t>(kPartials, std::max<int64_t>(count, 1)));
    partial_ = {static_cast<int>(count), partials,
                update_.clip_value ? static_cast<float>(*update_.clip_value) : -1.0f};
    every_ = partial_;
    every_.count = static_cast<int>(all);
    decide_.partials = count == 0 ? 0 : partials;
    decide_.joined = update_.further.empty() ? 0 : 1;
    decide_.losses = static_cast<int>(update_.losses.size());
    decide_.check_finite = update_.check_finite ? 1 : 0;
    decide_.dynamic = update_.loss_scale.mode == LossScale::Mode::dynamic ? 1 : 0;
    decide_.growth_interval = static_cast<int>(update_.loss_scale.growth_interval);
    decide_.most_scale = static_cast<float>(update_.loss_scale.most);
    decide_.accumulate = update_.accumulate;
    decide_.has_weights = update_.weight_total != kNone ? 1 : 0;
    decide_.has_items = update_.items.empty() ? 0 : 1;
    decide_.clip_norm = update_.clip_norm ? static_cast<float>(*update_.clip_norm) : -1.0f;
    found_ = {gpu.buffer(kPartials * 4, Use::gpu), 0};
    sums_ = {gpu.buffer(kPartials * 4, Use::gpu), 0};
    losses_ = {gpu.buffer(std::max<std::size_t>(update_.losses.size(), 1) * 4, Use::gpu), 0};
    control_ = {gpu.buffer(sizeof(UpdateControlBlock), Use::gpu), 0};
  }

  void encode(Encoding& e, Buffer status) override {
    gather(e);
    const Buffer counters = e.buffer(update_.counters), scale = e.buffer(plan_.loss_scale);
    const auto any = [&](ValueId v) { return v == kNone ? scale : e.buffer(v); };
    if (count_ != 0)
      e.run(gpu_.pipeline("find_non_finite"), {gradients_, found_}, every_, every_.partials);
    e.run(gpu_.pipeline("decide"),
          {found_, losses_, any(update_.weight_sum), counters, scale, any(update_.weight_total),
           control_},
          decide_, 1);
    for (const ir::WeightShare& share : update_.further)
      if (share.total != kNone)
        e.run(gpu_.pipeline("add_share_weights"),
              {e.buffer(share.sum), e.buffer(share.total), control_}, CountParams{1}, 1);
    if (update_.accumulate > 1)
      for (const ir::UpdateItem& item : update_.items) accumulate(e, item);
    if (update_.clip_norm && count_ != 0)
      e.run(gpu_.pipeline("square_sums"), {gradients_, control_, sums_}, partial_,
            partial_.partials);
    e.run(gpu_.pipeline("conclude"), {sums_, counters, scale, control_}, decide_, 1);
    for (const ir::UpdateItem& item : update_.items) {
      apply(e, item);
      if (item.average != kNone && item.host_gradient == kNone) average(e, item);
    }
    for (const ir::RunningStatistic& s : update_.statistics) {
      const StatisticParams p{static_cast<int>(count(value(s.running).shape)),
                              static_cast<float>(s.momentum), static_cast<float>(s.factor),
                              s.count != kNone ? 1 : 0};
      const Buffer batch = e.buffer(s.batch), rows = p.counted != 0 ? e.buffer(s.count) : batch;
      e.run(gpu_.pipeline("running_statistic"), {e.buffer(s.running), batch, rows, control_}, p,
            p.count);
    }
    e.run(gpu_.pipeline("finish"), {counters, control_}, CountParams{1}, 1);
    e.copy(control_, status, sizeof(UpdateControlBlock));
  }

 private:
  const Value& value(ValueId id) const { return plan_.values[static_cast<std::size_t>(id)]; }
  int size(const ir::UpdateItem& item) const {
    return static_cast<int>(count(value(item.parameter).shape));
  }

  // Operations wrote the gradients to their places in the vector; losses come beside each other.
  void gather(Encoding& e) {
    for (std::size_t i = 0; i < update_.losses.size(); ++i)
      e.copy(e.buffer(update_.losses[i]), {losses_.buffer, i * 4}, 4);
  }

  // Each loss's gradients in a sum of their own, and where there are several, all of them joined.
  void accumulate(Encoding& e, const ir::UpdateItem& item) {
    std::vector<ir::GradientShare> shares{{item.gradient, item.accumulator, item.share}};
    shares.insert(shares.end(), item.further.begin(), item.further.end());
    for (const ir::GradientShare& s : shares)
      e.run(gpu_.pipeline("accumulate"), {e.buffer(s.gradient), e.buffer(s.accumulator), control_},
            CountParams{size(item)}, size(item));
    if (update_.further.empty()) return;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      const std::size_t share = shares[i].share;
      const ValueId total = share == 0 ? update_.weight_total : update_.further[share - 1].total;
      const Buffer sums = e.buffer(shares[i].accumulator);
      e.run(gpu_.pipeline("join_share"),
            {sums, total == kNone ? sums : e.buffer(total), e.buffer(item.gradient), control_},
            JoinParams{size(item), i > 0 ? 1 : 0, total != kNone ? 1 : 0}, size(item));
    }
  }

  void apply(Encoding& e, const ir::UpdateItem& item) {
    const Hyper& h = update_.groups[static_cast<std::size_t>(item.group)];
    const auto f = [](double v) { return static_cast<float>(v); };
    ApplyParams p{};
    p.count = size(item);
    p.clip_value = partial_.limit;
    p.rate = f(e.scalars().rates[item.group]);
    p.weight_decay = f(h.weight_decay);
    p.momentum = f(h.momentum);
    p.undamped = f(1 - h.dampening);
    p.nesterov = h.nesterov ? 1 : 0;
    p.beta1 = f(h.beta1);
    p.beta2 = f(h.beta2);
    p.rest1 = f(1 - h.beta1);
    p.rest2 = f(1 - h.beta2);
    p.log_beta1 = f(std::log(h.beta1));
    p.log_beta2 = f(std::log(h.beta2));
    p.epsilon = f(h.epsilon);
    p.alpha = f(h.alpha);
    p.rest_alpha = f(1 - h.alpha);
    p.centered = h.centered ? 1 : 0;
    p.decoupled = update_.kind == OptimizerKind::adamw ? 1 : 0;
    const Buffer gradient = e.buffer(item.gradient), parameter = e.buffer(item.parameter);
    if (item.host_gradient != kNone) {
      e.run(gpu_.pipeline("leave_gradient"), {gradient, e.buffer(item.host_gradient), control_}, p,
            p.count);
      return;
    }
    // Moments that this configuration lacks are never touched; the parameter stands in for them.
    std::size_t next = 0;
    const auto moment = [&](bool has) { return has ? e.buffer(item.moments[next++]) : parameter; };
    switch (update_.kind) {
      case OptimizerKind::sgd:
        e.run(gpu_.pipeline("apply_sgd"), {gradient, parameter, moment(h.momentum != 0), control_},
              p, p.count);
        break;
      case OptimizerKind::adam:
      case OptimizerKind::adamw: {
        const Buffer first = moment(true), second = moment(true);
        e.run(gpu_.pipeline("apply_adam"), {gradient, parameter, first, second, control_}, p,
              p.count);
        break;
      }
      case OptimizerKind::rmsprop: {
        const Buffer square = moment(true), momentum = moment(h.momentum != 0),
                     mean = moment(h.centered);
        e.run(gpu_.pipeline("apply_rmsprop"),
              {gradient, parameter, square, momentum, mean, control_}, p, p.count);
        break;
      }
    }
  }

  void average(Encoding& e, const ir::UpdateItem& item) {
    const auto keep = static_cast<float>(update_.average_decay);
    const AverageParams p{size(item), keep, 1 - keep};
    e.run(gpu_.pipeline("move_average"),
          {e.buffer(item.parameter), e.buffer(item.average), control_}, p, p.count);
  }

  Gpu& gpu_;
  const ir::Plan& plan_;
  const ir::Update& update_;
  Buffer gradients_;
  int64_t count_;
  PartialParams partial_{}, every_{};  // of what is trained; of all in the vector
  DecideParams decide_{};
  Buffer found_, sums_, losses_, control_;
};

}  // namespace

std::unique_ptr<UpdateOperation> make_update(Gpu& gpu, const ir::Plan& plan, Buffer gradients,
                                             int64_t count, int64_t all) {
  return std::make_unique<Update>(gpu, plan, gradients, count, all);
}

}  // namespace mpsnn::backend::mps
