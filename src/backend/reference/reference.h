// The oracle: plain loops over double copies of a node's operands, results rounded once to their
// storage type. Slow and obvious on purpose. Threads share out whole results, each of which one
// thread sums in one order: any number of threads gives equal bits. One file an op family; the
// table is in reference.cpp.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "core/half.h"
#include "core/threads.h"
#include "ir/broadcast.h"
#include "ir/neuron.h"
#include "runtime/linear.h"

namespace mpsnn::backend::reference {

// f(i) for i in 0..n, each some `cost` multiplications, by all threads.
template <class F>
void each(int64_t n, int64_t cost, F f) {
  threads::parallel_for(n, 1 + 20000 / std::max<int64_t>(cost, 1), [&](int64_t i, int64_t end) {
    for (; i < end; ++i) f(i);
  });
}

// One node's operands as double arrays in the plan's workspace, by role. What a forward node makes
// and a gradient node returns is written here and stored when the function is done.
class Call {
 public:
  Call(runtime::KernelBuilder& builder, const Node& node);

  void load();
  void store();

  const Node& node() const { return node_; }
  const Attrs& attrs() const { return node_.attrs; }
  const runtime::StepContext& step() const { return *step_; }
  void set_step(const runtime::StepContext& step) { step_ = &step; }

  double* x(int i) { return at(node_.x(i)); }  // nullptr where absent
  double* y(int i) { return at(node_.y(i)); }
  double* gy(int i) { return at(node_.gy(i)); }
  double* gx(int i) { return at(node_.gx(i)); }
  double* state(int i) { return at(node_.state(i)); }
  bool has_x(int i) const { return i < node_.nx && node_.x(i) != kNone; }
  template <class T>
  T* raw_state(int i) {
    return ref(node_.state(i)).get<T>();
  }
  // Shapes of the forward node's values, known to its gradient as well.
  const Shape& x_shape(int i) const { return value(forward_x_[static_cast<std::size_t>(i)]).shape; }
  const Shape& y_shape() const { return y_shape_; }
  DType x_dtype(int i) const { return value(forward_x_[static_cast<std::size_t>(i)]).dtype; }

  // Room for two rows of the first operand.
  double* scratch(int which) { return scratch_.get<double>() + which * x_shape(0).back(); }

  // a + b in the accumulator asked for: half rounds every addition.
  double add(double a, double b) const {
    const double sum = a + b;
    return half_accumulator_ ? static_cast<double>(half_to_float(double_to_half(sum))) : sum;
  }

 private:
  struct Operand {
    ValueId id;
    runtime::Ref ref;
    DType dtype, rounded;  // rounded: the type a weight is converted to before use
    bool opaque;
    int64_t count;
    int64_t channels, pitch;  // of a pixel: different in a slice of a wider image
    runtime::Ref values;      // doubles
    int64_t place(int64_t i) const { return i / channels * pitch + i % channels; }
  };
  Operand* find(ValueId id);
  double* at(ValueId id);
  runtime::Ref ref(ValueId id);
  const Value& value(ValueId id) const { return plan_.values.at(static_cast<std::size_t>(id)); }
  void add_operand(runtime::KernelBuilder& builder, ValueId id, std::vector<Operand>& to);

  const ir::Plan& plan_;
  const Node& node_;
  std::vector<ValueId> forward_x_;
  Shape y_shape_;
  std::vector<Operand> in_, out_;
  runtime::Ref scratch_;
  bool half_accumulator_ = false;
  const runtime::StepContext* step_ = nullptr;
};

// Where an operand that repeats along axes of `of` has the value that meets element i. Both shapes
// outlive it: a step allocates nothing.
class Place {
 public:
  Place(const Shape& x, const Shape& of) : x_(x), of_(of), dense_(x == of) {}
  int64_t operator()(int64_t i) const {
    if (dense_) return i;
    int64_t at = 0, stride = 1;
    for (std::size_t x = x_.size(), axis = of_.size(); x > 0; i /= of_[axis]) {
      const int64_t size = x_[--x];
      if (size == of_[--axis]) at += i % size * stride;
      stride *= size;
    }
    return at;
  }

 private:
  const Shape &x_, &of_;
  bool dense_;
};

using Function = void (*)(Call&);
struct OpFunctions {
  Function forward, gradient;
};

void conv2d(Call&);
void conv2d_gradient(Call&);
void conv_transpose2d(Call&);
void conv_transpose2d_gradient(Call&);
void linear(Call&);
void linear_gradient(Call&);
void neuron(Call&);
void neuron_gradient(Call&);
void prelu(Call&);
void prelu_gradient(Call&);
void max_pool2d(Call&);
void max_pool2d_gradient(Call&);
void avg_pool2d(Call&);
void avg_pool2d_gradient(Call&);
void l2_pool2d(Call&);
void l2_pool2d_gradient(Call&);
void resize2d(Call&);
void resize2d_gradient(Call&);
void pad2d(Call&);
void pad2d_gradient(Call&);
void batch_norm(Call&);
void batch_norm_gradient(Call&);
void group_norm(Call&);
void group_norm_gradient(Call&);
void layer_norm(Call&);
void layer_norm_gradient(Call&);
void local_response_norm(Call&);
void local_response_norm_gradient(Call&);
void local_contrast_norm(Call&);
void local_contrast_norm_gradient(Call&);
void dropout(Call&);
void dropout_gradient(Call&);
void flatten(Call&);
void flatten_gradient(Call&);
void reshape(Call&);
void reshape_gradient(Call&);
void permute(Call&);
void permute_gradient(Call&);
void slice(Call&);
void slice_gradient(Call&);
void concat(Call&);
void concat_gradient(Call&);
void softmax(Call&);
void softmax_gradient(Call&);
void log_softmax(Call&);
void log_softmax_gradient(Call&);
void add(Call&);
void add_gradient(Call&);
void add_n(Call&);
void subtract(Call&);
void subtract_gradient(Call&);
void multiply(Call&);
void multiply_gradient(Call&);
void divide(Call&);
void divide_gradient(Call&);
void reduce_sum(Call&);
void reduce_sum_gradient(Call&);
void reduce_mean(Call&);
void reduce_mean_gradient(Call&);
void reduce_max(Call&);
void reduce_max_gradient(Call&);
void reduce_min(Call&);
void reduce_min_gradient(Call&);
void rnn(Call&);
void rnn_gradient(Call&);
std::size_t rnn_scratch(const Call&);  // doubles at Call::scratch(0)
void embedding(Call&);
void embedding_gradient(Call&);
void stack(Call&);
void stack_gradient(Call&);
void unstack(Call&);
void unstack_gradient(Call&);
void softmax_cross_entropy(Call&);
void softmax_cross_entropy_gradient(Call&);
void element_loss(Call&);
void element_loss_gradient(Call&);
void cosine_distance(Call&);
void cosine_distance_gradient(Call&);
void yolo_loss(Call&);
void yolo_loss_gradient(Call&);
void given_loss(Call&);
void given_loss_gradient(Call&);
void total_loss(Call&);
void total_loss_gradient(Call&);

std::unique_ptr<runtime::UpdateKernel> make_update(runtime::KernelBuilder& builder,
                                                   const ir::Update& update);

double load_as_double(const void* at, DType dtype, int64_t i);
void store_double(void* at, DType dtype, int64_t i, double value);

// The neuron fused into a node.
struct Epilogue {
  explicit Epilogue(const Attrs& attrs) : spec(ir::epilogue_of(attrs)) {}
  double apply(double x) const { return ir::neuron(spec, x); }
  double slope(double y) const { return ir::neuron_slope(spec, y); }
  ir::NeuronSpec spec;
};

}  // namespace mpsnn::backend::reference
