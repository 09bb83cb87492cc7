// Neurons on MPSCNNNeuron. Its gradient takes the forward input, and is 1 at 0 for ReLU where
// PyTorch's is 0.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/kernels.h"
#include "backend/mps/unary.h"

namespace mpsnn::backend::mps {

NeuronRef describe(ir::Neuron kind, double a) {
  const auto slope = static_cast<float>(a);
  switch (kind) {
    case ir::Neuron::relu:
      return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeReLU a:0 b:0 c:0];
    case ir::Neuron::leaky_relu:
      return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeReLU
                                                              a:slope
                                                              b:0
                                                              c:0];
    case ir::Neuron::sigmoid:
      return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeSigmoid
                                                              a:0
                                                              b:0
                                                              c:0];
    case ir::Neuron::tanh:
      return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeTanH a:1 b:1 c:0];
    default:  // none; supports() refuses the others
      break;
  }
  return [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:MPSCNNNeuronTypeNone a:0 b:0 c:0];
}

void label(AnyKernelRef kernel, const std::string& layer) { kernel.label = @(layer.c_str()); }

EpilogueGradient::EpilogueGradient(Builder& b, const Geometry& y)
    : gy_(b.node().gy(0)), y_(y), dtype_(b.plan().dtype) {
  const ir::NeuronSpec neuron = ir::epilogue_of(b.attrs());
  present_ = neuron.kind != ir::Neuron::none;
  kind_ = static_cast<int>(neuron.kind);
  a_ = static_cast<float>(neuron.a);
  if (!present_) return;
  from_y_ = b.dense(b.node().y(0));
  from_gy_ = b.dense(gy_);
  inner_ = b.scratch(static_cast<std::size_t>(y.count()) * 4);
  if (b.half()) inner_half_ = b.scratch(static_cast<std::size_t>(y.count()) * 2);
}

ImagesRef EpilogueGradient::gradients(Encoding& e) const {
  if (!present_) return e.read(gy_, y_);
  const Buffer y = e.load(from_y_), gy = e.load(from_gy_);
  Buffer inner = e.scratch(inner_);
  const NeuronParams p{static_cast<int>(y_.count()), kind_, a_};
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

namespace {

MPSNNNeuronDescriptor* descriptor_of(Builder& b) {
  const ir::NeuronSpec neuron = ir::neuron_of(b.attrs());
  return describe(neuron.kind, neuron.a);
}

}  // namespace

std::unique_ptr<Operation> make_neuron(Builder& b) {
  DeviceRef device = b.gpu().device();
  MPSNNNeuronDescriptor* neuron = descriptor_of(b);
  if (b.node().gradient)
    return make_unary_gradient(
        b, [[MPSCNNNeuronGradient alloc] initWithDevice:device neuronDescriptor:neuron],
        b.node().x(0), "MPSCNNNeuronGradient");
  return make_unary(b, [[MPSCNNNeuron alloc] initWithDevice:device neuronDescriptor:neuron],
                    "MPSCNNNeuron");
}

}  // namespace mpsnn::backend::mps
