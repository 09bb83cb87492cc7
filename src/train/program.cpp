// Program: plans for each batch size that comes, two slots of steps in flight, and their errors.
#include "mpsnn/program.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>

#include "compile/plan.h"
#include "core/threads.h"
#include "ir/cost.h"
#include "mpsnn/error.h"
#include "runtime/parameter_store.h"
#include "runtime/step.h"
#include "train/device_errors.h"
#include "train/inputs.h"
#include "train/training_state.h"

namespace mpsnn {
namespace {

// An item of the update that the host does, and where its arrays are.
struct HostPart {
  std::size_t parameter;
  std::size_t group;
  const Value* value;
  runtime::Storage *weights, *gradient, *average, *counters;
};

struct Variant {
  std::shared_ptr<const ir::Plan> plan;
  std::unique_ptr<runtime::Executable> executable;
  int threads = 1;
  std::vector<HostPart> host;
  std::vector<std::shared_ptr<StepState>> steps;  // to be used again, with their results' memory
};

}  // namespace

class ProgramState {
 public:
  ProgramState(const Graph& graph, const ProgramOptions& options)
      : graph_(graph),
        options_(options),
        device_(runtime::device_context(options.device)),
        training_(options.continues ? options.continues->state_->training_
                                    : std::make_shared<train::TrainingState>(device_)) {
    options_.continues.reset();
    if (options_.accumulate < 1)
      throw ValueError("accumulate must be at least 1, got " + std::to_string(options_.accumulate));
    full_ = &variant(graph_.batch());
    for (const Value& value : graph_.values())
      if (value.parameter) parameters_.emplace_back(value.parameter, false);
    for (auto& [parameter, written] : parameters_) {
      written = is_written(parameter);
      if (!written) continue;
      parameter->copies().widen(master_);
      if (device_.backend->save_interval() > 0)
        saves_.push_back({parameter, &parameter->copies().storage(device_, master_)});
    }
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].program = this;
      slots_[i].index = static_cast<int>(i);
    }
  }

  ~ProgramState() {
    std::unique_lock lock(mutex_);
    free_.wait(lock, [this] { return all_free(); });
    lock.unlock();
    // Executables die on the thread that made them, behind whatever else is queued.
    device_.queue.run([this] { variants_.clear(); });
  }

  Step encode(const std::vector<HostView>& inputs, const std::vector<double>& rates,
              const std::function<void()>& interrupted) {
    runtime::check_not_forked();
    runtime::check_not_in_host_call();
    const std::lock_guard serial(encode_mutex_);
    raise_pending();
    if (options_.optimizer && rates.size() != options_.optimizer->groups.size())
      throw TypeError("expected one rate a group, " +
                      std::to_string(options_.optimizer->groups.size()) + ", got " +
                      std::to_string(rates.size()));
    Variant& v = variant(train::check_inputs(graph_, inputs));
    Slot& slot = take_slot(interrupted);
    try {
      raise_pending();
      for (std::size_t i = 0; i < inputs.size(); ++i)
        v.executable->stage(slot.index, static_cast<int>(i), inputs[i]);
      slot.weights = 0;
      for (auto& [parameter, written] : parameters_)
        slot.weights += parameter->copies().refresh(device_, master_, written);
      slot.variant = &v;
      slot.rates = rates;
      slot.step = new_step(v);
    } catch (...) {
      give_back(slot);
      std::rethrow_exception(explained(std::current_exception(), *v.plan));
    }
    std::shared_ptr<StepState> step = slot.step;
    slot.on_queue = false;
    if (v.host.empty() && v.executable->small() && device_.queue.try_run(slot))
      return Step(std::move(step));
    slot.on_queue = true;
    device_.queue.submit(slot);
    return Step(std::move(step));
  }

  void wait(const std::function<void()>& interrupted) {
    if (runtime::on_notifier_thread())
      throw DeviceError("wait() inside a callback would hold up the thread it waits for");
    runtime::check_not_forked();
    runtime::check_not_in_host_call();
    {
      std::unique_lock lock(mutex_);
      wait_interruptibly(lock, free_, [this] { return all_free(); }, std::nullopt, interrupted);
    }
    raise_pending();
  }

  void record() {
    bool told = false;
    device_.queue.run([&] { told = full_->executable->record(true); });
    if (!told)
      throw UnsupportedError("times of nodes are not recorded on " +
                             device_.backend->device().id());
  }

  std::vector<Span> recorded() {
    std::vector<Span> spans;
    device_.queue.run([&] {
      full_->executable->record(false);
      spans = full_->executable->take_spans();
    });
    return spans;
  }

  const Graph& graph() const { return graph_; }
  const ProgramOptions& options() const { return options_; }
  const Variant& full() const { return *full_; }
  train::TrainingState& training() { return *training_; }

 private:
  struct Slot final : runtime::Task, runtime::Completion {
    ProgramState* program = nullptr;
    int index = 0;
    bool busy = false, on_queue = false, device_done = false;
    std::exception_ptr device_error;
    Variant* variant = nullptr;
    std::vector<double> rates;
    int64_t weights = 0;
    std::shared_ptr<StepState> step;

    void run() noexcept override {
      const bool on_host = !variant->host.empty();
      const int64_t number = step->index;  // once done, the slot may be another step's
      try {
        if (on_queue) threads::set_team(variant->executable->small() ? 1 : variant->threads);
        const runtime::StepScalars scalars{step->index, rates.data(), weights};
        device_done = false;
        variant->executable->encode(index, scalars, *this);
      } catch (...) {
        done(std::current_exception());
      }
      if (on_host) program->finish_on_host(*this);
      if (!program->saves_.empty()) program->save_weights(number);  // it dies behind this task
    }
    void done(std::exception_ptr error) noexcept override {
      if (variant->host.empty())
        program->completed(*this, error);
      else
        program->device_part_done(*this, error);
    }
  };

  bool all_free() const {
    return std::none_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.busy; });
  }

  bool is_written(const std::shared_ptr<Parameter>& parameter) const {
    const auto& update = full_->plan->update;
    if (!update) return false;
    const auto same = [&](ValueId v) { return graph_.value(v).parameter == parameter; };
    for (const auto& item : update->items)
      if (same(item.parameter)) return true;
    for (const auto& statistic : update->statistics)
      if (same(statistic.running)) return true;
    return false;
  }

  Variant& variant(int64_t batch) {
    if (const auto found = variants_.find(batch); found != variants_.end()) return found->second;
    Variant v;
    const bool whole = batch == graph_.batch();
    v.plan =
        compile::cached_plan(whole ? graph_ : graph_.with_batch(batch), options_, *device_.backend);
    v.threads = threads::requested();
    try {
      instantiate(v);
    } catch (...) {
      std::rethrow_exception(explained(std::current_exception(), *v.plan));
    }
    v.steps.reserve(kMostSteps);
    for (std::size_t i = 0; i < kSteps; ++i) v.steps.push_back(make_step(*v.plan));
    return variants_.emplace(batch, std::move(v)).first->second;
  }

  void instantiate(Variant& v) {
    std::map<ValueId, runtime::Storage*> places;
    std::vector<runtime::Storage*> persistents;
    for (const ValueId id : v.plan->persistents) {
      const Value& value = v.plan->values[static_cast<std::size_t>(id)];
      const bool of_model = static_cast<std::size_t>(id) < graph_.values().size();
      persistents.push_back(of_model
                                ? &graph_.value(id).parameter->copies().storage(device_, master_)
                                : &training_->storage(value, options_.loss_scale.initial));
      places[id] = persistents.back();
    }
    if (v.plan->update)
      for (const ir::UpdateItem& item : v.plan->update->items)
        if (item.host_gradient != kNone)
          v.host.push_back({parameter_index(graph_.value(item.parameter).parameter),
                            static_cast<std::size_t>(item.group),
                            &v.plan->values[static_cast<std::size_t>(item.parameter)],
                            places.at(item.parameter), places.at(item.host_gradient),
                            item.average == kNone ? nullptr : places.at(item.average),
                            places.at(v.plan->update->counters)});
    device_.queue.run([&] {
      threads::set_team(v.threads);
      v.executable = device_.backend->instantiate(v.plan, persistents);
    });
  }

  std::size_t parameter_index(const std::shared_ptr<Parameter>& parameter) const {
    const auto& known = options_.optimizer->parameters;
    std::size_t i = 0;
    while (known[i].first != parameter) ++i;
    return i;
  }

  void device_part_done(Slot& slot, std::exception_ptr error) noexcept {
    const std::lock_guard lock(mutex_);
    slot.device_error = std::move(error);
    slot.device_done = true;
    host_turn_.notify_all();
  }

  // The second half of a step with a host update, on the queue thread: nothing else runs on the
  // device between the two halves, so whoever reads a weight sees the whole step.
  void finish_on_host(Slot& slot) noexcept {
    std::exception_ptr error;
    {
      std::unique_lock lock(mutex_);
      host_turn_.wait(lock, [&] { return slot.device_done; });
      error = std::move(slot.device_error);
    }
    if (!error) try {
        if (slot.variant->executable->status(slot.index).updated) update_on_host(slot);
      } catch (...) {
        error = std::current_exception();
      }
    completed(slot, error);
  }

  void update_on_host(Slot& slot) {
    std::vector<HostItem> items;
    for (const HostPart& part : slot.variant->host) {
      HostItem item{part.parameter, Tensor(part.value->shape, part.value->dtype),
                    Tensor(part.value->shape, part.value->dtype), slot.rates[part.group]};
      part.weights->read(item.weights);
      part.gradient->read(item.gradient);
      items.push_back(std::move(item));
    }
    {
      const runtime::HostCall call;
      options_.optimizer->host_update(items);
    }
    for (std::size_t i = 0; i < items.size(); ++i)
      if (items[i].weights.shape() != slot.variant->host[i].value->shape)
        throw ShapeError("[" + options_.optimizer->names[items[i].parameter] +
                         "] the update must return " +
                         to_string(slot.variant->host[i].value->shape) + ", got " +
                         to_string(items[i].weights.shape()));
    for (std::size_t i = 0; i < items.size(); ++i) {
      const HostPart& part = slot.variant->host[i];
      const Tensor weights = items[i].weights.to(part.value->dtype);
      part.weights->write(weights);
      if (part.average != nullptr) update_average(part, weights);
    }
  }

  // As ir::Update has it, for weights that the host has updated.
  void update_average(const HostPart& part, const Tensor& weights) {
    Tensor counters({ir::kCounters}, DType::int32), average(weights.shape(), DType::float64);
    part.counters->read(counters);
    const bool first = counters.as<int32_t>()[ir::kUpdates] == 1;
    const double d = first ? 0 : *options_.ema;
    Tensor old(weights.shape(), weights.dtype());
    part.average->read(old);
    old = old.to(DType::float64);
    const Tensor now = weights.to(DType::float64);
    for (int64_t i = 0; i < average.count(); ++i)
      average.as<double>()[i] =
          (first ? 0 : d * old.as<double>()[i]) + (1 - d) * now.as<double>()[i];
    part.average->write(average.to(weights.dtype()));
  }

  // Weights that a device could take along reach the host behind a step; queue thread.
  void save_weights(int64_t step) noexcept {
    const auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(now - saved_at_).count() < device_.backend->save_interval())
      return;
    try {
      std::vector<Tensor> read;
      for (const Save& save : saves_) {
        read.emplace_back(save.parameter->shape(), master_);
        save.storage->read(read.back());
      }
      for (std::size_t i = 0; i < read.size(); ++i)
        saves_[i].parameter->copies().keep(std::move(read[i]));
      saved_at_ = now;
      saved_step_ = step;
    } catch (const std::exception&) {  // the steps tell what is wrong with the device
    }
  }

  std::exception_ptr explained(std::exception_ptr error, const ir::Plan& plan) const {
    return train::explained(std::move(error), *device_.backend, saved_step_, plan, graph_.batch());
  }

  Slot& take_slot(const std::function<void()>& interrupted) {
    std::unique_lock lock(mutex_);
    Slot* slot = nullptr;
    const auto find = [&] {
      for (std::size_t i = 0; i < (full_->host.empty() ? slots_.size() : 1); ++i)
        if (!slots_[i].busy) slot = &slots_[i];
      return slot != nullptr;
    };
    wait_interruptibly(lock, free_, find, std::nullopt, interrupted);
    slot->busy = true;
    return *slot;
  }

  void give_back(Slot& slot) {
    const std::lock_guard lock(mutex_);
    slot.busy = false;
    free_.notify_all();
  }

  std::shared_ptr<StepState> make_step(const ir::Plan& plan) const {
    auto step = std::make_shared<StepState>();
    for (const ResultSpec& spec : plan.results) {
      const Value& value = plan.values[static_cast<std::size_t>(spec.value)];
      // Gradients are unscaled at the end, which half might not hold.
      const bool scaled = spec.gradient && options_.loss_scale.mode != LossScale::Mode::none;
      Tensor result(value.shape, scaled ? master_dtype(plan.dtype) : value.dtype);
      result.set_device(device_.backend->device().id());
      step->results.push_back(std::move(result));
    }
    return step;
  }

  // A finished step whose results nobody holds any more serves again.
  std::shared_ptr<StepState> new_step(Variant& variant) {
    std::shared_ptr<StepState> step;
    for (const auto& old : variant.steps) {
      if (old.use_count() != 1) continue;
      const bool idle = std::all_of(old->results.begin(), old->results.end(),
                                    [](const Tensor& t) { return t.memory().use_count() <= 1; });
      if (idle) step = old;
    }
    if (!step) {
      step = make_step(*variant.plan);
      if (variant.steps.size() < kMostSteps) variant.steps.push_back(step);
    }
    step->reset(training_->encoded++);
    return step;
  }

  void completed(Slot& slot, std::exception_ptr error) noexcept {
    const std::shared_ptr<StepState> step = std::move(slot.step);
    try {
      if (!error) {
        collect(slot, *step);
        const runtime::StepStatus status = slot.variant->executable->status(slot.index);
        step->updated = status.updated;
        if (!status.finite)
          error = std::make_exception_ptr(
              NonFiniteError("step " + std::to_string(step->index) +
                             ": the loss or a gradient is not finite; nothing was updated by it or "
                             "by later steps"));
      }
    } catch (...) {
      error = std::current_exception();
    }
    std::shared_ptr<StepError> kept;
    if (error) {
      error = explained(error, *full_->plan);
      kept = std::make_shared<StepError>();
      kept->error = error;
      kept->on_raise = [weak = std::weak_ptr<train::TrainingState>(training_)] {
        if (const auto training = weak.lock()) training->clear_failed();
      };
    }
    {
      // Notified under the lock: the program may be destroyed as soon as all slots are free.
      const std::lock_guard lock(mutex_);
      if (kept) pending_.push_back(kept);
      slot.busy = false;
      free_.notify_all();
      step->finish(std::move(kept));
    }
  }

  void collect(Slot& slot, StepState& step) {
    const double scale = slot.variant->executable->status(slot.index).loss_scale;
    for (std::size_t i = 0; i < step.results.size(); ++i) {
      Tensor& result = step.results[i];
      slot.variant->executable->read(slot.index, static_cast<int>(i), result);
      if (!slot.variant->plan->results[i].gradient || scale == 1) continue;
      for (int64_t k = 0; k < result.count(); ++k) {
        if (result.dtype() == DType::float64)
          result.as<double>()[k] /= scale;
        else
          result.as<float>()[k] = static_cast<float>(result.as<float>()[k] / scale);
      }
    }
  }

  void raise_pending() {
    for (;;) {
      std::shared_ptr<StepError> error;
      {
        const std::lock_guard lock(mutex_);
        if (pending_.empty()) return;
        error = pending_.front();
        pending_.erase(pending_.begin());
      }
      error->raise();
    }
  }

  // One in flight, one that completes, one that is encoded, one in the caller's hands.
  static constexpr std::size_t kSteps = 4, kMostSteps = 8;

  Graph graph_;
  ProgramOptions options_;
  runtime::DeviceContext& device_;
  DType master_ = master_dtype(graph_.dtype());  // of weights
  std::shared_ptr<train::TrainingState> training_;
  std::map<int64_t, Variant> variants_;
  Variant* full_ = nullptr;
  std::vector<std::pair<std::shared_ptr<Parameter>, bool>> parameters_;
  struct Save {
    std::shared_ptr<Parameter> parameter;
    runtime::Storage* storage;
  };
  std::vector<Save> saves_;  // of a device that may go
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  std::atomic<int64_t> saved_step_{-1};

  std::mutex encode_mutex_;  // encodes are serialised
  std::mutex mutex_;         // slots, errors
  std::condition_variable free_, host_turn_;
  std::array<Slot, runtime::Executable::kSlots> slots_;
  std::vector<std::shared_ptr<StepError>> pending_;
};

Program::Program() = default;
Program::~Program() {
  // In a forked child nothing of a device can be waited for, nor its memory given back.
  if (runtime::forked()) static_cast<void>(state_.release());
  // Garbage collected inside a host update, it would wait for the queue that it holds up.
  if (state_ && runtime::in_host_call())
    runtime::notify([state = std::shared_ptr<ProgramState>(std::move(state_))] {});
}

std::shared_ptr<Program> Program::compile(const Graph& graph, const ProgramOptions& options) {
  std::shared_ptr<Program> program(new Program);
  program->state_ = std::make_unique<ProgramState>(graph, options);
  return program;
}

Step Program::encode(const std::vector<HostView>& inputs, const std::vector<double>& rates,
                     const std::function<void()>& interrupted) {
  return state_->encode(inputs, rates, interrupted);
}
void Program::wait(const std::function<void()>& interrupted) { state_->wait(interrupted); }

int64_t Program::encoded() const { return state_->training().encoded; }
int64_t Program::encoded_updates() const { return encoded() / state_->options().accumulate; }
std::size_t Program::planned_bytes() const { return state_->full().executable->planned_bytes(); }
std::size_t Program::packed_bytes() const { return state_->full().executable->packed_bytes(); }
std::size_t Program::naive_bytes() const { return state_->full().plan->naive_bytes; }
std::vector<std::string> Program::notes() const { return state_->full().plan->notes; }

std::vector<SummaryRow> Program::summary() const {
  const Variant& full = state_->full();
  std::vector<SummaryRow> rows;
  for (std::size_t i = 0; i < full.plan->nodes.size(); ++i) {
    const Node& node = full.plan->nodes[i];
    SummaryRow row;
    row.layer = node.layer;
    row.op = std::string(name_of(node.op)) + (node.gradient ? " gradient" : "");
    row.detail = full.executable->detail(static_cast<int>(i));
    for (const ValueId v : node.outputs)
      if (v != kNone) row.outputs.push_back(full.plan->values[static_cast<std::size_t>(v)].shape);
    if (!node.gradient)
      for (const ValueId v : node.inputs) {
        if (v == kNone || static_cast<std::size_t>(v) >= state_->graph().values().size()) continue;
        const Value& value = state_->graph().value(v);
        if (value.parameter && !value.parameter->is_buffer()) row.parameters += count(value.shape);
      }
    row.operations = ir::operations(*full.plan, node);
    row.bytes = ir::bytes_moved(*full.plan, node);
    rows.push_back(std::move(row));
  }
  return rows;
}

void Program::record() { state_->record(); }
std::vector<Span> Program::recorded() { return state_->recorded(); }

std::string Program::to_dot() const {
  const ir::Plan& plan = *state_->full().plan;
  std::string dot = "digraph mpsnn {\n  rankdir=TB; node [shape=box, fontname=\"sans-serif\"];\n";
  std::vector<int> producer(plan.values.size(), -1);
  for (const ValueId v : plan.inputs) {
    const Value& value = plan.values[static_cast<std::size_t>(v)];
    dot += "  v" + std::to_string(v) + " [label=\"" + value.name + "\\n" + to_string(value.shape) +
           "\", shape=ellipse];\n";
  }
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& node = plan.nodes[i];
    dot += "  n" + std::to_string(i) + " [label=\"" + node.layer + "\\n" + name_of(node.op) +
           (node.gradient ? " gradient\", style=dashed];\n" : "\"];\n");
    for (const auto* list : {&node.outputs, &node.states})
      for (const ValueId v : *list)
        if (v != kNone)
          producer[static_cast<std::size_t>(plan.alias[static_cast<std::size_t>(v)])] =
              static_cast<int>(i);
    for (const ValueId v : node.inputs) {
      if (v == kNone) continue;
      const auto root = static_cast<std::size_t>(plan.alias[static_cast<std::size_t>(v)]);
      const Value& value = plan.values[root];
      if (value.kind == ValueKind::input)
        dot += "  v" + std::to_string(root) + " -> n" + std::to_string(i) + ";\n";
      else if (producer[root] >= 0)
        dot += "  n" + std::to_string(producer[root]) + " -> n" + std::to_string(i) + " [label=\"" +
               to_string(plan.values[static_cast<std::size_t>(v)].shape) + "\"];\n";
    }
  }
  return dot + "}\n";
}

std::vector<std::pair<std::string, Tensor>> Program::state() { return state_->training().read(); }
void Program::load_state(const std::vector<std::pair<std::string, Tensor>>& state) {
  state_->training().write(state);
}

Support supports(const Graph& graph, const std::string& device, bool gradient) {
  const runtime::Backend& backend = *runtime::device_context(device).backend;
  Graph copy = graph;
  ProgramOptions options;
  options.device = device;
  options.training = gradient;
  options.optimize = false;
  const Node& last = graph.nodes().back();
  if (!gradient) {
    options.results.push_back({"y", last.outputs[0], false});
  } else {
    const ir::Rule& rule = ir::rule(last.op);
    const Value& y = graph.value(last.outputs[0]);
    options.seeds.push_back({last.outputs[0], rule.loss && y.shape == Shape{1}
                                                  ? kNone
                                                  : copy.add_input("cotangent", y.shape, y.dtype,
                                                                   {false, 0, -100, false})});
    for (int i = 0; i < last.nx; ++i)
      if (((rule.differentiable >> i) & 1) && last.x(i) != kNone)
        options.results.push_back({"x" + std::to_string(i), last.x(i), true});
  }
  try {
    compile::make_plan(copy, options, backend);
  } catch (const UnsupportedError& e) {
    return {false, e.what()};
  }
  return {};
}

}  // namespace mpsnn
