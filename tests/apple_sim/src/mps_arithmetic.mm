// Arithmetic of two images with broadcasting, and its gradients (mps-reference 4.9); slice (4.10).
#import "mps.h"

using namespace apple_sim;

namespace {
using Op = float (*)(float, float);
float plus(float x, float y) { return x + y; }
float minus(float x, float y) { return x - y; }
float times(float x, float y) { return x * y; }
float over(float x, float y) { return x / y; }
}  // namespace

@interface MPSCNNArithmetic ()
- (instancetype)initWithDevice:(id<MTLDevice>)device simOp:(Op)op;
@end

@implementation MPSCNNArithmetic {
  Op _op;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device simOp:(Op)op {
  if ((self = [super initWithDevice:device])) {
    _op = op;
    _primaryScale = _secondaryScale = 1;
    _minimumValue = -FLT_MAX;
    _maximumValue = FLT_MAX;
    _primaryStrideInFeatureChannels = _secondaryStrideInFeatureChannels = 1;
  }
  return self;
}
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  struct Side {
    long ox, oy, sx, sy, sc;
    float scale;
    float at(const Tensor& t, long y, long x, long c) const {
      const long yy = oy + sy * y, xx = ox + sx * x;
      if (yy < 0 || xx < 0 || yy >= t.h || xx >= t.w) return 0;
      return scale * t.at(yy, xx)[sc * c];
    }
  };
  const Side a{self.primaryOffset.x,
               self.primaryOffset.y,
               static_cast<long>(self.primaryStrideInPixelsX),
               static_cast<long>(self.primaryStrideInPixelsY),
               static_cast<long>(_primaryStrideInFeatureChannels),
               _primaryScale};
  const Side b{self.secondaryOffset.x,
               self.secondaryOffset.y,
               static_cast<long>(self.secondaryStrideInPixelsX),
               static_cast<long>(self.secondaryStrideInPixelsY),
               static_cast<long>(_secondaryStrideInFeatureChannels),
               _secondaryScale};
  return [=, op = _op, bias = _bias, low = _minimumValue, high = _maximumValue](
             const Tensor& x, const Tensor& z, Tensor& y, long) {
    for (long i = 0; i < y.h; ++i)
      for (long j = 0; j < y.w; ++j)
        for (long c = 0; c < y.c; ++c) {
          float v = op(a.at(x, i, j, c), b.at(z, i, j, c)) + bias;
          v = v < low ? low : v > high ? high : v;
          y.at(i, j)[c] = v;
        }
  };
}
@end
#define ARITHMETIC(NAME, OP)                              \
  @implementation NAME                                    \
  -(instancetype)initWithDevice : (id<MTLDevice>)device { \
    return [super initWithDevice:device simOp:OP];        \
  }                                                       \
  @end
ARITHMETIC(MPSCNNAdd, plus)
ARITHMETIC(MPSCNNSubtract, minus)
ARITHMETIC(MPSCNNMultiply, times)
ARITHMETIC(MPSCNNDivide, over)

@implementation MPSNNSlice
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [g = [self simGeometry]](const Tensor& x, Tensor& y, long) { y = crop(x, g, y.h, y.w); };
}
@end
