// What backends with plain host memory share: one arena by the plans' lifetimes, staging slots, and
// an executable that runs its kernels in order. A backend adds the kernels.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/arena.h"
#include "runtime/backend.h"

namespace mpsnn::runtime {

// Canonical host memory: cpu and reference keep persistent arrays just so.
class HostStorage final : public Storage {
 public:
  HostStorage(const Shape& shape, DType dtype);
  void write(const Tensor& canonical) override;
  void read(Tensor& canonical) const override;
  void* data() { return tensor_.data(); }

 private:
  Tensor tensor_;
};

// Where a value is. Inputs move with the slot, so a kernel asks at each run.
class Ref {
 public:
  Ref() = default;
  explicit Ref(void** place, std::size_t offset = 0) : place_(place), offset_(offset) {}
  template <class T = void>
  T* get() const {
    if (place_ == nullptr) return nullptr;
    return static_cast<T*>(static_cast<void*>(static_cast<char*>(*place_) + offset_));
  }
  explicit operator bool() const { return place_ != nullptr; }

 private:
  void** place_ = nullptr;
  std::size_t offset_ = 0;
};

struct StepContext {
  uint64_t seed = 0;
  StepScalars scalars;
  bool weights_changed = true;  // since this executable's last step
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const StepContext& context) = 0;
  virtual std::string detail() const { return ""; }
};

class UpdateKernel {
 public:
  virtual ~UpdateKernel() = default;
  virtual StepStatus run(const StepContext& context) = 0;
};

// Handed to the functions that make kernels.
class KernelBuilder {
 public:
  const ir::Plan& plan() const { return *plan_; }
  const Value& value(ValueId id) const { return plan_->values.at(static_cast<std::size_t>(id)); }
  Ref ref(ValueId id);               // empty for kNone, and for states that nobody reads
  Ref workspace(std::size_t bytes);  // valid during one run of this kernel
  Ref constant(std::size_t bytes);   // its own, kept from step to step

 private:
  friend class LinearExecutable;
  explicit KernelBuilder(const ir::Plan& plan) : plan_(&plan) {}
  const ir::Plan* plan_;
  std::vector<void*>* table_ = nullptr;
  void** constants_ = nullptr;
  std::size_t workspace_next_ = 0, workspace_bytes_ = 0, constant_bytes_ = 0;
};

class LinearExecutable : public Executable {
 public:
  using MakeKernel = std::function<std::unique_ptr<Kernel>(KernelBuilder&, const Node&)>;
  using MakeUpdate =
      std::function<std::unique_ptr<UpdateKernel>(KernelBuilder&, const ir::Update&)>;

  LinearExecutable(std::shared_ptr<const ir::Plan> plan, const std::vector<Storage*>& persistents,
                   Arena& arena, const MakeKernel& make_kernel, const MakeUpdate& make_update,
                   bool small);

  void stage(int slot, int input, const HostView& view) override;
  void encode(int slot, const StepScalars& scalars, Completion& completion) override;
  void read(int slot, int result, Tensor& out) override;
  StepStatus status(int slot) override { return status_[slot]; }
  bool small() const override { return small_; }
  std::size_t planned_bytes() const override { return arena_bytes_ + staging_bytes_; }
  std::size_t packed_bytes() const override { return constant_bytes_; }
  std::string detail(int node) const override;
  bool record(bool on) override;
  std::vector<Span> take_spans() override { return std::move(spans_); }

 private:
  double now() const;

  void place(std::shared_ptr<void> memory);

  std::shared_ptr<const ir::Plan> plan_;
  std::vector<void*> table_;  // values, then the workspace; Refs point into it
  Arena& arena_;
  std::shared_ptr<void> memory_;
  std::vector<std::pair<std::size_t, std::size_t>> offsets_;  // place in the table, in memory_
  std::size_t arena_bytes_ = 0, staging_bytes_ = 0;
  std::vector<Tensor> staged_[kSlots];
  std::vector<bool> ones_[kSlots];                       // inputs that hold ones
  std::vector<std::pair<ValueId, std::size_t>> moving_;  // values in the memory of input i
  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::unique_ptr<UpdateKernel> update_;
  StepStatus status_[kSlots];
  bool small_, recording_ = false;
  void* constants_ = nullptr;
  std::shared_ptr<void> constant_memory_;
  std::size_t constant_bytes_ = 0;
  int64_t weights_ = -1;  // StepScalars::weights of the last step
  std::vector<Span> spans_;
  std::chrono::steady_clock::time_point began_;
};

// The decisions of a training step's end, the same wherever counters are host memory: see
// ir::Update.
class UpdateControl {
 public:
  UpdateControl(KernelBuilder& builder, const ir::Update& update);

  double scale() const;     // that this step's gradients carry
  bool blocked() const;     // an earlier step failed
  int32_t updates() const;  // done so far
  // After the losses and gradients were looked at. False: leave everything as it is.
  bool accept(bool finite, StepStatus& status);
  bool first() const;  // of the accumulated steps
  // After accumulation. False: not the last of the accumulated steps, or one of them overflowed.
  bool ready();
  // What accumulated (or this step's) gradients of a share are multiplied with.
  double factor(std::size_t share = 0) const;
  void updated(StepStatus& status);
  bool losses_finite() const;
  void update_statistics();

 private:
  // One more accumulated step. True: the last one, and none of them overflowed.
  bool count_step();
  double get(const Ref& ref, int64_t i = 0) const;
  void set(const Ref& ref, int64_t i, double value) const;

  const ir::Update& update_;
  DType master_;
  Ref counters_, scale_;
  struct Weights {
    Ref sum, total;
  };
  std::vector<Weights> weights_;  // of each share
  std::vector<Ref> losses_;
  struct Statistic {
    Ref running, batch, n;
    int64_t count;
    double momentum, factor;
  };
  std::vector<Statistic> statistics_;
};

}  // namespace mpsnn::runtime
