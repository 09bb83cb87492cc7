// Arithmetic of two images with broadcasting (mps-reference 4.9); slice (4.10); reductions (4.11).
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

namespace {
using Axis = long Tensor::*;
Tensor part_of(const Tensor& x, const MTLRegion& clip) {
  const auto from = [](NSUInteger origin, long size) {
    return origin < static_cast<NSUInteger>(size) ? static_cast<long>(origin) : size;
  };
  const auto length = [](NSUInteger wanted, long most) {
    return wanted < static_cast<NSUInteger>(most) ? static_cast<long>(wanted) : most;
  };
  const long top = from(clip.origin.y, x.h), left = from(clip.origin.x, x.w);
  Tensor part(length(clip.size.height, x.h - top), length(clip.size.width, x.w - left), x.c);
  for (long i = 0; i < part.h; ++i)
    for (long j = 0; j < part.w; ++j) std::copy_n(x.at(top + i, left + j), x.c, part.at(i, j));
  return part;
}
enum class Reduce { sum, mean, max, min };
// One value of each line along an axis of x; y has 1 of that axis, and as much as x of the others.
void reduce(const Tensor& x, Tensor& y, const char* name, Axis axis, Reduce kind, float weight) {
  Tensor expected(x.h, x.w, x.c);
  expected.*axis = 1;
  if (y.h != expected.h || y.w != expected.w || y.c != expected.c) {
    violate("%s: %ld x %ld x %ld from %ld x %ld x %ld", name, y.h, y.w, y.c, x.h, x.w, x.c);
    return;
  }
  for (long i = 0; i < y.h; ++i)
    for (long j = 0; j < y.w; ++j)
      for (long c = 0; c < y.c; ++c) {
        float sum = 0, most = -INFINITY, least = INFINITY;
        for (long k = 0; k < x.*axis; ++k) {
          const float* pixel = x.at(axis == &Tensor::h ? k : i, axis == &Tensor::w ? k : j);
          const float v = pixel[axis == &Tensor::c ? k : c];
          sum += v;
          most = std::max(most, v);
          least = std::min(least, v);
        }
        y.at(i, j)[c] = kind == Reduce::max   ? most
                        : kind == Reduce::min ? least
                        : kind == Reduce::sum ? weight * sum
                                              : sum / static_cast<float>(x.*axis);
      }
}
}  // namespace

@interface MPSNNReduceUnary ()
- (instancetype)initWithDevice:(id<MTLDevice>)device simAxis:(Axis)axis simKind:(Reduce)kind;
- (float)simWeight;
@end

@implementation MPSNNReduceUnary {
  Axis _axis;
  Reduce _kind;
}
@synthesize offset = _ignored;  // clipRectSource replaces it
- (instancetype)initWithDevice:(id<MTLDevice>)device simAxis:(Axis)axis simKind:(Reduce)kind {
  if ((self = [super initWithDevice:device])) {
    _clipRectSource = MPSRectNoClip;
    _axis = axis;
    _kind = kind;
  }
  return self;
}
- (float)simWeight {
  return 1;
}
- (NSUInteger)simChannelsFor:(NSUInteger)channels {
  return _axis == &Tensor::c ? 1 : channels;
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [clip = _clipRectSource, axis = _axis, kind = _kind, weight = [self simWeight],
          name = name_of(self)](const Tensor& x, Tensor& y, long) {
    reduce(part_of(x, clip), y, name, axis, kind, weight);
  };
}
@end
#define REDUCTION(NAME, AXIS, KIND)                                         \
  @implementation NAME                                                      \
  -(instancetype)initWithDevice : (id<MTLDevice>)device {                   \
    return [super initWithDevice:device simAxis:AXIS simKind:Reduce::KIND]; \
  }                                                                         \
  @end
REDUCTION(MPSNNReduceRowSum, &Tensor::w, sum)
REDUCTION(MPSNNReduceRowMean, &Tensor::w, mean)
REDUCTION(MPSNNReduceRowMax, &Tensor::w, max)
REDUCTION(MPSNNReduceRowMin, &Tensor::w, min)
REDUCTION(MPSNNReduceColumnSum, &Tensor::h, sum)
REDUCTION(MPSNNReduceColumnMean, &Tensor::h, mean)
REDUCTION(MPSNNReduceColumnMax, &Tensor::h, max)
REDUCTION(MPSNNReduceColumnMin, &Tensor::h, min)
REDUCTION(MPSNNReduceFeatureChannelsMean, &Tensor::c, mean)
REDUCTION(MPSNNReduceFeatureChannelsMax, &Tensor::c, max)
REDUCTION(MPSNNReduceFeatureChannelsMin, &Tensor::c, min)

@implementation MPSNNReduceFeatureChannelsSum
- (instancetype)initWithDevice:(id<MTLDevice>)device {
  if ((self = [super initWithDevice:device simAxis:&Tensor::c simKind:Reduce::sum])) _weight = 1;
  return self;
}
- (float)simWeight {
  return _weight;
}
@end
