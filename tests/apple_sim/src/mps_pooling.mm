// Pooling and its gradients (mps-reference 4.1). Ties of the maximum: the first in row-major order.
#import "mps.h"

using namespace apple_sim;

namespace {
enum class Kind { max, average, l2 };
struct Pool {
  Kind kind;
  Geometry g;
  long band_x = 0, band_y = 0;  // zeroPadSize
};

// The taps of one window: f(y, x, inside). With clamp, only those in the image (and the band).
template <class F>
long visit(const Pool& p, long oy, long ox, long h, long w, F f) {
  long n = 0;
  for (long v = 0; v < p.g.y.k; ++v)
    for (long u = 0; u < p.g.x.k; ++u) {
      const long y = p.g.y.start(oy) + p.g.y.d * v, x = p.g.x.start(ox) + p.g.x.d * u;
      const bool inside = y >= 0 && x >= 0 && y < h && x < w;
      const bool counts =
          !p.g.clamp || (y >= -p.band_y && x >= -p.band_x && y < h + p.band_y && x < w + p.band_x);
      n += counts;
      if (inside || !p.g.clamp) f(y, x, inside);
    }
  return n;
}

void forward(const Pool& p, const Tensor& x, Tensor& y) {
  for (long i = 0; i < y.h; ++i)
    for (long j = 0; j < y.w; ++j) {
      float* out = y.at(i, j);
      const bool max = p.kind == Kind::max;
      bool first = true;
      const long n = visit(p, i, j, x.h, x.w, [&](long yy, long xx, bool inside) {
        const float* in = inside ? x.at(yy, xx) : nullptr;
        for (long c = 0; c < y.c; ++c) {
          const float v = in ? in[c] : 0;
          if (max)
            out[c] = first || v > out[c] || std::isnan(v) ? v : out[c];
          else
            out[c] += p.kind == Kind::l2 ? v * v : v;
        }
        first = false;
      });
      for (long c = 0; c < y.c; ++c) {
        if (p.kind == Kind::average) out[c] = n ? out[c] / static_cast<float>(n) : 0;
        if (p.kind == Kind::l2) out[c] = std::sqrt(out[c]);
      }
    }
}

void backward(const Pool& p, const Tensor& dy, const Tensor& x, Tensor& dx, long h, long w) {
  for (long i = 0; i < h; ++i)
    for (long j = 0; j < w; ++j)
      for (long c = 0; c < dx.c; ++c) {
        const float g = dy.at(i, j)[c];
        float best = 0, sum = 0;
        long by = -1, bx = -1;
        bool first = true;
        const long n = visit(p, i, j, x.h, x.w, [&](long yy, long xx, bool inside) {
          if (p.kind == Kind::average) return;
          const float v = inside ? x.at(yy, xx)[c] : 0;
          sum += v * v;
          if (first || v > best) {
            best = v;
            by = inside ? yy : -1;
            bx = xx;
          }
          first = false;
        });
        const auto give = [&](long yy, long xx, float value) {
          if (yy >= 0 && xx >= 0 && yy < dx.h && xx < dx.w) dx.at(yy, xx)[c] += value;
        };
        if (p.kind == Kind::max) {
          if (by >= 0) give(by, bx, g);
          continue;
        }
        visit(p, i, j, x.h, x.w, [&](long yy, long xx, bool inside) {
          if (!inside) return;
          if (p.kind == Kind::average)
            give(yy, xx, g / static_cast<float>(n));
          else if (sum > 0)
            give(yy, xx, g * x.at(yy, xx)[c] / std::sqrt(sum));
        });
      }
}
}  // namespace

@interface MPSCNNPooling ()
- (Pool)simPool;
@end
@implementation MPSCNNPooling
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh {
  return [self initWithDevice:device
                  kernelWidth:kw
                 kernelHeight:kh
              strideInPixelsX:1
              strideInPixelsY:1];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh
               strideInPixelsX:(NSUInteger)sx
               strideInPixelsY:(NSUInteger)sy {
  if ((self = [super initWithDevice:device]))
    [self simSetKernelWidth:kw height:kh strideX:sx strideY:sy dilationX:1 dilationY:1];
  return self;
}
- (Pool)simPool {
  return {Kind::max, [self simGeometry]};
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [p = [self simPool]](const Tensor& x, Tensor& y, long) { forward(p, x, y); };
}
@end
@implementation MPSCNNPoolingMax
@end
@implementation MPSCNNPoolingAverage
- (Pool)simPool {
  return {Kind::average, [self simGeometry], static_cast<long>(_zeroPadSizeX),
          static_cast<long>(_zeroPadSizeY)};
}
@end
@implementation MPSCNNPoolingL2Norm
- (Pool)simPool {
  return {Kind::l2, [self simGeometry]};
}
@end
@implementation MPSCNNDilatedPoolingMax
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh
                 dilationRateX:(NSUInteger)dx
                 dilationRateY:(NSUInteger)dy
               strideInPixelsX:(NSUInteger)sx
               strideInPixelsY:(NSUInteger)sy {
  if ((self = [super initWithDevice:device
                        kernelWidth:kw
                       kernelHeight:kh
                    strideInPixelsX:sx
                    strideInPixelsY:sy]))
    [self simSetKernelWidth:kw height:kh strideX:sx strideY:sy dilationX:dx dilationY:dy];
  return self;
}
@end

@interface MPSCNNPoolingGradient () {
 @public
  Window _x, _y;
}
- (Pool)simPool;
@end
@implementation MPSCNNPoolingGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh {
  return [self initWithDevice:device
                  kernelWidth:kw
                 kernelHeight:kh
              strideInPixelsX:1
              strideInPixelsY:1];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh
               strideInPixelsX:(NSUInteger)sx
               strideInPixelsY:(NSUInteger)sy {
  if ((self = [super initWithDevice:device])) {
    _x = {static_cast<long>(kw), static_cast<long>(sx), 1, 0};
    _y = {static_cast<long>(kh), static_cast<long>(sy), 1, 0};
    _sourceSize = MTLSizeMake(NSUIntegerMax, NSUIntegerMax, NSUIntegerMax);
  }
  return self;
}
- (Pool)simPool {
  Pool p{Kind::max, {}};
  p.g.x = _x;
  p.g.y = _y;
  p.g.x.o = self.secondaryOffset.x;
  p.g.y.o = self.secondaryOffset.y;
  p.g.clamp = self.secondaryEdgeMode == MPSImageEdgeModeClamp;
  return p;
}
- (void)simAdopt:(MPSState*)state {
  const Forward& f = ((MPSNNGradientState*)state)->_forward;
  self.secondaryOffset = {f.geometry.x.o, f.geometry.y.o, 0};
  self.secondaryEdgeMode = f.geometry.clamp ? MPSImageEdgeModeClamp : MPSImageEdgeModeZero;
  self.sourceSize =
      MTLSizeMake(static_cast<NSUInteger>(f.out_width), static_cast<NSUInteger>(f.out_height), 1);
}
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  if (self.primaryOffset.x || self.primaryOffset.y)
    [NSException raise:NSInvalidArgumentException
                format:@"stand-in: pooling gradient primaryOffset"];
  return [p = [self simPool], size = _sourceSize](const Tensor& dy, const Tensor& x, Tensor& dx,
                                                  long) {
    const auto cut = [](NSUInteger n, long limit) {
      return n > static_cast<NSUInteger>(limit) ? limit : static_cast<long>(n);
    };
    backward(p, dy, x, dx, cut(size.height, dy.h), cut(size.width, dy.w));
  };
}
@end
@implementation MPSCNNPoolingMaxGradient
@end
@implementation MPSCNNPoolingAverageGradient
- (Pool)simPool {
  Pool p = [super simPool];
  p.kind = Kind::average;
  p.band_x = static_cast<long>(_zeroPadSizeX);
  p.band_y = static_cast<long>(_zeroPadSizeY);
  return p;
}
@end
@implementation MPSCNNPoolingL2NormGradient
- (Pool)simPool {
  Pool p = [super simPool];
  p.kind = Kind::l2;
  return p;
}
@end
@implementation MPSCNNDilatedPoolingMaxGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
                   kernelWidth:(NSUInteger)kw
                  kernelHeight:(NSUInteger)kh
                 dilationRateX:(NSUInteger)dx
                 dilationRateY:(NSUInteger)dy
               strideInPixelsX:(NSUInteger)sx
               strideInPixelsY:(NSUInteger)sy {
  if ((self = [super initWithDevice:device
                        kernelWidth:kw
                       kernelHeight:kh
                    strideInPixelsX:sx
                    strideInPixelsY:sy])) {
    _x.d = static_cast<long>(dx);
    _y.d = static_cast<long>(dy);
  }
  return self;
}
@end
