// From a plan to command buffers. A value lives either in images, one MPSTemporaryImage for each of
// the batch, made when it is first written and given back after its last reader; or in a buffer, as
// parameters, their gradients, labels, losses and statistics do. An operation asks for the form it
// needs; where the value has the other one it is converted, which in an ordinary network happens at
// the graph's inputs and results only.
//
// Read counts: a living image's count is one for the plan, plus the reads announced and not yet
// encoded. Whoever reads it last in the plan lets the plan's one go.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/mps/gpu.h"
#include "ir/neuron.h"
#include "ir/plan.h"

namespace mpsnn::backend::mps {

// (n, h, w, c) of images: rows are 1 x 1, sequences 1 x T.
struct Geometry {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t count() const { return n * h * w * c; }
  bool operator==(const Geometry& o) const { return n == o.n && h == o.h && w == o.w && c == o.c; }
};
Geometry geometry_of(const Shape& shape);

struct Buffer {
  BufferRef buffer = nullptr;
  std::size_t offset = 0;
};

// A value as a dense float32 array while one operation runs: its own buffer if it has one of that
// type, else a copy.
struct Dense {
  ValueId value = kNone;
  std::size_t floats = 0, halves = 0;  // places in the scratch buffer
};

class Executable;
class Encoding;

// What a node became. Made once; encodes at each step.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void encode(Encoding& e) = 0;
  virtual std::string detail() const = 0;
};

// Handed to the functions that make operations.
class Builder {
 public:
  Builder(Executable& executable, const Node& node, int index)
      : executable_(executable), node_(node), index_(index) {}

  Gpu& gpu() const;
  const ir::Plan& plan() const;
  const Node& node() const { return node_; }
  const Attrs& attrs() const { return node_.attrs; }
  int forward() const { return node_.gradient ? node_.forward : index_; }  // whose states these are
  Operation& forward_operation() const;                                    // of a gradient
  bool half() const { return plan().dtype == DType::float16; }

  const Value& value(ValueId id) const { return plan().values[static_cast<std::size_t>(id)]; }
  // Shapes of the forward node's operands, known to its gradient as well.
  const Shape& x_shape(int i) const;
  const Shape& y_shape() const;
  Geometry home(ValueId id) const;  // of the images that hold a value (a flat view keeps h, w, c)
  bool in_images(ValueId id) const;
  int gradients() const;  // how many later nodes are this one's gradient
  int keeper() const { return gradients() > 0 ? index_ : -1; }  // of its states; -1: none needed
  const std::string& layer() const { return node_.layer; }

  std::size_t scratch(std::size_t bytes);  // this operation's own while it runs
  Dense dense(ValueId id);                 // reserves what load() and store() need

 private:
  Executable& executable_;
  const Node& node_;
  int index_;
};

// One step being encoded.
class Encoding {
 public:
  Encoding(Executable& executable, int slot, const runtime::StepScalars& scalars);
  ~Encoding();  // lets go of what an error left alive
  Encoding(const Encoding&) = delete;
  Encoding& operator=(const Encoding&) = delete;

  CommandsRef commands();  // for one encode of MPS's
  CommandsRef command_buffer() const { return commands_; }
  Gpu& gpu() const;
  const ir::Plan& plan() const;
  int slot() const { return slot_; }
  const runtime::StepScalars& scalars() const { return scalars_; }

  // Images of a value, for `reads` reads of each by the kernels of this node.
  ImagesRef read(ValueId id, const Geometry& geometry, int reads = 1);
  ImagesRef write(ValueId id, const Geometry& geometry);
  // Images of this node's own. Their count is `reads`; 0: written, and never read.
  ImagesRef temporary(const Geometry& geometry, DType dtype, int reads);
  // For a kernel that looks at the size of its sources only: one unwritten image stands for all.
  ImagesRef sizes(const Geometry& geometry, DType dtype);
  void give_back(ImagesRef written);  // those of 0 reads, once written

  // States of a forward node until the last of its gradients has taken them. Their read count is
  // for one gradient, each of which makes `reads` of them.
  StatesRef make_states(KernelRef kernel, ImagesRef source, ImagesRef destination);
  void keep_states(int forward, StatesRef states, int reads = 1);
  StatesRef take_states(int forward);  // DeviceError if there are none
  // Encodes a kernel of one source, with states if it has a keeper.
  void forward(KernelRef kernel, ImagesRef x, ImagesRef y, int keeper);

  Buffer buffer(ValueId id);           // of a value that lives in one
  DeviceStorage* storage(ValueId id);  // of a persistent value, else nullptr
  Buffer scratch(std::size_t place);
  Buffer load(const Dense& dense);    // for reading
  Buffer target(const Dense& dense);  // for writing, then store()
  void store(const Dense& dense);
  void to_buffer(ImagesRef from, const Geometry& geometry, DType dtype, Buffer to);
  void to_images(Buffer from, const Geometry& geometry, DType dtype, ImagesRef to);

  void copy(Buffer from, Buffer to, std::size_t bytes);
  // One thread for each of `threads`; `parameters` is the kernel's last argument.
  template <class P>
  void run(PipelineRef kernel, std::initializer_list<Buffer> buffers, const P& parameters,
           int64_t threads) {
    dispatch(kernel, buffers, &parameters, sizeof parameters, threads);
  }

 private:
  friend class Executable;
  void begin(int node, const std::string& layer);
  void end();
  void close();  // our own encoder, before somebody else's
  void results();
  void dispatch(PipelineRef kernel, std::initializer_list<Buffer> buffers, const void* parameters,
                std::size_t bytes, int64_t threads);
  ImagesRef make_images(const Geometry& geometry, DType dtype);
  Buffer passage();  // for a conversion between two forms of images

  Executable& executable_;
  int slot_;
  const runtime::StepScalars& scalars_;
  CommandsRef commands_ = nullptr;
  ComputeRef compute_ = nullptr;
  int node_ = -1;
  std::string layer_;
  std::vector<ImagesRef> live_;  // by alias root
  struct Kept {
    int forward, takers;
    StatesRef states;
  };
  std::vector<Kept> states_;
  std::vector<ImagesRef> own_;  // made by this node
  struct Detour {               // written in another form than the value's own
    ValueId id;
    Geometry geometry;
    ImagesRef images;
  };
  std::vector<Detour> detours_;
  int encodes_ = 0, conversions_ = 0, copies_ = 0;
};

class UpdateOperation {
 public:
  virtual ~UpdateOperation() = default;
  virtual void encode(Encoding& e, Buffer status) = 0;  // leaves an UpdateControlBlock there
};

class Executable final : public runtime::Executable {
 public:
  Executable(Gpu& gpu, std::shared_ptr<const ir::Plan> plan,
             const std::vector<runtime::Storage*>& persistents);
  ~Executable() override;

  void stage(int slot, int input, const HostView& view) override;
  void encode(int slot, const runtime::StepScalars& scalars,
              runtime::Completion& completion) override;
  void read(int slot, int result, Tensor& out) override;
  runtime::StepStatus status(int slot) override;
  std::size_t planned_bytes() const override;
  std::string detail(int node) const override;

 private:
  friend class Builder;
  friend class Encoding;
  std::size_t root(ValueId id) const {
    return static_cast<std::size_t>(plan_->alias[static_cast<std::size_t>(id)]);
  }
  const Value& value(ValueId id) const { return plan_->values[static_cast<std::size_t>(id)]; }
  void place_values();
  void place_buffers();
  void place_results();

  Gpu& gpu_;
  std::shared_ptr<const ir::Plan> plan_;
  std::vector<bool> in_images_;           // by root
  std::vector<Geometry> home_;            // by root
  std::vector<Buffer> buffers_;           // by root; inputs move with the slot
  std::vector<DeviceStorage*> storages_;  // by value
  std::vector<int> input_of_;             // by root: which input it is, -1
  std::vector<int> takers_;               // by node: how many are its gradient
  std::vector<std::size_t> input_offset_, result_offset_;
  std::size_t input_bytes_ = 0, result_bytes_ = 0, status_offset_ = 0, arena_bytes_ = 0;
  int64_t gradient_count_ = 0, trained_count_ = 0;
  BufferRef inputs_[kSlots], results_[kSlots];
  BufferRef arena_ = nullptr, gradients_ = nullptr, scratch_ = nullptr, passage_ = nullptr;
  std::size_t scratch_next_ = 0, scratch_bytes_ = 0, image_bytes_ = 0;
  std::vector<std::vector<ValueId>> dying_;  // by node: roots read there last; then by the update
  std::vector<bool> ones_[kSlots];
  bool reported_ = false;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::unique_ptr<UpdateOperation> update_;
  std::vector<DeviceStorage*> written_;
};

std::unique_ptr<Operation> make_operation(Builder& builder);  // by the op, in mps.mm

// A neuron in the attributes of another op: behind the op's own kernel, by MPS or by ours, where
// MPS has not fused it. In neuron.mm.
class Epilogue {
 public:
  Epilogue() = default;  // none
  Epilogue(Builder& builder, const Geometry& y);
  ImagesRef target(Encoding& e) const;  // for the op's own kernel
  void apply(Encoding& e, ImagesRef written) const;
  bool present() const { return kernel_ != nullptr; }
  const char* detail() const;

 private:
  ValueId y_ = kNone;
  Geometry images_;
  DType dtype_ = DType::float32;
  KernelRef kernel_ = nullptr;
};

// Its gradient, from the output, by our own kernel: the compiler makes no such neuron in training
// here, but a graph may come with one.
class EpilogueGradient {
 public:
  EpilogueGradient(Builder& builder, const Geometry& y);
  ImagesRef gradients(Encoding& e) const;  // of the op's own output, for one read

 private:
  ValueId gy_;
  Geometry y_;
  DType dtype_;
  ir::NeuronSpec spec_;
  Dense from_y_, from_gy_;
  std::size_t inner_ = 0, inner_half_ = 0;
};

bool mps_has(const ir::NeuronSpec& neuron);
NeuronRef describe(const ir::NeuronSpec& neuron);  // {}: a copy
void label(AnyKernelRef kernel, const std::string& layer);
// `count` gradients of what is trained come first of `all` in the vector; those of other losses
// are behind them.
std::unique_ptr<UpdateOperation> make_update(Gpu& gpu, const ir::Plan& plan, Buffer gradients,
                                             int64_t count, int64_t all);

std::unique_ptr<Operation> make_conv2d(Builder& builder);
std::unique_ptr<Operation> make_conv_transpose2d(Builder& builder);
std::unique_ptr<Operation> make_linear(Builder& builder);
std::unique_ptr<Operation> make_neuron(Builder& builder);
std::unique_ptr<Operation> make_prelu(Builder& builder);
std::unique_ptr<Operation> make_pool(Builder& builder);      // of each kind
std::unique_ptr<Operation> make_resample(Builder& builder);  // resize2d, pad2d
std::unique_ptr<Operation> make_batch_norm(Builder& builder);
std::unique_ptr<Operation> make_masked_norm(Builder& builder);  // batch_norm with lengths
std::unique_ptr<Operation> make_set_norm(Builder& builder);     // group_norm, layer_norm
std::unique_ptr<Operation> make_local_norm(Builder& builder);   // local_response_norm, contrast
std::unique_ptr<Operation> make_dropout(Builder& builder);
std::unique_ptr<Operation> make_softmax(Builder& builder);  // and log_softmax
std::unique_ptr<Operation> make_flatten(Builder& builder);  // and reshape
std::unique_ptr<Operation> make_permute(Builder& builder);
std::unique_ptr<Operation> make_slice(Builder& builder);
std::unique_ptr<Operation> make_concat(Builder& builder);
std::unique_ptr<Operation> make_stack(Builder& builder);
std::unique_ptr<Operation> make_unstack(Builder& builder);
std::unique_ptr<Operation> make_arithmetic(Builder& builder);  // add, subtract, multiply, divide
std::unique_ptr<Operation> make_sum(Builder& builder);         // add_n
std::unique_ptr<Operation> make_reduction(Builder& builder);
std::size_t rnn_state_bytes(const Shape& x, const Shape& weight_hh, const Attrs& attrs);
std::unique_ptr<Operation> make_rnn(Builder& builder);
// Whether MPSRNNMatrixTrainingLayer does all of a forward node and its gradients; in rnn_layer.mm.
bool rnn_has_layer(const ir::Plan& plan, const Node& forward);
std::unique_ptr<Operation> make_rnn_layer(Builder& builder);
std::unique_ptr<Operation> make_embedding(Builder& builder);
std::unique_ptr<Operation> make_loss(Builder& builder);       // MPSCNNLoss where it will do
std::unique_ptr<Operation> make_unit_loss(Builder& builder);  // own kernels
std::unique_ptr<Operation> make_total_loss(Builder& builder);

}  // namespace mpsnn::backend::mps
