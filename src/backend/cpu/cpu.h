// The cpu backend: oneDNN for convolutions and large products, own kernels (kernels/) for the rest.
// Every value is dense and channels last. Where the processor multiplies bfloat16, products of such
// graphs do, and the kernels that move the most images take them as they are (ImageKernels); others
// see float32 only, and halves are converted around them (half.cpp).
// One file an op family; the table is in cpu.cpp.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "backend/cpu/kernels/table.h"
#include "core/threads.h"
#include "ir/neuron.h"
#include "runtime/linear.h"

namespace mpsnn::backend::cpu {

using KernelPtr = std::unique_ptr<runtime::Kernel>;

// One operand of a half graph and the float32 scratch that stands for it.
struct Conversion {
  runtime::Ref half, single;
  DType dtype;
  int64_t count;
};

// Whether a node can take its images as bfloat16: they are, and its weights are masters.
bool takes_bfloat(const ir::Plan& plan, const Node& node);
// As those of Backend.
uint64_t overwrites(const Node& node);
bool takes_slice(const ir::Plan& plan, const Node& node);

// What the op files make kernels from.
class Builder {
 public:
  Builder(runtime::KernelBuilder& base, bool small) : base_(base), small_(small) {}

  const ir::Plan& plan() const { return base_.plan(); }
  const Shape& shape(ValueId id) const { return base_.value(id).shape; }
  DType dtype(ValueId id) const { return base_.value(id).dtype; }
  int64_t channels(ValueId id) const { return shape(id).empty() ? 1 : shape(id).back(); }
  // Elements from a pixel to the next.
  int64_t pitch(ValueId id) const {
    const int64_t pitch = plan().slices[static_cast<std::size_t>(id)].pitch;
    return pitch != 0 ? pitch : channels(id);
  }
  // Of its axes, in elements.
  std::vector<int64_t> strides(ValueId id) const;
  // Whether a part lies in the whole, so many elements on.
  bool in_place(ValueId part, ValueId whole, int64_t offset) const {
    const auto& slice = plan().slices[static_cast<std::size_t>(part)];
    const auto root = [&](ValueId id) { return plan().alias[static_cast<std::size_t>(id)]; };
    return slice.pitch != 0 && slice.offset == offset && root(part) == root(whole);
  }
  bool small() const { return small_; }  // one thread, no oneDNN
  runtime::Ref workspace(std::size_t floats) { return base_.workspace(floats * sizeof(float)); }
  runtime::Ref scratch(std::size_t bytes) { return base_.workspace(bytes); }
  // What is made of these values alone may be kept while StepContext::weights_changed is false.
  bool constant(const std::vector<ValueId>& values) const;
  runtime::Ref keep(std::size_t bytes) { return base_.constant(bytes); }

  // float32 operands, whatever they are stored as; empty for kNone.
  runtime::Ref in(ValueId id);
  runtime::Ref weight(ValueId id);  // rounded to the graph's dtype
  runtime::Ref out(ValueId id);
  runtime::Ref raw(ValueId id) { return base_.ref(id); }
  bool bfloat(const Node& node) const { return takes_bfloat(plan(), node); }
  // Images of a kernel for T: float, or the bits of a bfloat16.
  template <class T>
  runtime::Ref read(ValueId id) {
    return std::is_same_v<T, float> ? in(id) : raw(id);
  }
  template <class T>
  runtime::Ref write(ValueId id) {
    return std::is_same_v<T, float> ? out(id) : raw(id);
  }

  // The kernel with its conversions around it.
  KernelPtr finish(KernelPtr kernel);

 private:
  runtime::Ref convert(ValueId id, DType through, std::vector<Conversion>& list);
  runtime::KernelBuilder& base_;
  bool small_;
  std::vector<std::pair<runtime::Ref, Conversion>> rounded_;  // masters and their copies
  std::vector<Conversion> before_, after_;
};

KernelPtr make_conv2d(Builder&, const Node&);
KernelPtr make_conv_transpose2d(Builder&, const Node&);
KernelPtr make_linear(Builder&, const Node&);
KernelPtr make_neuron(Builder&, const Node&);
KernelPtr make_prelu(Builder&, const Node&);
KernelPtr make_max_pool2d(Builder&, const Node&);
KernelPtr make_avg_pool2d(Builder&, const Node&);
KernelPtr make_l2_pool2d(Builder&, const Node&);
KernelPtr make_resize2d(Builder&, const Node&);
KernelPtr make_pad2d(Builder&, const Node&);
KernelPtr make_batch_norm(Builder&, const Node&);
KernelPtr make_group_norm(Builder&, const Node&);
KernelPtr make_layer_norm(Builder&, const Node&);
KernelPtr make_local_response_norm(Builder&, const Node&);
KernelPtr make_local_contrast_norm(Builder&, const Node&);
KernelPtr make_dropout(Builder&, const Node&);
KernelPtr make_flatten(Builder&, const Node&);
KernelPtr make_softmax(Builder&, const Node&);
KernelPtr make_log_softmax(Builder&, const Node&);
KernelPtr make_reshape(Builder&, const Node&);
KernelPtr make_permute(Builder&, const Node&);
KernelPtr make_slice(Builder&, const Node&);
KernelPtr make_concat(Builder&, const Node&);
KernelPtr make_add(Builder&, const Node&);
KernelPtr make_add_n(Builder&, const Node&);
KernelPtr make_subtract(Builder&, const Node&);
KernelPtr make_multiply(Builder&, const Node&);
KernelPtr make_divide(Builder&, const Node&);
KernelPtr make_reduce_sum(Builder&, const Node&);
KernelPtr make_reduce_mean(Builder&, const Node&);
KernelPtr make_reduce_max(Builder&, const Node&);
KernelPtr make_reduce_min(Builder&, const Node&);
KernelPtr make_rnn(Builder&, const Node&);
std::size_t rnn_state_bytes(const ir::Plan&, const Node&);
KernelPtr make_embedding(Builder&, const Node&);
KernelPtr make_stack(Builder&, const Node&);
KernelPtr make_unstack(Builder&, const Node&);
KernelPtr make_softmax_cross_entropy(Builder&, const Node&);
KernelPtr make_element_loss(Builder&, const Node&);
KernelPtr make_cosine_distance(Builder&, const Node&);
KernelPtr make_yolo_loss(Builder&, const Node&);
KernelPtr make_given_loss(Builder&, const Node&);
KernelPtr make_total_loss(Builder&, const Node&);
std::unique_ptr<runtime::UpdateKernel> make_update(runtime::KernelBuilder&, const ir::Update&);

template <class T>
const ImageKernels<T>& images() {
  if constexpr (std::is_same_v<T, float>)
    return select().single;
  else
    return select().bfloat;
}
// f(T()) of what images are taken as.
template <class F>
auto by_images(bool bfloat, F f) {
  return bfloat ? f(uint16_t()) : f(float());
}
template <class F>
auto by_images(const Builder& b, const Node& node, F f) {
  return by_images(b.bfloat(node), f);
}

// Whether so many floats are more than half of a common last cache: gone before somebody reads
// them.
inline bool past_caches(int64_t floats) { return floats >= int64_t{4} << 20; }

// How far apart each part's own n values begin that threads write at the same time, so that none
// are in one cache line, or in two that are fetched together.
template <class T>
int64_t apart(int64_t n) {
  constexpr int64_t kLines = 128 / sizeof(T);
  return (n + kLines - 1) / kLines * kLines;
}

// A pointwise pass by all threads.
template <class F>
void pointwise(int64_t n, F f) {
  threads::parallel_for(n, 16384, f);
}

inline NeuronParams params_of(const ir::NeuronSpec& s) {
  return {static_cast<int>(s.kind), static_cast<float>(s.a), static_cast<float>(s.b),
          static_cast<float>(s.c)};
}

// The neuron fused into a node, from the node's attributes.
struct Epilogue {
  explicit Epilogue(const Attrs& attrs) : params(params_of(ir::epilogue_of(attrs))) {}
  explicit operator bool() const { return params.kind != 0; }
  void apply(float* y, int64_t n) const {
    if (*this)
      pointwise(n, [&](int64_t b, int64_t e) { select().neuron(params, y + b, y + b, e - b); });
  }
  void gradient(const float* gy, const float* y, float* gz, int64_t n) const {
    pointwise(n, [&](int64_t b, int64_t e) {
      select().neuron_gradient(params, gy + b, y + b, gz + b, e - b);
    });
  }
  // The same on one thread.
  void apply_here(float* y, int64_t n) const {
    if (*this) select().neuron(params, y, y, n);
  }
  void gradient_here(const float* gy, const float* y, float* gz, int64_t n) const {
    select().neuron_gradient(params, gy, y, gz, n);
  }
  // The same of bfloat16, of which a block at a time is float32.
  void apply(uint16_t* y, int64_t n) const;
  void gradient(const uint16_t* gy, const uint16_t* y, uint16_t* gz, int64_t n) const;
  void apply_here(uint16_t* y, int64_t n) const;
  void gradient_here(const uint16_t* gy, const uint16_t* y, uint16_t* gz, int64_t n) const;
  NeuronParams params;
};

// gb[c] = sum over rows of g (rows x c), by all threads; `partial`: team x c floats.
void bias_gradient(const float* g, int64_t rows, int64_t c, float* partial, float* gb);
std::size_t bias_gradient_floats(int64_t c);

}  // namespace mpsnn::backend::cpu
