// What a backend gets to instantiate: every value and node of one step, in order, with lifetimes,
// and the weight update at its end. Immutable once made, and shared by whoever compiles the same
// thing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mpsnn/graph.h"
#include "mpsnn/program.h"

namespace mpsnn::ir {

// Losses of mean form are divided, when accumulated, by their sums of weights over all steps: each
// has a share of its own in the gradients. Share 0 is the only one but with several such losses, or
// with such a loss beside one that is a sum.
struct GradientShare {
  ValueId gradient = kNone;
  ValueId accumulator = kNone;  // persistent
  std::size_t share = 0;
};
struct WeightShare {
  ValueId sum = kNone;    // the loss's sum of weights, this step; kNone: not divided by one
  ValueId total = kNone;  // persistent {1}: the same over the accumulated steps
};

// One trained parameter. `moments` are persistent values of the parameter's shape: none for SGD
// without momentum; momentum; Adam's first and second; RMSProp's square average, then momentum
// buffer if momentum > 0, then gradient average if centered.
struct UpdateItem {
  ValueId parameter = kNone;
  ValueId gradient = kNone;
  ValueId accumulator = kNone;  // persistent, when accumulate > 1
  std::size_t share = 0;        // of `gradient`; its gradients of other shares are `further`
  std::vector<GradientShare> further;
  std::vector<ValueId> moments;
  int group = 0;
  // Persistent, of the parameter's shape: the host updates this parameter. g goes here, and the
  // parameter is left as it is.
  ValueId host_gradient = kNone;
  ValueId average = kNone;  // persistent: moving average of the parameter
};

// A running statistic of batch-norm: value += momentum * (factor * batch - value), with the update.
struct RunningStatistic {
  ValueId running = kNone;  // persistent
  ValueId batch = kNone;    // the state that holds this batch's mean or biased variance
  double momentum = 0.1;
  double factor = 1;      // n / (n - 1) for variances
  ValueId count = kNone;  // the state that holds n, where a step has lengths; `factor` is 1
};

// The end of a training step, done only if the loss and all gradients are finite and no earlier
// step has failed:
//   g = gradient / loss_scale (when accumulating, the sum over the shares of accumulator / sum of
//   weights); clip by value, then by norm;
//   parameter <- optimizer(g), or g is left for the host;
//   average <- parameter at the first update, then d average + (1 - d) parameter, unless the host
//   updates the parameter; running statistics; counters.
struct Update {
  OptimizerKind kind = OptimizerKind::sgd;
  std::vector<Hyper> groups;
  std::vector<UpdateItem> items;
  std::vector<RunningStatistic> statistics;
  std::optional<double> clip_value, clip_norm;
  int accumulate = 1;
  LossScale loss_scale;
  bool check_finite = true;
  double average_decay = 0;     // d above
  std::vector<ValueId> losses;  // loss values, for the guard
  ValueId weight_sum = kNone;   // accumulate > 1: as in WeightShare, of share 0
  ValueId weight_total = kNone;
  std::vector<WeightShare> further;  // shares 1, ...
  // Persistent int32 {5}: updates done, good updates since the scale last changed, failed (1 after
  // a step that was not finite, or broke off while it wrote, until the host clears it), steps
  // accumulated so far, and whether one of these overflowed under a dynamic loss scale: then all of
  // them are skipped, and the scale is halved once, as by torch.amp.GradScaler.
  ValueId counters = kNone;
};
enum Counter : int {
  kUpdates = 0,
  kGoodSteps = 1,
  kFailed = 2,
  kAccumulated = 3,
  kOverflowed = 4,
  kCounters = 5
};

// Some channels of each pixel of a wider image: `pitch` channels apart, from `offset` on. All of
// the memory if pitch is 0.
struct Slice {
  int64_t offset = 0, pitch = 0;
};

struct Lifetime {
  int first = -1, last = -1;  // indices into nodes; nodes.size() for the update and results
};

struct Plan {
  DType dtype = DType::float32;
  bool training = false;
  bool half_accumulator = false;
  uint64_t seed = 0;
  int64_t batch = 0;

  std::vector<Value> values;
  std::vector<Node> nodes;           // in order of execution
  std::vector<ValueId> inputs;       // staged, in the order of Graph::inputs
  std::vector<ValueId> persistents;  // in the order that instantiate receives their storage
  std::vector<ResultSpec> results;   // `value` is final here: gradients are resolved
  std::optional<Update> update;
  ValueId loss_scale = kNone;  // persistent {1} of the master type: seeds of losses

  // From the memory pass. alias[v] is the value whose memory v shares (itself if none), slices[v]
  // which part of it.
  std::vector<ValueId> alias;
  std::vector<Slice> slices;
  std::vector<Lifetime> lifetimes;        // of alias roots that are temporary
  std::vector<std::vector<int>> readers;  // of every value: nodes that read it, in order

  std::size_t naive_bytes = 0;
  std::vector<std::string> notes;  // what was fused and elided
};

}  // namespace mpsnn::ir
