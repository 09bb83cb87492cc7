// Losses that MPSCNNLoss computes as we mean them: softmax cross-entropy of indices, squared error,
// sigmoid cross-entropy and log loss, summed, of elements that count alike; all else is in
// unit_loss.mm. One encode gives both the loss of each image and its gradient, so the forward node
// keeps the one and the gradient node the other; every factor (image, class, loss scale, 1 / sum of
// weights) is in the weights image, never in MPS's reduction, of which it is not documented what it
// does to gradients.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/own.h"
#include "ir/loss.h"
#include "mpsnn/error.h"

namespace mpsnn::backend::mps {
namespace {

LossParams common(Builder& b, const Geometry& images) {
  LossParams p{};
  p.images = static_cast<int>(images.n);
  p.classes = static_cast<int>(images.c);
  p.positions = static_cast<int>(images.h * images.w);
  p.divides = b.attrs().text("reduction") == "mean" ? 1 : 0;
  p.image_weighted = b.node().nx > 2 && b.node().x(2) != kNone ? 1 : 0;
  if (b.node().gradient) p.scale = p.divides != 0 && b.attrs().flag("normalize") ? 2 : 1;
  return p;
}

// Whether MPS's element loss is ours; of the others the header's formulas for loss and gradient
// disagree, or divide 0 by 0.
bool mps_computes(Builder& b) {
  const Node& n = b.node();
  const bool weighted = b.attrs().has("weight") && !b.attrs().numbers("weight").empty();
  const bool soft = n.op != Op::element_loss || is_floating(b.value(n.x(1)).dtype);
  if (b.attrs().text("reduction") == "none" || (n.nx > 3 && n.x(3) != kNone)) return false;
  if (n.gradient && (n.gy(0) == kNone || n.gy(1) != kNone)) return false;
  if (n.op == Op::softmax_cross_entropy)  // MPS's gradient takes labels to sum to 1
    return !is_floating(b.value(n.x(1)).dtype) &&
           !(weighted && b.attrs().number("label_smoothing") != 0);
  if (n.op != Op::element_loss || weighted || !soft) return false;
  if (n.nx > 2 && n.x(2) != kNone) return false;  // 0 times NaN, where a weight of 0 is absence
  const ir::Loss kind = ir::loss_of(b.attrs()).kind;
  return kind == ir::Loss::mse || kind == ir::Loss::sigmoid_cross_entropy || kind == ir::Loss::log;
}

class Loss final : public Operation {
 public:
  explicit Loss(Builder& b)
      : node_(b.node()),
        gradient_(b.node().gradient),
        cross_entropy_(b.node().op == Op::softmax_cross_entropy),
        images_(geometry_of(b.x_shape(0))),
        gpu_(b.gpu()),
        p_(common(b, images_)) {
    if (gradient_) seed_ = b.dense(node_.gy(0));
    if (cross_entropy_) read_labels(b);
    const auto elements = static_cast<std::size_t>(images_.count());
    image_loss_ = b.scratch(static_cast<std::size_t>(images_.n) * 4);
    labels_place_ = b.scratch(elements * 4);
    weights_place_ = b.scratch(elements * 4);
    make_loss_objects(b);
    // Staged in the graph's own type, not float32, when no loss but this backend's caller says so.
    if (!cross_entropy_) target_ = b.dense(node_.x(1));
    if (p_.image_weighted != 0) image_weight_ = b.dense(node_.x(2));
  }

  void encode(Encoding& e) override {
    const Buffer target = cross_entropy_ ? e.buffer(node_.x(1)) : e.load(target_);
    Buffer weight = target, classes = target;  // something for arguments that are not read
    if (p_.image_weighted != 0) weight = e.load(image_weight_);
    if (p_.class_weighted != 0) classes = {class_weight_, 0};
    if (gradient_) {
      encode_mps(e, target, classes, weight, e.load(seed_), e.buffer(node_.state(0)));
      return;
    }
    const Buffer sums = e.buffer(node_.state(1));
    sum_weights(e, target, classes, weight, sums);
    encode_mps(e, target, classes, weight, target, target);
    e.run(e.gpu().pipeline("loss_values"),
          {e.scratch(image_loss_), sums, e.buffer(node_.y(0)), e.buffer(node_.y(1)),
           e.buffer(node_.state(0))},
          p_, 1);
  }

  std::string detail() const override { return std::string("MPSCNNLoss ") + name_; }

 private:
  void read_labels(Builder& b) {
    const Attrs& a = b.attrs();
    p_.ignore = static_cast<int>(a.integer("ignore_index"));
    p_.smoothing = static_cast<float>(a.number("label_smoothing"));
    if (!a.has("weight")) return;
    const std::vector<double> weight = a.numbers("weight");
    if (weight.empty()) return;
    p_.class_weighted = 1;
    const std::vector<float> floats(weight.begin(), weight.end());
    class_weight_ = constant_buffer(gpu_, floats.data(), floats.size() * 4);
  }

  MPSCNNLossDescriptor* describe_loss(Builder& b) {
    MPSCNNLossType type = MPSCNNLossTypeSoftMaxCrossEntropy;
    name_ = "SoftMaxCrossEntropy";
    const ir::LossSpec spec = cross_entropy_ ? ir::LossSpec{} : ir::loss_of(b.attrs());
    if (!cross_entropy_ && spec.kind == ir::Loss::mse) {
      type = MPSCNNLossTypeMeanSquaredError;
      name_ = "MeanSquaredError";
    } else if (!cross_entropy_ && spec.kind == ir::Loss::log) {
      type = MPSCNNLossTypeLog;
      name_ = "Log";
    } else if (!cross_entropy_) {
      type = MPSCNNLossTypeSigmoidCrossEntropy;
      name_ = "SigmoidCrossEntropy";
    }
    MPSCNNLossDescriptor* made =
        [MPSCNNLossDescriptor cnnLossDescriptorWithType:type reductionType:MPSCNNReductionTypeSum];
    made.numberOfClasses = static_cast<NSUInteger>(images_.c);
    if (type == MPSCNNLossTypeLog) made.epsilon = static_cast<float>(spec.a);
    if (type == MPSCNNLossTypeSigmoidCrossEntropy)
      made.labelSmoothing = static_cast<float>(b.attrs().number("label_smoothing"));
    return made;
  }

  // Labels, weights and loss images live as long as the executable: steps run one after another.
  void make_loss_objects(Builder& b) {
    kernel_ = [[MPSCNNLoss alloc] initWithDevice:gpu_.device() lossDescriptor:describe_loss(b)];
    label(kernel_, b.layer());
    MPSImageDescriptor* image =
        [MPSImageDescriptor imageDescriptorWithChannelFormat:MPSImageFeatureChannelFormatFloat32
                                                       width:static_cast<NSUInteger>(images_.w)
                                                      height:static_cast<NSUInteger>(images_.h)
                                             featureChannels:static_cast<NSUInteger>(images_.c)];
    image.storageMode = MTLStorageModePrivate;
    NSMutableArray<MPSImage*>*labels = [NSMutableArray<MPSImage*> array],
    *weights = [NSMutableArray<MPSImage*> array], *losses = [NSMutableArray<MPSImage*> array];
    NSMutableArray<MPSCNNLossLabels*>* objects = [NSMutableArray<MPSCNNLossLabels*> array];
    for (int64_t n = 0; n < images_.n; ++n) {
      MPSImage* own = [[MPSImage alloc] initWithDevice:gpu_.device() imageDescriptor:image];
      MPSImage* weight = [[MPSImage alloc] initWithDevice:gpu_.device() imageDescriptor:image];
      MPSCNNLossLabels* object = [[MPSCNNLossLabels alloc] initWithDevice:gpu_.device()
                                                            lossImageSize:MTLSizeMake(1, 1, 1)
                                                              labelsImage:own
                                                             weightsImage:weight];
      [labels addObject:own];
      [weights addObject:weight];
      [objects addObject:object];
      [losses addObject:object.lossImage];
    }
    if (losses[0].featureChannelFormat != MPSImageFeatureChannelFormatFloat32)
      throw UnsupportedError("MPS keeps losses in another type than float32 here");
    labels_ = labels;
    weights_ = weights;
    losses_ = losses;
    objects_ = objects;
  }

  void sum_weights(Encoding& e, Buffer target, Buffer classes, Buffer weight, Buffer sums) {
    LossParams p = p_;
    if (!cross_entropy_) {  // every element counts
      p.positions *= p.classes;
      p.soft = 1;
    }
    e.run(e.gpu().pipeline("loss_weights"), {target, classes, weight, sums}, p, p.images);
  }

  void encode_mps(Encoding& e, Buffer target, Buffer classes, Buffer weight, Buffer seed,
                  Buffer total) {
    Buffer labels = target;
    const Buffer weights = e.scratch(weights_place_);
    if (cross_entropy_) {
      labels = e.scratch(labels_place_);
      e.run(e.gpu().pipeline("index_labels"),
            {target, classes, weight, seed, total, labels, weights}, p_, images_.count());
    } else {
      e.run(e.gpu().pipeline("value_weights"), {weight, seed, total, weights}, p_, images_.count());
    }
    e.to_images(labels, images_, DType::float32, labels_);
    e.to_images(weights, images_, DType::float32, weights_);
    MPSImageBatch* x = e.read(node_.x(0), images_);
    MPSImageBatch* gradients =
        gradient_ ? e.write(node_.gx(0), images_) : e.temporary(images_, e.plan().dtype, 0);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                           sourceImages:x
                                 labels:objects_
                      destinationImages:gradients];
    if (gradient_) return;
    e.give_back(gradients);
    Geometry one = images_;
    one.h = one.w = one.c = 1;
    e.to_buffer(losses_, one, DType::float32, e.scratch(image_loss_));
  }

  const Node& node_;
  bool gradient_, cross_entropy_;
  const char* name_ = "";
  Geometry images_;
  Gpu& gpu_;
  LossParams p_;
  BufferRef class_weight_ = nil;
  Dense target_, image_weight_, seed_;
  std::size_t image_loss_ = 0, labels_place_ = 0, weights_place_ = 0;
  MPSCNNLoss* kernel_ = nil;
  NSArray<MPSImage*>*labels_ = nil, *weights_ = nil, *losses_ = nil;
  NSArray<MPSCNNLossLabels*>* objects_ = nil;
};

class TotalLoss final : public Operation {
 public:
  explicit TotalLoss(Builder& b)
      : gradient_(b.node().gradient),
        weights_(b.attrs().numbers("weights")),
        whole_(b.dense(gradient_ ? b.node().gy(0) : b.node().y(0))) {
    for (int i = 0; i < b.node().nx; ++i) {
      const ValueId part = gradient_ ? b.node().gx(i) : b.node().x(i);
      parts_.push_back(part == kNone ? Dense{} : b.dense(part));
    }
  }
  void encode(Encoding& e) override {
    PipelineRef kernel = e.gpu().pipeline("scale_array");
    const Buffer whole = gradient_ ? e.load(whole_) : e.target(whole_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].value == kNone) continue;
      const ScaleParams p{1, static_cast<float>(weights_[i]), !gradient_ && i > 0 ? 1 : 0};
      if (gradient_) {
        e.run(kernel, {whole, e.target(parts_[i])}, p, 1);
        e.store(parts_[i]);
      } else {
        e.run(kernel, {e.load(parts_[i]), whole}, p, 1);
      }
    }
    if (!gradient_) e.store(whole_);
  }
  std::string detail() const override { return "own kernel"; }

 private:
  bool gradient_;
  std::vector<double> weights_;
  Dense whole_;
  std::vector<Dense> parts_;
};

}  // namespace

std::unique_ptr<Operation> make_loss(Builder& b) {
  if (mps_computes(b)) return std::make_unique<Loss>(b);
  return make_unit_loss(b);
}
std::unique_ptr<Operation> make_total_loss(Builder& b) { return std::make_unique<TotalLoss>(b); }

}  // namespace mpsnn::backend::mps
