// conv2d on MPSCNNConvolution: weights (out, kh, kw, in / groups) are MPS's own order. The kernels
// take them from the parameter's buffer on the command buffer whenever they have changed. float32
// graphs ask for float32 weights and accumulation; MPS would round weights to half otherwise.
// Groups whose channels do not come in fours, which MPS refuses, become one wide convolution with
// zeros between the groups.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/conv.h"

#include <algorithm>
#include <vector>

#include "backend/mps/own.h"
#include "backend/mps/weights.h"
#include "ir/images.h"
#include "mpsnn/layouts.h"

namespace mpsnn::backend::mps {
namespace {

// Both passes: the kernels' descriptor, and weights on their way into them.
class Weights {
 public:
  Weights(Builder& b, const ConvSpec& s)
      : spec_(s),
        weight_(b.node().x(1)),
        bias_(b.node().nx > 2 ? b.node().x(2) : kNone),
        in_(s.x.c),
        out_(s.y.c) {
    const int64_t part_in = in_ / s.groups, part_out = out_ / s.groups;
    depthwise_ = s.groups > 1 && part_in == 1 && part_out == 1;
    wide_ = s.groups > 1 && !depthwise_ && (part_in % 4 != 0 || part_out % 4 != 0);
    Class kind = depthwise_ ? [MPSCNNDepthWiseConvolutionDescriptor class]
                            : [MPSCNNConvolutionDescriptor class];
    descriptor_ = [kind cnnConvolutionDescriptorWithKernelWidth:static_cast<NSUInteger>(s.kw)
                                                   kernelHeight:static_cast<NSUInteger>(s.kh)
                                           inputFeatureChannels:static_cast<NSUInteger>(in_)
                                          outputFeatureChannels:static_cast<NSUInteger>(out_)];
    descriptor_.strideInPixelsX = static_cast<NSUInteger>(s.sw);
    descriptor_.strideInPixelsY = static_cast<NSUInteger>(s.sh);
    descriptor_.dilationRateX = static_cast<NSUInteger>(s.dw);
    descriptor_.dilationRateY = static_cast<NSUInteger>(s.dh);
    if (s.groups > 1 && !depthwise_ && !wide_)
      descriptor_.groups = static_cast<NSUInteger>(s.groups);
    const std::string precision = b.attrs().text("accumulator", "");
    half_accumulator_ =
        b.half() && (precision == "float16" || (precision.empty() && b.plan().half_accumulator));
    biased_ = b.node().gradient ? b.node().nx > 2 && b.node().gx(2) != kNone : bias_ != kNone;
    count_ = out_ * s.kh * s.kw * (wide_ ? in_ : part_in);
    source_ = source_of_zeros(descriptor_, count_, biased_ ? out_ : 0, b.half(), b.layer());
    if (s.turned && s.kh * s.kw > 1) {
      const int64_t taps = s.kh * s.kw;
      turn_ = strided({out_, taps, part_in}, {taps * part_in, -part_in, 1},
                      {taps * part_in, part_in, 1});
      turn_.a_offset = static_cast<int>((taps - 1) * part_in);
      turned_ = b.gpu().buffer(static_cast<std::size_t>(own_count()) * 4, Use::gpu);
    }
    if (wide_) spread_ = b.gpu().buffer(static_cast<std::size_t>(count_) * 4, Use::gpu);
  }

  SourceRef source() const { return source_; }
  MPSCNNConvolutionDescriptor* descriptor() const { return descriptor_; }
  MPSNNConvolutionAccumulatorPrecisionOption accumulator() const {
    return half_accumulator_ ? MPSNNConvolutionAccumulatorPrecisionOptionHalf
                             : MPSNNConvolutionAccumulatorPrecisionOptionFloat;
  }
  GroupParams groups() const {
    return {static_cast<int>(out_), static_cast<int>(spec_.kh * spec_.kw), static_cast<int>(in_),
            static_cast<int>(spec_.groups)};
  }
  int64_t own_count() const { return out_ * spec_.kh * spec_.kw * in_ / spec_.groups; }
  std::string detail() const {
    std::string text = depthwise_ ? "MPSCNNConvolution depthwise" : "MPSCNNConvolution";
    if (wide_) text += ", groups spread";
    if (spec_.stretched()) text += ", image stretched";
    return text + (half_accumulator_ ? ", half accumulator" : "");
  }

  // The gradient by MPS's weights as that by the parameter.
  void give_gradient(Encoding& e, Buffer from, Buffer to) const {
    const Buffer own = turned_ != nil ? Buffer{turned_, 0} : to;
    if (wide_)
      e.run(e.gpu().pipeline("gather_groups"), {from, own}, groups(), own_count());
    else if (turned_ == nil)
      e.copy(from, to, static_cast<std::size_t>(own_count()) * 4);
    if (turned_ != nil)
      e.run(e.gpu().pipeline("move_elements"), {wide_ ? own : from, to}, turn_, turn_.count);
  }

  // The weights as MPS reloads them, if they have changed since; nil otherwise. A gradient kernel
  // uses no bias.
  MPSCNNConvolutionWeightsAndBiasesState* fresh(Encoding& e) {
    if (!changes_.since(e, {weight_, bias_})) return nil;
    Buffer from = e.buffer(weight_);
    if (turned_ != nil) {
      e.run(e.gpu().pipeline("move_elements"), {from, {turned_, 0}}, turn_, turn_.count);
      from = {turned_, 0};
    }
    if (wide_) {
      e.run(e.gpu().pipeline("spread_groups"), {from, {spread_, 0}}, groups(), count_);
      from = {spread_, 0};
    }
    // A gradient kernel does not read the bias; that there is one is what counts.
    const Buffer terms = bias_ != kNone ? e.buffer(bias_) : from;
    return
        [[MPSCNNConvolutionWeightsAndBiasesState alloc] initWithWeights:from.buffer
                                                          weightsOffset:from.offset
                                                                 biases:biased_ ? terms.buffer : nil
                                                           biasesOffset:biased_ ? terms.offset : 0
                                               cnnConvolutionDescriptor:descriptor_];
  }

 private:
  ConvSpec spec_;
  ValueId weight_, bias_;
  int64_t in_, out_, count_ = 0;
  bool depthwise_ = false, wide_ = false, biased_ = false, half_accumulator_ = false;
  MPSCNNConvolutionDescriptor* descriptor_;
  SourceRef source_;
  BufferRef spread_ = nil, turned_ = nil;
  StridedParams turn_{};  // its own inverse
  Changes changes_;
};

// The images that the kernels read, or write the gradient of: the operand's, or stretched ones.
class Source {
 public:
  Source(Builder& b, const ConvSpec& s, ValueId value)
      : value_(value), images_(s.x), dtype_(b.plan().dtype), stretched_(s.stretched()) {
    if (!stretched_ || value == kNone) return;
    const Geometry x = geometry_of(b.value(value).shape);
    move_ = strided({x.n, x.h, x.w, x.c}, {x.h * x.w * x.c, x.w * x.c, x.c, 1},
                    {s.x.h * s.x.w * s.x.c, s.stretch_h * s.x.w * s.x.c, s.stretch_w * s.x.c, 1});
    dense_ = b.dense(value);
    wide_ = b.scratch(static_cast<std::size_t>(s.x.count()) * 4);
    if (b.half()) wide_half_ = b.scratch(static_cast<std::size_t>(s.x.count()) * 2);
  }
  ImagesRef read(Encoding& e) const {
    if (!stretched_) return e.read(value_, images_);
    const Buffer from = e.load(dense_);
    Buffer to = e.scratch(wide_);
    const ScaleParams zero{static_cast<int>(images_.count()), 0, 0};
    e.run(e.gpu().pipeline("fill_array"), {to}, zero, zero.count);
    e.run(e.gpu().pipeline("move_elements"), {from, to}, move_, move_.count);
    if (dtype_ == DType::float16) {
      const Buffer half = e.scratch(wide_half_);
      e.run(e.gpu().pipeline("float_to_half"), {to, half}, CountParams{zero.count}, zero.count);
      to = half;
    }
    ImagesRef images = e.temporary(images_, dtype_, 1);
    e.to_images(to, images_, dtype_, images);
    return images;
  }
  ImagesRef target(Encoding& e) const {
    if (value_ == kNone) return e.temporary(images_, dtype_, 0);
    return stretched_ ? e.temporary(images_, dtype_, 1) : e.write(value_, images_);
  }
  void store(Encoding& e, ImagesRef written) const {
    if (value_ == kNone) return e.give_back(written);
    if (!stretched_) return;
    Buffer from = e.scratch(dtype_ == DType::float16 ? wide_half_ : wide_);
    e.to_buffer(written, images_, dtype_, from);
    e.give_back(written);
    if (dtype_ == DType::float16) {
      const CountParams p{static_cast<int>(images_.count())};
      e.run(e.gpu().pipeline("half_to_float"), {from, e.scratch(wide_)}, p, p.count);
      from = e.scratch(wide_);
    }
    StridedParams back = move_;
    std::swap(back.a, back.b);
    e.run(e.gpu().pipeline("move_elements"), {from, e.target(dense_)}, back, back.count);
    e.store(dense_);
  }

 private:
  ValueId value_;
  Geometry images_;
  DType dtype_;
  bool stretched_;
  StridedParams move_{};
  Dense dense_;
  std::size_t wide_ = 0, wide_half_ = 0;
};

NSInteger centre(int64_t kernel, int64_t dilation, int64_t pad) {
  return static_cast<NSInteger>(((kernel - 1) * dilation + 1) / 2 - pad);
}

MPSOffset offset_of(const ConvSpec& s) {
  return {centre(s.kw, s.dw, s.left), centre(s.kh, s.dh, s.top), 0};
}

class Convolution final : public Operation {
 public:
  Convolution(Builder& b, const ConvSpec& spec)
      : spec_(spec),
        weights_(b, spec),
        source_(b, spec, b.node().x(0)),
        y_(b.node().y(0)),
        keeper_(b.keeper()) {
    // MPS does not differentiate a neuron that it has fused.
    const ir::NeuronSpec neuron = ir::epilogue_of(b.attrs());
    fused_ = neuron.kind != ir::Neuron::none && keeper_ < 0 && mps_has(neuron);
    if (fused_)
      weights_.descriptor().fusedNeuronDescriptor = describe(neuron);
    else
      epilogue_ = Epilogue(b, spec.y);
    kernel_ = [[MPSCNNConvolution alloc] initWithDevice:b.gpu().device() weights:weights_.source()];
    label(kernel_, b.layer());
    kernel_.offset = offset_of(spec);
    kernel_.edgeMode = MPSImageEdgeModeZero;
    kernel_.accumulatorPrecisionOption = weights_.accumulator();
  }

  void encode(Encoding& e) override {
    if (MPSCNNConvolutionWeightsAndBiasesState* state = weights_.fresh(e))
      [kernel_ reloadWeightsAndBiasesWithCommandBuffer:e.commands() state:state];
    MPSImageBatch* x = source_.read(e);
    MPSImageBatch* y = epilogue_.present() ? epilogue_.target(e) : e.write(y_, spec_.y);
    e.forward(kernel_, x, y, keeper_);
    epilogue_.apply(e, y);
  }

  std::string detail() const override {
    return weights_.detail() + (fused_ ? " + neuron" : epilogue_.detail());
  }

 private:
  ConvSpec spec_;
  Weights weights_;
  Source source_;
  ValueId y_;
  int keeper_;
  bool fused_ = false;
  MPSCNNConvolution* kernel_;
  Epilogue epilogue_;
};

class ConvolutionGradient final : public Operation {
 public:
  ConvolutionGradient(Builder& b, const ConvSpec& spec)
      : spec_(spec),
        weights_(b, spec),
        source_(b, spec, b.node().x(0)),
        gradient_(b, spec, b.node().gx(0)),
        gx_(b.node().gx(0)),
        gw_(b.node().gx(1)),
        gb_(b.node().nx > 2 ? b.node().gx(2) : kNone),
        forward_(b.forward()),
        epilogue_(b, spec.y) {
    kernel_ = [[MPSCNNConvolutionGradient alloc] initWithDevice:b.gpu().device()
                                                        weights:weights_.source()];
    label(kernel_, b.layer());
    // The forward pass's offset seen from the gradient's side, as MPSCNNConvolution.h derives it.
    const MPSOffset o = offset_of(spec);
    const NSInteger wide = static_cast<NSInteger>((spec.kw - 1) * spec.dw + 1);
    const NSInteger high = static_cast<NSInteger>((spec.kh - 1) * spec.dh + 1);
    kernel_.primaryOffset = {0, 0, 0};
    kernel_.secondaryOffset = {o.x - wide / 2, o.y - high / 2, 0};
    kernel_.kernelOffsetX = -o.x + (wide % 2 == 0 ? 1 : 0);
    kernel_.kernelOffsetY = -o.y + (high % 2 == 0 ? 1 : 0);
    kernel_.primaryEdgeMode = kernel_.secondaryEdgeMode = MPSImageEdgeModeZero;
    weighs_ = gw_ != kNone || gb_ != kNone;
    NSUInteger option = 0;
    if (gx_ != kNone) option |= MPSCNNConvolutionGradientOptionGradientWithData;
    if (weighs_) option |= MPSCNNConvolutionGradientOptionGradientWithWeightsAndBias;
    kernel_.gradientOption = static_cast<MPSCNNConvolutionGradientOption>(option);
  }

  void encode(Encoding& e) override {
    if (gx_ != kNone)
      if (MPSCNNConvolutionWeightsAndBiasesState* state = weights_.fresh(e))
        [kernel_ reloadWeightsAndBiasesWithCommandBuffer:e.commands() state:state];
    MPSImageBatch* gradients = epilogue_.gradients(e);
    MPSImageBatch *sources = source_.read(e), *to = gradient_.target(e);
    MPSStateBatch* states = e.take_states(forward_);
    MPSCNNConvolutionGradientState* state = static_cast<MPSCNNConvolutionGradientState*>(states[0]);
    if (weighs_) state.readCount += 1;
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                        sourceGradients:gradients
                           sourceImages:sources
                         gradientStates:states
                   destinationGradients:to];
    gradient_.store(e, to);
    if (!weighs_) return;
    if (gw_ != kNone) weights_.give_gradient(e, {state.gradientForWeights, 0}, e.buffer(gw_));
    if (gb_ != kNone)
      e.copy({state.gradientForBiases, 0}, e.buffer(gb_), static_cast<std::size_t>(spec_.y.c) * 4);
    state.readCount -= 1;
  }

  std::string detail() const override { return weights_.detail() + "Gradient"; }

 private:
  ConvSpec spec_;
  Weights weights_;
  Source source_, gradient_;
  ValueId gx_, gw_, gb_;
  int forward_;
  bool weighs_ = false;
  MPSCNNConvolutionGradient* kernel_;
  EpilogueGradient epilogue_;
};

}  // namespace

std::unique_ptr<Operation> make_convolution(Builder& b, const ConvSpec& spec) {
  if (b.node().gradient) return std::make_unique<ConvolutionGradient>(b, spec);
  return std::make_unique<Convolution>(b, spec);
}

namespace {

// A transposed convolution is the convolution of an image stretched by the stride, with its taps in
// reverse order: MPSCNNConvolutionTranspose has neither dilation nor a documented place for uneven
// padding.
std::unique_ptr<Operation> make(Builder& b, bool transposed) {
  namespace w = conv_weight;
  const Shape weight = ir::as_image(b.x_shape(1));
  ConvSpec s;
  s.x = geometry_of(b.x_shape(0));
  s.y = geometry_of(b.y_shape());
  s.kh = weight[w::kh];
  s.kw = weight[w::kw];
  const auto &stride = b.attrs().integers("stride"), &dilation = b.attrs().integers("dilation"),
             &pads = b.attrs().integers("pads");
  s.dh = dilation[0];
  s.dw = dilation[1];
  s.top = pads[0];
  s.left = pads[1];
  s.groups = b.attrs().integer("groups");
  if (transposed) {
    s.turned = true;
    s.stretch_h = stride[0];
    s.stretch_w = stride[1];
    s.x.h = (s.x.h - 1) * stride[0] + 1;
    s.x.w = (s.x.w - 1) * stride[1] + 1;
    s.top = (s.kh - 1) * s.dh - pads[0];
    s.left = (s.kw - 1) * s.dw - pads[1];
  } else {
    s.sh = stride[0];
    s.sw = stride[1];
  }
  return make_convolution(b, s);
}

}  // namespace

std::unique_ptr<Operation> make_conv2d(Builder& b) { return make(b, false); }
std::unique_ptr<Operation> make_conv_transpose2d(Builder& b) { return make(b, true); }

}  // namespace mpsnn::backend::mps
