// add, subtract, multiply and divide by MPSCNNArithmetic on images, which repeats pixels, rows and
// channels; by our own kernel where an operand has no batch (a parameter) or lives in a buffer. MPS
// has no gradient of a quotient and sums none over the batch, so gradients are MPS's where nothing
// is repeated, and our own kernels' elsewhere.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <optional>
#include <vector>

#include "backend/mps/own.h"
#include "ir/broadcast.h"

namespace mpsnn::backend::mps {
namespace {

// One or two results, each of two operands by the same kernel.
class Binary final : public Operation {
 public:
  struct Operand {
    ValueId value;
    Geometry images;
  };
  struct Term {
    Operand a, b;
    ValueId to;
  };
  Binary(Builder& b, MPSCNNArithmetic* kernel, const char* name, std::vector<Term> terms)
      : terms_(std::move(terms)), images_(geometry_of(b.y_shape())), kernel_(kernel), name_(name) {
    label(kernel_, b.layer());
    const Geometry &first = terms_[0].a.images, &second = terms_[0].b.images;
    const auto stride = [](int64_t size, int64_t whole) { return NSUInteger(size == whole); };
    kernel_.primaryStrideInPixelsX = stride(first.w, images_.w);
    kernel_.primaryStrideInPixelsY = stride(first.h, images_.h);
    kernel_.primaryStrideInFeatureChannels = stride(first.c, images_.c);
    kernel_.secondaryStrideInPixelsX = stride(second.w, images_.w);
    kernel_.secondaryStrideInPixelsY = stride(second.h, images_.h);
    kernel_.secondaryStrideInFeatureChannels = stride(second.c, images_.c);
  }
  void encode(Encoding& e) override {
    for (const Term& term : terms_) {
      if (term.to == kNone) continue;
      MPSImageBatch* first = e.read(term.a.value, term.a.images);
      MPSImageBatch* second = e.read(term.b.value, term.b.images);
      [kernel_ encodeBatchToCommandBuffer:e.commands()
                            primaryImages:first
                          secondaryImages:second
                        destinationImages:e.write(term.to, images_)];
    }
  }
  std::string detail() const override { return name_; }

 private:
  std::vector<Term> terms_;
  Geometry images_;
  MPSCNNArithmetic* kernel_;
  const char* name_;
};

// A value as images that MPS can repeat to those of y.
std::optional<Binary::Operand> as_images(Builder& b, ValueId id) {
  const Value& value = b.value(id);
  const Shape& y = b.y_shape();
  const bool plain = value.kind != ValueKind::persistent && value.dtype == b.plan().dtype &&
                     value.shape.size() == y.size() && !y.empty() && value.shape[0] == y[0];
  if (!plain) return std::nullopt;
  const Geometry x = geometry_of(value.shape), to = geometry_of(y);
  const auto fits = [](int64_t size, int64_t whole) { return size == whole || size == 1; };
  if (!fits(x.h, to.h) || !fits(x.w, to.w) || !fits(x.c, to.c)) return std::nullopt;
  return Binary::Operand{id, x};
}

MPSCNNArithmetic* make_kernel(Op op, DeviceRef device) {
  if (op == Op::add) return [[MPSCNNAdd alloc] initWithDevice:device];
  if (op == Op::subtract) return [[MPSCNNSubtract alloc] initWithDevice:device];
  if (op == Op::multiply) return [[MPSCNNMultiply alloc] initWithDevice:device];
  return [[MPSCNNDivide alloc] initWithDevice:device];
}

const char* name_of_kernel(Op op) {
  return op == Op::add        ? "MPSCNNAdd"
         : op == Op::subtract ? "MPSCNNSubtract"
         : op == Op::multiply ? "MPSCNNMultiply"
                              : "MPSCNNDivide";
}

StridedParams operands(Builder& b) {
  const Shape& y = b.y_shape();
  StridedParams p =
      strided(y, ir::broadcast_strides(b.x_shape(0), y), ir::broadcast_strides(b.x_shape(1), y));
  const Op op = b.node().op;
  p.kind = op == Op::add        ? kBinaryAdd
           : op == Op::subtract ? kBinarySubtract
           : op == Op::multiply ? kBinaryMultiply
                                : kBinaryDivide;
  return p;
}

std::unique_ptr<Operation> own_binary(Builder& b) {
  const Dense x = b.dense(b.node().x(0)), z = b.dense(b.node().x(1)), y = b.dense(b.node().y(0));
  const StridedParams p = operands(b);
  return own_kernels([=](Encoding& e) {
    const Buffer first = e.load(x), second = e.load(z);
    e.run(e.gpu().pipeline("combine"), {first, second, e.target(y)}, p, p.count);
    e.store(y);
  });
}

// Each operand's gradient: an element's part, summed where the operand was repeated.
std::unique_ptr<Operation> own_binary_gradient(Builder& b) {
  const Node& n = b.node();
  const Dense gy = b.dense(n.gy(0));
  const Dense x[2] = {dense_or_none(b, n.x(0)), dense_or_none(b, n.x(1))};
  const Dense gx[2] = {dense_or_none(b, n.gx(0)), dense_or_none(b, n.gx(1))};
  const Shape& y = b.y_shape();
  const std::size_t parts = b.scratch(static_cast<std::size_t>(count(y)) * 4);
  const StridedParams p = operands(b);
  std::optional<Reduction> sums[2];
  for (int k = 0; k < 2; ++k) {
    if (n.gx(k) == kNone || count(b.x_shape(k)) == count(y)) continue;
    const auto strides = ir::broadcast_strides(b.x_shape(k), y);
    std::vector<int64_t> repeated;
    for (std::size_t axis = 0; axis < y.size(); ++axis)
      if (strides[axis] == 0 && y[axis] != 1) repeated.push_back(static_cast<int64_t>(axis));
    sums[k].emplace(b, y, repeated);
  }
  return own_kernels([=, first_sum = sums[0], second_sum = sums[1]](Encoding& e) {
    const Buffer gradient = e.load(gy);
    Buffer operand[2] = {gradient, gradient};  // something for arguments that are not read
    for (int k = 0; k < 2; ++k)
      if (x[k].value != kNone) operand[k] = e.load(x[k]);
    for (int k = 0; k < 2; ++k) {
      if (gx[k].value == kNone) continue;
      const std::optional<Reduction>& sum = k == 0 ? first_sum : second_sum;
      const Buffer to = sum ? e.scratch(parts) : e.target(gx[k]);
      StridedParams own = p;
      own.second = k;
      e.run(e.gpu().pipeline("combine_gradient"), {operand[0], operand[1], gradient, to}, own,
            own.count);
      if (sum) sum->run(e, to, e.target(gx[k]));
      e.store(gx[k]);
    }
  });
}

class SubtractGradient final : public Operation {
 public:
  explicit SubtractGradient(Builder& b)
      : gy_(b.node().gy(0)),
        images_(geometry_of(b.y_shape())),
        gx_{b.node().gx(0), b.node().gx(1)} {
    for (const float sign : {1.0f, -1.0f}) {
      MPSNNNeuronDescriptor* times =
          [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeLinear a:sign b:0 c:0];
      kernels_.push_back([[MPSCNNNeuron alloc] initWithDevice:b.gpu().device()
                                             neuronDescriptor:times]);
      label(kernels_.back(), b.layer());
    }
  }
  void encode(Encoding& e) override {
    for (std::size_t i = 0; i < 2; ++i) {
      if (gx_[i] == kNone) continue;
      MPSImageBatch* gy = e.read(gy_, images_);
      [kernels_[i] encodeBatchToCommandBuffer:e.commands()
                                 sourceImages:gy
                            destinationImages:e.write(gx_[i], images_)];
    }
  }
  std::string detail() const override { return "MPSCNNNeuron"; }

 private:
  ValueId gy_;
  Geometry images_;
  ValueId gx_[2];
  std::vector<MPSCNNNeuron*> kernels_;
};

// Whether all that a gradient node sees is images of one size.
bool all_as_images(Builder& b) {
  const Node& n = b.node();
  if (b.x_shape(0) != b.x_shape(1)) return false;
  for (int k = 0; k < 2; ++k) {
    if (n.x(k) != kNone && !as_images(b, n.x(k))) return false;
    if (n.gx(k) != kNone && (!as_images(b, n.gx(k)) || !b.in_images(n.gx(k)))) return false;
  }
  return as_images(b, n.gy(0)).has_value();
}

}  // namespace

std::unique_ptr<Operation> make_arithmetic(Builder& b) {
  const Node& n = b.node();
  if (n.gradient) {
    const bool plain = all_as_images(b);
    if (plain && n.op == Op::subtract) return std::make_unique<SubtractGradient>(b);
    if (!plain || n.op != Op::multiply) return own_binary_gradient(b);
    const Geometry g = geometry_of(b.y_shape());
    std::vector<Binary::Term> terms{{{n.gy(0), g}, {n.x(1), g}, n.gx(0)},
                                    {{n.gy(0), g}, {n.x(0), g}, n.gx(1)}};
    return std::make_unique<Binary>(b, make_kernel(n.op, b.gpu().device()), name_of_kernel(n.op),
                                    std::move(terms));
  }
  const auto first = as_images(b, n.x(0)), second = as_images(b, n.x(1));
  if (!first || !second || !b.in_images(n.y(0))) return own_binary(b);
  return std::make_unique<Binary>(b, make_kernel(n.op, b.gpu().device()), name_of_kernel(n.op),
                                  std::vector<Binary::Term>{{*first, *second, n.y(0)}});
}

// The gradient is the identity, which no node computes.
std::unique_ptr<Operation> make_sum(Builder& b) {
  std::vector<Dense> terms;
  for (const ValueId id : b.node().inputs) terms.push_back(b.dense(id));
  const Dense y = b.dense(b.node().y(0));
  const int elements = static_cast<int>(count(b.y_shape()));
  return own_kernels([=](Encoding& e) {
    const Buffer sum = e.target(y);
    for (std::size_t i = 0; i < terms.size(); ++i)
      e.run(e.gpu().pipeline("scale_array"), {e.load(terms[i]), sum},
            ScaleParams{elements, 1, i > 0 ? 1 : 0}, elements);
    e.store(y);
  });
}

}  // namespace mpsnn::backend::mps
