// A graph compiled for a device, and the steps that run on it. TrainingGraph, InferenceGraph, eager
// ops and vjp are this one class with other options.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mpsnn/graph.h"
#include "mpsnn/tensor.h"

namespace mpsnn {

enum class OptimizerKind : uint8_t { sgd, adam, adamw, rmsprop };

// What PyTorch's optimizer of the same name takes. One per parameter group; the rate comes with
// each step.
struct Hyper {
  double momentum = 0, dampening = 0;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double alpha = 0.99;  // RMSProp
  bool centered = false;
  double weight_decay = 0;
};

// One parameter in the hands of the host: `weights` is read and replaced, of its own shape and
// type.
struct HostItem {
  std::size_t parameter = 0;  // index into OptimizerSpec::parameters
  Tensor weights, gradient;   // the gradient after accumulation, unscaling and clipping
  double rate = 0;
};
// Called on the device's queue thread, which may not encode, wait or read parameters meanwhile. An
// exception leaves the weights as they are and becomes the step's error.
using HostUpdate = std::function<void(std::vector<HostItem>&)>;

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::sgd;
  std::vector<Hyper> groups;                                           // at least one
  std::vector<std::pair<std::shared_ptr<Parameter>, int>> parameters;  // trained ones, their group
  std::vector<std::string> names;                                      // of `parameters`, for files
  std::vector<bool> on_host;  // of `parameters`; empty: none. One step in flight if any is.
  HostUpdate host_update;
  bool is_on_host(std::size_t i) const { return i < on_host.size() && on_host[i]; }
};

struct LossScale {
  enum class Mode : uint8_t { none, fixed, dynamic } mode = Mode::none;
  double initial = 1;  // dynamic: 65536, doubled after `growth_interval` good steps
  int growth_interval = 2000;
  // Doubling ends at 2^24, where half holds gradients down to 2^-48: smaller ones do not matter,
  // and a scale without an end would overflow by itself.
  double most = 16777216;
};

struct ResultSpec {
  std::string name;
  ValueId value = kNone;
  bool gradient = false;  // the loss's gradient by that value
};

// A gradient that comes from the host (vjp): d loss / d value is input `cotangent`.
struct Seed {
  ValueId value = kNone;
  ValueId cotangent = kNone;  // kNone: value is a loss, its gradient is one
};

struct ProgramOptions {
  std::string device = "cpu";
  bool training = false;  // false: dropout is absent, batch-norm uses running statistics
  uint64_t seed = 0;
  bool half_accumulator = false;
  std::vector<Seed> seeds;
  std::vector<ResultSpec> results;  // copied to the host at the end of each step
  std::optional<OptimizerSpec> optimizer;
  std::vector<std::shared_ptr<Parameter>> frozen;
  int accumulate = 1;
  std::optional<double> clip_value, clip_norm;
  LossScale loss_scale;
  std::optional<double> ema;  // decay of the moving average of each trained parameter
  bool check_finite = true;
  bool recompute = false;  // time for memory: what is cheap to make again is not kept for gradients
  bool optimize = true;    // false: no fusion, no elision, no aliasing (tests)
  // Trains on with this program's moments, counters and step count: another form of the same graph,
  // such as one for soft labels.
  std::shared_ptr<class Program> continues;
};

// A host array offered to encode; strides in bytes. Any floating width is converted.
struct HostView {
  const void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
  std::vector<int64_t> strides;  // empty: dense
};

class StepState;

// One submitted step. Copies refer to the same step.
class Step {
 public:
  explicit Step(std::shared_ptr<StepState> state) : state_(std::move(state)) {}
  int64_t index() const;
  bool done() const;
  // True when finished in time. Raises the step's error, once. `interrupted` is asked every 50 ms
  // and may throw, which leaves the step running.
  bool wait(std::optional<double> seconds, const std::function<void()>& interrupted) const;
  Tensor result(std::size_t i) const;  // of ProgramOptions::results; after wait
  bool updated() const;                // false when a dynamic loss scale skipped the update
  void add_done_callback(std::function<void()> callback) const;  // on the notifier thread

 private:
  std::shared_ptr<StepState> state_;
};

struct SummaryRow {
  std::string layer, op, detail;  // detail: the kernel the backend chose
  std::vector<Shape> outputs;
  int64_t parameters = 0;
  double operations = 0;  // multiplications and additions of convolutions and products
  double bytes = 0;       // of what is read and written
};

// When a node of a step ran, in seconds since recording began.
struct Span {
  int node = 0;  // row of summary(); one past the last is the update
  double begin = 0, end = 0;
};

class ProgramState;

class Program {
 public:
  // Raises UnsupportedError, with the reason, when the device cannot run the whole graph.
  static std::shared_ptr<Program> compile(const Graph& graph, const ProgramOptions& options);
  ~Program();

  // Copies the inputs (in the order of Graph::inputs; data == nullptr for an absent optional one)
  // into a free slot, waiting for one, and submits a step with one rate a group.
  Step encode(const std::vector<HostView>& inputs, const std::vector<double>& rates,
              const std::function<void()>& interrupted);
  void wait(const std::function<void()>& interrupted);  // all queued steps; raises their errors

  int64_t encoded() const;          // steps encoded so far, this run and the one resumed
  int64_t encoded_updates() const;  // encoded() / accumulate
  std::size_t planned_bytes() const, naive_bytes() const, packed_bytes() const;
  std::vector<SummaryRow> summary() const;
  std::vector<std::string> notes() const;  // fused and elided nodes, conversions, dtype remarks
  std::string to_dot() const;
  // Records the times of nodes in full batches, until asked for. UnsupportedError where the device
  // does not tell.
  void record();
  std::vector<Span> recorded();

  // Moments, counters, loss scale; parameters are not included. Wait for queued steps.
  std::vector<std::pair<std::string, Tensor>> state();
  void load_state(const std::vector<std::pair<std::string, Tensor>>& state);  // all or nothing

 private:
  Program();
  std::unique_ptr<ProgramState> state_;
  friend class ProgramState;
};

// Whether `device` runs this op (forward, or its gradient) with these attributes; the reason if
// not.
struct Support {
  bool ok = true;
  std::string reason;
};
Support supports(const Graph& graph, const std::string& device, bool gradient);

}  // namespace mpsnn
