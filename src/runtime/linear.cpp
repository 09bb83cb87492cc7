#include "runtime/linear.h"

#include <algorithm>
#include <cstring>

#include "mpsnn/error.h"
#include "runtime/staging.h"

namespace mpsnn::runtime {
namespace {

std::size_t bytes_of(const Value& value) {
  return value.opaque_bytes != 0
             ? value.opaque_bytes
             : static_cast<std::size_t>(count(value.shape)) * size_of(value.dtype);
}

Ref place_of(const ir::Plan& plan, std::vector<void*>& table, ValueId id) {
  const auto at = static_cast<std::size_t>(id), root = static_cast<std::size_t>(plan.alias[at]);
  if (bytes_of(plan.values[root]) == 0) return {};
  const auto offset = static_cast<std::size_t>(plan.slices[at].offset);
  return Ref(&table[root], offset * size_of(plan.values[at].dtype));
}

}  // namespace

HostStorage::HostStorage(const Shape& shape, DType dtype) : tensor_(shape, dtype) {}
void HostStorage::write(const Tensor& canonical) {
  std::memcpy(tensor_.data(), canonical.data(), tensor_.bytes());
}
void HostStorage::read(Tensor& canonical) const {
  std::memcpy(canonical.data(), tensor_.data(), tensor_.bytes());
}

Ref KernelBuilder::ref(ValueId id) { return id == kNone ? Ref() : place_of(*plan_, *table_, id); }

Ref KernelBuilder::workspace(std::size_t bytes) {
  const std::size_t offset = workspace_next_;
  workspace_next_ += (bytes + 63) / 64 * 64;
  workspace_bytes_ = std::max(workspace_bytes_, workspace_next_);
  return Ref(&(*table_)[plan_->values.size()], offset);
}

Ref KernelBuilder::constant(std::size_t bytes) {
  const std::size_t offset = constant_bytes_;
  constant_bytes_ += (bytes + 63) / 64 * 64;
  return Ref(constants_, offset);
}

LinearExecutable::LinearExecutable(std::shared_ptr<const ir::Plan> plan,
                                   const std::vector<Storage*>& persistents, Arena& arena,
                                   const MakeKernel& make_kernel, const MakeUpdate& make_update,
                                   bool small)
    : plan_(std::move(plan)), table_(plan_->values.size() + 1), arena_(arena), small_(small) {
  const ir::Plan& p = *plan_;
  for (std::size_t i = 0; i < p.persistents.size(); ++i)
    table_[static_cast<std::size_t>(p.persistents[i])] =
        static_cast<HostStorage*>(persistents[i])->data();
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    const Value& value = p.values[static_cast<std::size_t>(p.inputs[i])];
    for (int slot = 0; slot < kSlots; ++slot) {
      staged_[slot].emplace_back(value.shape, value.dtype);
      ones_[slot].push_back(false);
      staging_bytes_ += staged_[slot].back().bytes();
    }
    moving_.emplace_back(p.inputs[i], i);
  }

  KernelBuilder builder(p);
  builder.table_ = &table_;
  builder.constants_ = &constants_;
  for (const Node& node : p.nodes) {
    builder.workspace_next_ = 0;  // each kernel has the workspace to itself while it runs
    kernels_.push_back(make_kernel(builder, node));
  }
  builder.workspace_next_ = 0;
  if (p.update) update_ = make_update(builder, *p.update);

  constant_bytes_ = builder.constant_bytes_;
  if (constant_bytes_ > 0) constant_memory_ = map_memory(constant_bytes_);
  constants_ = constant_memory_.get();

  std::vector<Block> blocks;
  std::vector<std::size_t> places;
  const int end = static_cast<int>(p.nodes.size());
  for (std::size_t v = 0; v < p.values.size(); ++v) {
    const ir::Lifetime& life = p.lifetimes[v];
    if (p.values[v].kind != ValueKind::temporary || life.first < 0) continue;
    blocks.push_back({bytes_of(p.values[v]), life.first, life.last, 0});
    places.push_back(v);
  }
  blocks.push_back({builder.workspace_bytes_, 0, end, 0});
  places.push_back(p.values.size());
  arena_bytes_ = assign_offsets(blocks);
  for (std::size_t i = 0; i < blocks.size(); ++i)
    offsets_.emplace_back(places[i], blocks[i].offset);
  place(arena_.reserve(arena_bytes_));
}

void LinearExecutable::place(std::shared_ptr<void> memory) {
  memory_ = std::move(memory);
  for (const auto& [place, offset] : offsets_)
    table_[place] = static_cast<char*>(memory_.get()) + offset;
}

void LinearExecutable::stage(int slot, int input, const HostView& view) {
  const auto i = static_cast<std::size_t>(input);
  Tensor& to = staged_[slot][i];
  if (view.data == nullptr) {
    if (!ones_[slot][i]) fill_ones(to);
    ones_[slot][i] = true;
    return;
  }
  ones_[slot][i] = false;
  copy_view(view, to);
}

void LinearExecutable::encode(int slot, const StepScalars& scalars, Completion& completion) {
  if (auto latest = arena_.latest(arena_bytes_); latest && latest != memory_)
    place(std::move(latest));  // a larger plan has come since
  for (const auto& [id, i] : moving_)
    table_[static_cast<std::size_t>(id)] = staged_[slot][i].data();
  const StepContext context{plan_->seed, scalars, scalars.weights != weights_};
  weights_ = -1;  // should a kernel throw, constants are half made
  for (std::size_t i = 0; i < kernels_.size(); ++i) {
    const double begin = recording_ ? now() : 0;
    kernels_[i]->run(context);
    if (recording_) spans_.push_back({static_cast<int>(i), begin, now()});
  }
  weights_ = scalars.weights;
  const double begin = recording_ ? now() : 0;
  status_[slot] = update_ ? update_->run(context) : StepStatus{};
  if (recording_ && update_) spans_.push_back({static_cast<int>(kernels_.size()), begin, now()});
  completion.done(nullptr);
}

void LinearExecutable::read(int, int result, Tensor& out) {
  const ValueId id = plan_->results[static_cast<std::size_t>(result)].value;
  const DType dtype = plan_->values[static_cast<std::size_t>(id)].dtype;
  convert(place_of(*plan_, table_, id).get(), dtype, out.data(), out.dtype(), out.count());
}

double LinearExecutable::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
}

bool LinearExecutable::record(bool on) {
  if (on) {
    spans_.clear();
    began_ = std::chrono::steady_clock::now();
  }
  recording_ = on;
  return true;
}

std::string LinearExecutable::detail(int node) const {
  return kernels_[static_cast<std::size_t>(node)]->detail();
}

UpdateControl::UpdateControl(KernelBuilder& b, const ir::Update& update)
    : update_(update),
      master_(master_dtype(b.plan().dtype)),
      counters_(b.ref(update.counters)),
      scale_(b.ref(b.plan().loss_scale)),
      weights_{{b.ref(update.weight_sum), b.ref(update.weight_total)}} {
  for (const ir::WeightShare& w : update.further)
    weights_.push_back({b.ref(w.sum), b.ref(w.total)});
  for (const ValueId v : update.losses) losses_.push_back(b.ref(v));
  for (const ir::RunningStatistic& s : update.statistics)
    statistics_.push_back({b.ref(s.running), b.ref(s.batch), b.ref(s.count),
                           count(b.value(s.running).shape), s.momentum, s.factor});
}

double UpdateControl::get(const Ref& ref, int64_t i) const {
  return master_ == DType::float64 ? ref.get<double>()[i] : ref.get<float>()[i];
}
void UpdateControl::set(const Ref& ref, int64_t i, double value) const {
  if (master_ == DType::float64)
    ref.get<double>()[i] = value;
  else
    ref.get<float>()[i] = static_cast<float>(value);
}

double UpdateControl::scale() const { return get(scale_); }
bool UpdateControl::blocked() const { return counters_.get<int32_t>()[ir::kFailed] != 0; }
int32_t UpdateControl::updates() const { return counters_.get<int32_t>()[ir::kUpdates]; }

bool UpdateControl::losses_finite() const {
  for (const Ref& loss : losses_) {
    const double value = get(loss);
    if (!(value - value == 0)) return false;
  }
  return true;
}

bool UpdateControl::accept(bool finite, StepStatus& status) {
  int32_t* counters = counters_.get<int32_t>();
  status.loss_scale = scale();
  if (finite || !update_.check_finite) return true;
  // A scale of 1 that still overflows is no matter of scale.
  const bool dynamic = update_.loss_scale.mode == LossScale::Mode::dynamic && status.loss_scale > 1;
  if (dynamic) {
    counters[ir::kOverflowed] = 1;
    count_step();
  } else {
    status.finite = false;
    counters[ir::kFailed] = 1;
  }
  return false;
}

bool UpdateControl::first() const { return counters_.get<int32_t>()[ir::kAccumulated] == 0; }

bool UpdateControl::ready() {
  for (const Weights& w : weights_)
    if (w.total) set(w.total, 0, (first() ? 0 : get(w.total)) + get(w.sum));
  return count_step();
}

bool UpdateControl::count_step() {
  int32_t* counters = counters_.get<int32_t>();
  if (++counters[ir::kAccumulated] < update_.accumulate) return false;
  counters[ir::kAccumulated] = 0;
  if (counters[ir::kOverflowed] == 0) return true;
  counters[ir::kOverflowed] = counters[ir::kGoodSteps] = 0;
  set(scale_, 0, std::max(1.0, scale() / 2));
  return false;
}

double UpdateControl::factor(std::size_t share) const {
  if (update_.accumulate < 2) return 1 / scale();
  const Ref& weights = weights_[share].total;
  const double total = weights ? get(weights) : 1;
  return total == 0 ? 0 : 1 / total;
}

void UpdateControl::updated(StepStatus& status) {
  int32_t* counters = counters_.get<int32_t>();
  if (update_.items.empty()) return;
  ++counters[ir::kUpdates];
  status.updated = true;
  if (update_.loss_scale.mode != LossScale::Mode::dynamic) return;
  if (++counters[ir::kGoodSteps] >= update_.loss_scale.growth_interval) {
    counters[ir::kGoodSteps] = 0;
    set(scale_, 0, std::min(update_.loss_scale.most, scale() * 2));
  }
}

void UpdateControl::update_statistics() {
  for (const Statistic& s : statistics_) {
    const double n = s.n ? get(s.n) : 0, factor = n > 1 ? n / (n - 1) : s.factor;
    for (int64_t i = 0; i < s.count; ++i) {
      const double old = get(s.running, i);
      set(s.running, i, old + s.momentum * (factor * get(s.batch, i) - old));
    }
  }
}

}  // namespace mpsnn::runtime
