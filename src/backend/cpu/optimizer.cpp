// The end of a training step (ir::Update): one pass over the gradients to see that they are finite
// and for their norm, one fused pass to update. Work is cut into pieces once; sums are added in
// order, so results do not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {
namespace {

struct Share {
  runtime::Ref gradient, accumulator;
  std::size_t index;
};
struct Item {
  runtime::Ref parameter, host_gradient, average;
  std::vector<Share> shares;
  std::vector<runtime::Ref> moments;
  std::size_t group;
};
struct Piece {
  std::size_t item;
  int64_t begin, size;
};

class CpuUpdate final : public runtime::UpdateKernel {
 public:
  CpuUpdate(runtime::KernelBuilder& b, const ir::Update& update)
      : update_(update), control_(b, update) {
    constexpr int64_t kPiece = 32768;
    for (const ir::UpdateItem& i : update.items) {
      Item item{b.ref(i.parameter),
                b.ref(i.host_gradient),
                b.ref(i.average),
                {{b.ref(i.gradient), b.ref(i.accumulator), i.share}},
                {},
                static_cast<std::size_t>(i.group)};
      for (const ir::GradientShare& s : i.further)
        item.shares.push_back({b.ref(s.gradient), b.ref(s.accumulator), s.share});
      for (const ValueId m : i.moments) item.moments.push_back(b.ref(m));
      const int64_t n = count(b.value(i.parameter).shape);
      for (int64_t begin = 0; begin < n; begin += kPiece)
        pieces_.push_back({items_.size(), begin, std::min(kPiece, n - begin)});
      total_ += n;
      items_.push_back(std::move(item));
    }
    squares_ = b.workspace(std::max<std::size_t>(pieces_.size(), 1) * sizeof(double));
  }

  runtime::StepStatus run(const runtime::StepContext& context) override {
    runtime::StepStatus status;
    status.loss_scale = control_.scale();
    status.blocked = control_.blocked();
    if (status.blocked) return status;
    const auto unscale = static_cast<float>(1 / control_.scale());
    const bool accumulates = update_.accumulate > 1;
    const bool looks = update_.check_finite || update_.clip_norm;
    double sum = 0;
    if (looks) sum = sum_squares(/*accumulated=*/false, unscale);
    // Infinite only by overflow of the sum itself: look again without the squares' range.
    const bool finite = control_.losses_finite() && (std::isfinite(sum) || !looks || all_finite());
    if (!control_.accept(finite, status)) return status;
    if (accumulates) accumulate(unscale);
    if (control_.ready()) {
      const float factor = update_.further.empty() ? static_cast<float>(control_.factor()) : join();
      if (update_.clip_norm && accumulates) sum = sum_squares(/*accumulated=*/true, factor);
      // torch.nn.utils.clip_grad_norm_
      const double shrink =
          update_.clip_norm ? std::min(1.0, *update_.clip_norm / (std::sqrt(sum) + 1e-6)) : 1;
      apply(context.scalars.rates, factor, static_cast<float>(shrink));
      control_.updated(status);
    }
    control_.update_statistics();
    return status;
  }

 private:
  float limit() const {
    return update_.clip_value ? static_cast<float>(*update_.clip_value)
                              : std::numeric_limits<float>::infinity();
  }

  // Pieces by all threads; f(piece index, piece, item).
  template <class F>
  void over_pieces(F f) {
    const auto n = static_cast<int64_t>(pieces_.size());
    const int64_t grain = total_ < 65536 ? n : 1;
    threads::parallel_for(n, std::max<int64_t>(grain, 1), [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        f(i, pieces_[i], items_[pieces_[i].item]);
    });
  }

  double sum_squares(bool accumulated, float factor) {
    auto* squares = squares_.get<double>();
    over_pieces([&](std::size_t i, const Piece& p, const Item& item) {
      const Share& share = item.shares[0];
      const auto* g = (accumulated ? share.accumulator : share.gradient).get<float>() + p.begin;
      // A clamp would hide what is not finite.
      const bool clamp = update_.clip_norm && !(update_.accumulate > 1 && !accumulated);
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      squares[i] = select().sum_squares({g, factor, kInfinity, 1.0f}, p.size);
      for (std::size_t s = 1; !accumulated && s < item.shares.size(); ++s)
        squares[i] += select().sum_squares(
            {item.shares[s].gradient.get<float>() + p.begin, factor, kInfinity, 1.0f}, p.size);
      if (clamp && update_.clip_value && std::isfinite(squares[i]))
        squares[i] = select().sum_squares({g, factor, limit(), 1.0f}, p.size);
    });
    double sum = 0;
    for (std::size_t i = 0; i < pieces_.size(); ++i) sum += squares[i];
    return sum;
  }

  bool all_finite() const {
    for (const Piece& p : pieces_)
      for (const Share& share : items_[p.item].shares) {
        const auto* g = share.gradient.get<float>() + p.begin;
        for (int64_t i = 0; i < p.size; ++i)
          if (!std::isfinite(g[i])) return false;
      }
    return true;
  }

  void accumulate(float factor) {
    const bool first = control_.first();
    over_pieces([&](std::size_t, const Piece& p, const Item& item) {
      for (const Share& share : item.shares)
        select().accumulate(share.gradient.get<float>() + p.begin, factor, first,
                            share.accumulator.get<float>() + p.begin, p.size);
    });
  }

  // The shares' sums into the first accumulator, each with its factor; what is left to multiply by.
  float join() {
    over_pieces([&](std::size_t, const Piece& p, const Item& item) {
      auto* whole = item.shares[0].accumulator.get<float>() + p.begin;
      for (std::size_t s = 0; s < item.shares.size(); ++s)
        select().accumulate(item.shares[s].accumulator.get<float>() + p.begin,
                            static_cast<float>(control_.factor(item.shares[s].index)), s == 0,
                            whole, p.size);
    });
    return 1;
  }

  void apply(const double* rates, float factor, float shrink) {
    const int32_t t = control_.updates() + 1;
    over_pieces([&](std::size_t, const Piece& p, const Item& item) {
      const Hyper& h = update_.groups[item.group];
      const double lr = rates[item.group];
      auto* w = item.parameter.get<float>() + p.begin;
      const Share& share = item.shares[0];
      const auto* g =
          (share.accumulator ? share.accumulator : share.gradient).get<float>() + p.begin;
      const GradientView view{g, factor, limit(), shrink};
      if (item.host_gradient) {
        auto* to = item.host_gradient.get<float>() + p.begin;
        for (int64_t i = 0; i < p.size; ++i)
          to[i] = std::clamp(g[i] * factor, -limit(), limit()) * shrink;
        return;
      }
      const auto moment = [&](std::size_t i) { return item.moments[i].get<float>() + p.begin; };
      const auto decay = static_cast<float>(h.weight_decay);
      switch (update_.kind) {
        case OptimizerKind::sgd: {
          const bool first = t == 1;
          const SgdStep step{static_cast<float>(lr),
                             static_cast<float>(h.momentum),
                             first ? 1.0f : static_cast<float>(1 - h.dampening),
                             decay,
                             h.nesterov,
                             first};
          select().sgd(step, view, w, item.moments.empty() ? nullptr : moment(0), p.size);
          break;
        }
        case OptimizerKind::adam:
        case OptimizerKind::adamw: {
          const bool decoupled = update_.kind == OptimizerKind::adamw;
          const AdamStep step{static_cast<float>(lr / (1 - std::pow(h.beta1, t))),
                              static_cast<float>(h.beta1),
                              static_cast<float>(h.beta2),
                              static_cast<float>(h.epsilon),
                              static_cast<float>(std::sqrt(1 - std::pow(h.beta2, t))),
                              decoupled ? 0.0f : decay,
                              decoupled ? static_cast<float>(1 - lr * h.weight_decay) : 1.0f};
          select().adam(step, view, w, moment(0), moment(1), p.size);
          break;
        }
        case OptimizerKind::rmsprop: {
          const RmsStep step{static_cast<float>(lr), static_cast<float>(h.alpha),
                             static_cast<float>(h.epsilon), decay, static_cast<float>(h.momentum)};
          std::size_t next = 1;
          float* buffer = h.momentum != 0 ? moment(next++) : nullptr;
          float* mean = h.centered ? moment(next) : nullptr;
          select().rmsprop(step, view, w, moment(0), buffer, mean, p.size);
          break;
        }
      }
      if (!item.average) return;
      auto* average = item.average.get<float>() + p.begin;
      const auto keep = static_cast<float>(update_.average_decay), blend = 1 - keep;
      for (int64_t i = 0; i < p.size; ++i)
        average[i] = t == 1 ? w[i] : keep * average[i] + blend * w[i];
    });
  }

  const ir::Update& update_;
  runtime::UpdateControl control_;
  std::vector<Item> items_;
  std::vector<Piece> pieces_;
  runtime::Ref squares_;
  int64_t total_ = 0;
};

}  // namespace

std::unique_ptr<runtime::UpdateKernel> make_update(runtime::KernelBuilder& builder,
                                                   const ir::Update& update) {
  return std::make_unique<CpuUpdate>(builder, update);
}

}  // namespace mpsnn::backend::cpu
