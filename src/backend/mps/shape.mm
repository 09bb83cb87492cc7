// flatten where it is not a view, and concat. Parts that begin at a multiple of four channels are
// copied into the whole by MPS; others through dense buffers, since texels hold four channels.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/executable.h"
#include "backend/mps/kernels.h"

namespace mpsnn::backend::mps {
namespace {

class Flatten final : public Operation {
 public:
  explicit Flatten(Builder& b)
      : from_(b.node().gradient ? b.node().gy(0) : b.node().x(0)),
        to_(b.node().gradient ? b.node().gx(0) : b.node().y(0)),
        images_(b.home(to_)) {
    copy_ = [[MPSCNNNeuron alloc] initWithDevice:b.gpu().device()
                                neuronDescriptor:describe(ir::Neuron::none, 0)];
    label(copy_, b.layer());
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(from_, images_), *y = e.write(to_, images_);
    [copy_ encodeBatchToCommandBuffer:e.commands() sourceImages:x destinationImages:y];
  }
  std::string detail() const override { return "MPSCNNNeuron"; }

 private:
  ValueId from_, to_;
  Geometry images_;
  MPSCNNNeuron* copy_;
};

struct Part {
  ValueId value;  // kNone: a gradient nobody wants
  Geometry images;
  int64_t offset;
};

class Concat final : public Operation {
 public:
  explicit Concat(Builder& b)
      : whole_(b.node().gradient ? b.node().gy(0) : b.node().y(0)),
        images_(geometry_of(b.y_shape())),
        gradient_(b.node().gradient) {
    const auto& sizes = b.attrs().integers("sizes");
    int64_t offset = 0;
    aligned_ = true;
    for (int i = 0; i < b.node().nx; ++i) {
      const ValueId value = gradient_ ? b.node().gx(i) : b.node().x(i);
      Geometry images = images_;
      images.c = sizes[static_cast<std::size_t>(i)];
      parts_.push_back({value, images, offset});
      aligned_ = aligned_ && offset % 4 == 0;
      offset += images.c;
    }
    if (aligned_) {
      for (const Part& part : parts_) {
        MPSCNNNeuron* copy = [[MPSCNNNeuron alloc] initWithDevice:b.gpu().device()
                                                 neuronDescriptor:describe(ir::Neuron::none, 0)];
        label(copy, b.layer());
        if (gradient_) {
          copy.sourceFeatureChannelOffset = static_cast<NSUInteger>(part.offset);
          copy.sourceFeatureChannelMaxCount = static_cast<NSUInteger>(part.images.c);
        } else {
          copy.destinationFeatureChannelOffset = static_cast<NSUInteger>(part.offset);
        }
        copies_.push_back(copy);
      }
      return;
    }
    dense_whole_ = b.dense(whole_);
    for (const Part& part : parts_)
      dense_parts_.push_back(part.value == kNone ? Dense{} : b.dense(part.value));
  }

  void encode(Encoding& e) override {
    if (!aligned_) {
      through_buffers(e);
      return;
    }
    MPSImageBatch* whole = gradient_ ? nil : e.write(whole_, images_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      if (part.value == kNone) continue;
      MPSImageBatch* from = gradient_ ? e.read(whole_, images_) : e.read(part.value, part.images);
      MPSImageBatch* to = gradient_ ? e.write(part.value, part.images) : whole;
      [copies_[i] encodeBatchToCommandBuffer:e.commands() sourceImages:from destinationImages:to];
    }
  }

  std::string detail() const override {
    return aligned_ ? "MPSCNNNeuron at a channel offset" : "through buffers";
  }

 private:
  void through_buffers(Encoding& e) {
    const Buffer whole = gradient_ ? e.load(dense_whole_) : e.target(dense_whole_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      if (part.value == kNone) continue;
      const RowParams rows{static_cast<int>(part.images.count()), static_cast<int>(part.images.c),
                           static_cast<int>(images_.c), static_cast<int>(part.offset)};
      if (gradient_) {
        e.run(e.gpu().pipeline("rows_from"), {whole, e.target(dense_parts_[i])}, rows, rows.count);
        e.store(dense_parts_[i]);
      } else {
        const Buffer from = e.load(dense_parts_[i]);
        e.run(e.gpu().pipeline("rows_into"), {from, whole}, rows, rows.count);
      }
    }
    if (!gradient_) e.store(dense_whole_);
  }

  ValueId whole_;
  Geometry images_;
  bool gradient_, aligned_ = true;
  std::vector<Part> parts_;
  std::vector<MPSCNNNeuron*> copies_;
  Dense dense_whole_;
  std::vector<Dense> dense_parts_;
};

}  // namespace

std::unique_ptr<Operation> make_flatten(Builder& b) { return std::make_unique<Flatten>(b); }
std::unique_ptr<Operation> make_concat(Builder& b) { return std::make_unique<Concat>(b); }

}  // namespace mpsnn::backend::mps
