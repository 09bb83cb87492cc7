// Softmax over channels, and its logarithm. MPS's gradients take the forward output.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/unary.h"

namespace mpsnn::backend::mps {

std::unique_ptr<Operation> make_softmax(Builder& b) {
  DeviceRef device = b.gpu().device();
  const bool logarithm = b.node().op == Op::log_softmax;
  if (b.node().gradient) {
    const ValueId y = b.node().y(0);
    if (logarithm)
      return make_unary_gradient(b, [[MPSCNNLogSoftMaxGradient alloc] initWithDevice:device], y,
                                 "MPSCNNLogSoftMaxGradient");
    return make_unary_gradient(b, [[MPSCNNSoftMaxGradient alloc] initWithDevice:device], y,
                               "MPSCNNSoftMaxGradient");
  }
  if (logarithm)
    return make_unary(b, [[MPSCNNLogSoftMax alloc] initWithDevice:device], "MPSCNNLogSoftMax");
  return make_unary(b, [[MPSCNNSoftMax alloc] initWithDevice:device], "MPSCNNSoftMax");
}

}  // namespace mpsnn::backend::mps
