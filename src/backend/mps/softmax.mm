// Softmax over channels. MPSCNNSoftMaxGradient takes the forward output.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/unary.h"

namespace mpsnn::backend::mps {

std::unique_ptr<Operation> make_softmax(Builder& b) {
  DeviceRef device = b.gpu().device();
  if (b.node().gradient)
    return make_unary_gradient(b, [[MPSCNNSoftMaxGradient alloc] initWithDevice:device],
                               b.node().y(0), "MPSCNNSoftMaxGradient");
  return make_unary(b, [[MPSCNNSoftMax alloc] initWithDevice:device], "MPSCNNSoftMax");
}

}  // namespace mpsnn::backend::mps
