// linear as a convolution whose kernel is the whole image: of 1 x 1 for rows and sequences, of h x
// w behind a flatten, whose weight (out, h * w * c) is in the order of a convolution's already.
// Chosen over MPSCNNFullyConnected, which treats each image by itself and has a gradient class of
// its own for the same arithmetic, and over matrix products, which would take activations out of
// images and back around every dense layer.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/conv.h"
#include "mpsnn/layouts.h"

namespace mpsnn::backend::mps {

std::unique_ptr<Operation> make_linear(Builder& b) {
  ConvSpec s;
  s.x = geometry_of(b.x_shape(0));
  s.y = geometry_of(b.y_shape());
  const Geometry home = b.home(b.node().x(0) != kNone ? b.node().x(0) : b.node().gx(0));
  if (b.x_shape(0).size() == 2 && home.n == s.x.n) {
    s.x = home;
    s.kh = home.h;
    s.kw = home.w;
  }
  return make_convolution(b, s);
}

}  // namespace mpsnn::backend::mps
