// add, subtract and multiply by MPSCNNArithmetic on images, with our own kernel where gradients of
// one parameter are summed; reduce_mean, of whole images, by MPS's means over one axis after the
// other, which no gradient kernel belongs to: its gradient is our own.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

namespace mpsnn::backend::mps {
namespace {

// One or two results, each of two operands by the same kernel.
class Binary final : public Operation {
 public:
  struct Term {
    ValueId a, b, to;
  };
  Binary(Builder& b, MPSCNNArithmetic* kernel, const char* name, std::vector<Term> terms)
      : terms_(std::move(terms)), images_(geometry_of(b.y_shape())), kernel_(kernel), name_(name) {
    label(kernel_, b.layer());
  }
  void encode(Encoding& e) override {
    for (const Term& term : terms_) {
      if (term.to == kNone) continue;
      MPSImageBatch *first = e.read(term.a, images_), *second = e.read(term.b, images_);
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

Binary::Term operands(Builder& b) { return {b.node().x(0), b.node().x(1), b.node().y(0)}; }

class AddArrays final : public Operation {
 public:
  explicit AddArrays(Builder& b)
      : a_(b.dense(b.node().x(0))),
        b_(b.dense(b.node().x(1))),
        y_(b.dense(b.node().y(0))),
        kernel_(b.gpu().pipeline("add_arrays")),
        count_{static_cast<int>(count(b.y_shape()))} {}
  void encode(Encoding& e) override {
    const Buffer first = e.load(a_), second = e.load(b_);
    e.run(kernel_, {first, second, e.target(y_)}, count_, count_.count);
    e.store(y_);
  }
  std::string detail() const override { return "own kernel"; }

 private:
  Dense a_, b_, y_;
  PipelineRef kernel_;
  CountParams count_;
};

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

// Between two of the means images are float32, in half graphs too.
class ImageMean final : public Operation {
 public:
  explicit ImageMean(Builder& b) : x_(b.node().x(0)), y_(b.node().y(0)), images_(b.home(x_)) {
    DeviceRef device = b.gpu().device();
    Geometry to = images_;
    to.c = 1;
    stages_.push_back({[[MPSNNReduceFeatureChannelsMean alloc] initWithDevice:device], to});
    to.w = 1;
    if (images_.w != 1) stages_.push_back({[[MPSNNReduceRowMean alloc] initWithDevice:device], to});
    to.h = 1;
    if (images_.h != 1)
      stages_.push_back({[[MPSNNReduceColumnMean alloc] initWithDevice:device], to});
    for (const Stage& stage : stages_) label(stage.kernel, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch* from = e.read(x_, images_);
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Geometry& g = stages_[i].to;
      MPSImageBatch* to =
          i + 1 == stages_.size() ? e.write(y_, g) : e.temporary(g, DType::float32, 1);
      [stages_[i].kernel encodeBatchToCommandBuffer:e.commands()
                                       sourceImages:from
                                  destinationImages:to];
      from = to;
    }
  }
  std::string detail() const override { return "MPSNNReduce*Mean"; }

 private:
  struct Stage {
    MPSNNReduceUnary* kernel;
    Geometry to;
  };
  ValueId x_, y_;
  Geometry images_;
  std::vector<Stage> stages_;
};

class ImageMeanGradient final : public Operation {
 public:
  explicit ImageMeanGradient(Builder& b)
      : gy_(b.dense(b.node().gy(0))),
        gx_(b.dense(b.node().gx(0))),
        kernel_(b.gpu().pipeline("mean_gradient")) {
    const Shape& x = b.x_shape(0);
    mean_ = {static_cast<int>(count(x)), static_cast<int>(count(x) / x[0])};
  }
  void encode(Encoding& e) override {
    const Buffer gy = e.load(gy_);
    e.run(kernel_, {gy, e.target(gx_)}, mean_, mean_.count);
    e.store(gx_);
  }
  std::string detail() const override { return "own kernel"; }

 private:
  Dense gy_, gx_;
  PipelineRef kernel_;
  MeanParams mean_{};
};

}  // namespace

std::unique_ptr<Operation> make_add(Builder& b) {
  if (!b.in_images(b.node().y(0))) return std::make_unique<AddArrays>(b);
  MPSCNNAdd* kernel = [[MPSCNNAdd alloc] initWithDevice:b.gpu().device()];
  return std::make_unique<Binary>(b, kernel, "MPSCNNAdd", std::vector{operands(b)});
}

std::unique_ptr<Operation> make_subtract(Builder& b) {
  if (b.node().gradient) return std::make_unique<SubtractGradient>(b);
  MPSCNNSubtract* kernel = [[MPSCNNSubtract alloc] initWithDevice:b.gpu().device()];
  return std::make_unique<Binary>(b, kernel, "MPSCNNSubtract", std::vector{operands(b)});
}

std::unique_ptr<Operation> make_multiply(Builder& b) {
  const Node& n = b.node();
  std::vector<Binary::Term> terms{operands(b)};
  if (n.gradient) terms = {{n.gy(0), n.x(1), n.gx(0)}, {n.gy(0), n.x(0), n.gx(1)}};
  MPSCNNMultiply* kernel = [[MPSCNNMultiply alloc] initWithDevice:b.gpu().device()];
  return std::make_unique<Binary>(b, kernel, "MPSCNNMultiply", std::move(terms));
}

std::unique_ptr<Operation> make_reduce_mean(Builder& b) {
  if (b.node().gradient) return std::make_unique<ImageMeanGradient>(b);
  return std::make_unique<ImageMean>(b);
}

}  // namespace mpsnn::backend::mps
