// Neurons on MPSCNNNeuron, whose gradient takes the forward input and is 1 at 0 for ReLU where
// PyTorch's is 0. Our own kernels: what MPS lacks (GELU by tanh, hard swish, ELU with a scale of
// its own); the gradient of ReLUN, which MPS documents as b where the function is constant; and
// PReLU, as MPS copies its slopes once and has no gradient by them.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/own.h"
#include "backend/mps/unary.h"

namespace mpsnn::backend::mps {

using ir::Neuron;
static_assert(kNeuronRelu == static_cast<int>(Neuron::relu) &&
              kNeuronLeakyRelu == static_cast<int>(Neuron::leaky_relu) &&
              kNeuronSigmoid == static_cast<int>(Neuron::sigmoid) &&
              kNeuronTanh == static_cast<int>(Neuron::tanh) &&
              kNeuronLinear == static_cast<int>(Neuron::linear) &&
              kNeuronElu == static_cast<int>(Neuron::elu) &&
              kNeuronRelun == static_cast<int>(Neuron::relun) &&
              kNeuronExponential == static_cast<int>(Neuron::exponential) &&
              kNeuronGeluTanh == static_cast<int>(Neuron::gelu_tanh) &&
              kNeuronHardSwish == static_cast<int>(Neuron::hard_swish));

bool mps_has(const ir::NeuronSpec& s) {
  if (s.kind == Neuron::elu) return s.b == 1 && s.c == 1;
  return s.kind != Neuron::gelu_tanh && s.kind != Neuron::hard_swish;
}

NeuronRef describe(const ir::NeuronSpec& s) {
  const auto of = [&](MPSCNNNeuronType type) {
    return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:type
                                                            a:static_cast<float>(s.a)
                                                            b:static_cast<float>(s.b)
                                                            c:static_cast<float>(s.c)];
  };
  switch (s.kind) {
    case Neuron::relu:
      return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeReLU a:0 b:0 c:0];
    case Neuron::leaky_relu:
      return of(MPSCNNNeuronTypeReLU);
    case Neuron::sigmoid:
      return of(MPSCNNNeuronTypeSigmoid);
    case Neuron::tanh:
      return of(MPSCNNNeuronTypeTanH);
    case Neuron::linear:
      return of(MPSCNNNeuronTypeLinear);
    case Neuron::hard_sigmoid:
      return of(MPSCNNNeuronTypeHardSigmoid);
    case Neuron::absolute:
      return of(MPSCNNNeuronTypeAbsolute);
    case Neuron::softplus:
      return of(MPSCNNNeuronTypeSoftPlus);
    case Neuron::softsign:
      return of(MPSCNNNeuronTypeSoftSign);
    case Neuron::elu:
      return of(MPSCNNNeuronTypeELU);
    case Neuron::relun:
      return of(MPSCNNNeuronTypeReLUN);
    case Neuron::power:
      return of(MPSCNNNeuronTypePower);
    case Neuron::exponential:
      return of(MPSCNNNeuronTypeExponential);
    case Neuron::logarithm:
      return of(MPSCNNNeuronTypeLogarithm);
    case Neuron::gelu:
      return of(MPSCNNNeuronTypeGeLU);
    case Neuron::none:
    case Neuron::gelu_tanh:
    case Neuron::hard_swish:
      break;
  }
  return of(MPSCNNNeuronTypeNone);
}

void label(AnyKernelRef kernel, const std::string& layer) { kernel.label = @(layer.c_str()); }

namespace {

NeuronParams parameters(const ir::NeuronSpec& s, int64_t count) {
  return {static_cast<int>(count), static_cast<int>(s.kind), static_cast<float>(s.a),
          static_cast<float>(s.b), static_cast<float>(s.c)};
}

}  // namespace

Epilogue::Epilogue(Builder& b, const Geometry& y)
    : y_(b.node().y(0)), images_(y), dtype_(b.plan().dtype) {
  const ir::NeuronSpec spec = ir::epilogue_of(b.attrs());
  if (spec.kind == Neuron::none) return;
  kernel_ = [[MPSCNNNeuron alloc] initWithDevice:b.gpu().device() neuronDescriptor:describe(spec)];
  label(kernel_, b.layer());
}

ImagesRef Epilogue::target(Encoding& e) const {
  return kernel_ != nil ? e.temporary(images_, dtype_, 1) : e.write(y_, images_);
}

void Epilogue::apply(Encoding& e, ImagesRef written) const {
  if (kernel_ != nil) e.forward(kernel_, written, e.write(y_, images_), -1);
}

const char* Epilogue::detail() const { return kernel_ != nil ? ", MPSCNNNeuron" : ""; }

EpilogueGradient::EpilogueGradient(Builder& b, const Geometry& y)
    : gy_(b.node().gy(0)), y_(y), dtype_(b.plan().dtype), spec_(ir::epilogue_of(b.attrs())) {
  if (spec_.kind == Neuron::none) return;
  from_y_ = b.dense(b.node().y(0));
  from_gy_ = b.dense(gy_);
  inner_ = b.scratch(static_cast<std::size_t>(y.count()) * 4);
  if (b.half()) inner_half_ = b.scratch(static_cast<std::size_t>(y.count()) * 2);
}

ImagesRef EpilogueGradient::gradients(Encoding& e) const {
  if (spec_.kind == Neuron::none) return e.read(gy_, y_);
  const Buffer y = e.load(from_y_), gy = e.load(from_gy_);
  Buffer inner = e.scratch(inner_);
  const NeuronParams p = parameters(spec_, y_.count());
  e.run(e.gpu().pipeline("neuron_gradient_of_output"), {y, gy, inner}, p, p.count);
  if (dtype_ == DType::float16) {
    const Buffer half = e.scratch(inner_half_);
    e.run(e.gpu().pipeline("float_to_half"), {inner, half}, CountParams{p.count}, p.count);
    inner = half;
  }
  ImagesRef images = e.temporary(y_, dtype_, 1);
  e.to_images(inner, y_, dtype_, images);
  return images;
}

std::unique_ptr<Operation> make_neuron(Builder& b) {
  const ir::NeuronSpec spec = ir::neuron_of(b.attrs());
  const bool gradient = b.node().gradient;
  if (!mps_has(spec) || (gradient && spec.kind == Neuron::relun)) {
    const NeuronParams p = parameters(spec, count(b.y_shape()));
    const Dense x = b.dense(b.node().x(0));
    const Dense gy = gradient ? b.dense(b.node().gy(0)) : Dense{};
    const Dense to = b.dense(gradient ? b.node().gx(0) : b.node().y(0));
    return own_kernels([=](Encoding& e) {
      const Buffer from = e.load(x);
      if (gradient)
        e.run(e.gpu().pipeline("neuron_gradient"), {from, e.load(gy), e.target(to)}, p, p.count);
      else
        e.run(e.gpu().pipeline("neuron"), {from, e.target(to)}, p, p.count);
      e.store(to);
    });
  }
  DeviceRef device = b.gpu().device();
  if (gradient)
    return make_unary_gradient(
        b, [[MPSCNNNeuronGradient alloc] initWithDevice:device neuronDescriptor:describe(spec)],
        b.node().x(0), "MPSCNNNeuronGradient");
  return make_unary(b, [[MPSCNNNeuron alloc] initWithDevice:device neuronDescriptor:describe(spec)],
                    "MPSCNNNeuron", spec.kind != Neuron::relun);
}

std::unique_ptr<Operation> make_prelu(Builder& b) {
  const Node& n = b.node();
  const int64_t slopes = count(b.x_shape(1)), elements = count(b.y_shape());
  const MeanParams p{static_cast<int>(elements), static_cast<int>(slopes)};
  const Dense x = b.dense(n.x(0)), w = b.dense(n.x(1));
  if (!n.gradient) {
    const Dense y = b.dense(n.y(0));
    return own_kernels([=](Encoding& e) {
      const Buffer from = e.load(x), slope = e.load(w);
      e.run(e.gpu().pipeline("prelu"), {from, slope, e.target(y)}, p, p.count);
      e.store(y);
    });
  }
  const Dense gy = b.dense(n.gy(0)), gx = dense_or_none(b, n.gx(0)), gw = dense_or_none(b, n.gx(1));
  const std::size_t by_x = b.scratch(static_cast<std::size_t>(elements) * 4),
                    parts = b.scratch(static_cast<std::size_t>(elements) * 4);
  const Reduction sums = column_sums(b, elements / slopes, slopes);
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x), slope = e.load(w), g = e.load(gy);
    const Buffer to = gx.value == kNone ? e.scratch(by_x) : e.target(gx);
    e.run(e.gpu().pipeline("prelu_gradient"), {from, slope, g, to, e.scratch(parts)}, p, p.count);
    if (gx.value != kNone) e.store(gx);
    if (gw.value == kNone) return;
    sums.run(e, e.scratch(parts), e.target(gw));
    e.store(gw);
  });
}

}  // namespace mpsnn::backend::mps
