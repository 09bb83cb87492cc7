// The backend interface: the same for blocked or plain memory, textures and captured GPU graphs.
//
// No pointer and no offset crosses it. Nodes name values by id; a backend binds each id to whatever
// it has. Between two steps of an Executable only StepScalars and the staged inputs change.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "ir/op.h"
#include "ir/plan.h"
#include "mpsnn/device.h"
#include "mpsnn/program.h"
#include "mpsnn/tensor.h"

namespace mpsnn::runtime {

// A persistent array on a device. Canonical layout at this boundary; queue thread, or an idle
// queue.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual void write(const Tensor& canonical) = 0;
  virtual void read(Tensor& canonical) const = 0;
};

struct StepScalars {
  int64_t index = 0;              // of this encode: the random stream of dropout
  const double* rates = nullptr;  // one a group; valid during encode
  int64_t weights = 0;            // another number when a parameter may hold something else
};

struct StepStatus {
  bool finite = true;    // loss and gradients of this step
  bool blocked = false;  // nothing was updated because an earlier step failed
  bool updated = false;
  double loss_scale = 1;  // that this step's gradients carry
};

// Told once per encode, from any thread.
class Completion {
 public:
  virtual void done(std::exception_ptr error) noexcept = 0;

 protected:
  ~Completion() = default;
};

class Executable {
 public:
  static constexpr int kSlots = 2;
  virtual ~Executable() = default;

  // Copies (and converts) one input into a slot that is not in flight; any thread. Values have been
  // checked; a null view fills with ones.
  virtual void stage(int slot, int input, const HostView& view) = 0;
  // Submits one step; queue thread (or caller's, when small() and the queue is idle).
  virtual void encode(int slot, const StepScalars& scalars, Completion& completion) = 0;
  // After completion, before the slot's next encode: a dense canonical copy, of out's dtype.
  virtual void read(int slot, int result, Tensor& out) = 0;
  virtual StepStatus status(int slot) = 0;

  virtual bool small() const { return false; }  // cheaper than handing it to the queue thread
  virtual std::size_t planned_bytes() const = 0;
  // Weights in a form of the device's own, kept between steps; 0 where it does not tell.
  virtual std::size_t packed_bytes() const { return 0; }
  virtual std::string detail(int node) const = 0;  // the kernel chosen, for summary()

  // Times of nodes (nodes.size() is the update) in the steps encoded while recording; queue thread.
  // False: this device does not tell.
  virtual bool record(bool) { return false; }
  virtual std::vector<Span> take_spans() { return {}; }
};

enum class Pattern : uint8_t {
  gradient_sum,     // a sum of sums: one node of many operands
  added_gradient,   // a gradient that is summed with others: its node adds them
  recompute,        // a node done again, with the statistics that it kept
  folded_norm,      // convolution followed by a batch-norm with running statistics, at inference
  neuron_epilogue,  // convolution, dense, max-pooling, batch-norm or sum followed by a neuron
  loss_gradient,    // a loss and its gradient, which needs nothing of the loss's
  pooled_norm,      // batch-norm in training, perhaps with a rectifier, followed by max-pooling
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Device& device() const = 0;

  // Questions of the compiler; `node` is bound to concrete shapes in `values`.
  virtual Support supports(const ir::Plan& plan, const Node& node) const = 0;
  virtual ir::Reads saves(const ir::Plan& plan, const Node& node, ir::Reads offers) const = 0;
  virtual bool fuses(Pattern pattern, const Node& node, const Node& next, bool training) const = 0;
  virtual bool can_alias(const ir::Plan& plan, const Node& node) const = 0;  // an op as a view
  // Whether the node may write its output (a gradient node: read its output's gradient) as some
  // channels of a wider image.
  virtual bool takes_slice(const ir::Plan&, const Node&) const { return false; }
  // Bits of the first 64 node.inputs whose memory output 0 may take, element for element, when
  // nobody reads them afterwards.
  virtual uint64_t overwrites(const ir::Plan&, const Node&) const { return 0; }
  virtual std::size_t state_bytes(const ir::Plan& plan, const Node& node, int state) const = 0;
  virtual int channel_alignment() const { return 1; }

  virtual std::unique_ptr<Storage> allocate(const Shape& shape, DType dtype) = 0;

  // `persistents` in the order of plan.persistents; they outlive the executable. What a step
  // leaves behind in the memory of its temporaries may be overwritten by the next of any plan.
  virtual std::unique_ptr<Executable> instantiate(std::shared_ptr<const ir::Plan> plan,
                                                  const std::vector<Storage*>& persistents) = 0;
  virtual void set_num_threads(int) {}  // queue thread

  // Of a device that can be pulled out: after how many seconds weights written on it are copied to
  // the host, and whether it is gone.
  virtual double save_interval() const { return 0; }  // 0: it stays
  virtual bool lost() const { return false; }
};

}  // namespace mpsnn::runtime
