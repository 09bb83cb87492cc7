// Neurons, softmax, dropout and their gradients (mps-reference 4.2, 4.3, 4.7).
#include <cstring>

#import "mps.h"

using namespace apple_sim;

namespace apple_sim {
float Neuron::value(float x, long channel) const {
  switch (type) {
    case MPSCNNNeuronTypeReLU:
      return x >= 0 ? x : a == 0 && !std::isnan(x) ? 0 : a * x;
    case MPSCNNNeuronTypeLinear:
      return a * x + b;
    case MPSCNNNeuronTypeSigmoid:
      return 1 / (1 + std::exp(-x));
    case MPSCNNNeuronTypeHardSigmoid:
      return std::min(std::max(a * x + b, 0.f), 1.f);
    case MPSCNNNeuronTypeTanH:
      return a * std::tanh(b * x);
    case MPSCNNNeuronTypeAbsolute:
      return std::fabs(x);
    case MPSCNNNeuronTypeSoftPlus: {
      const float t = b * x;
      return a * (std::max(t, 0.f) + std::log1p(std::exp(-std::fabs(t))));
    }
    case MPSCNNNeuronTypeSoftSign:
      return x / (1 + std::fabs(x));
    case MPSCNNNeuronTypeELU:
      return x >= 0 ? x : a * std::expm1(x);
    case MPSCNNNeuronTypePReLU:
      return x >= 0 ? x : slopes[static_cast<size_t>(channel)] * x;
    case MPSCNNNeuronTypeReLUN:
      return std::min(x >= 0 ? x : a * x, b);
    case MPSCNNNeuronTypePower:
      return std::pow(a * x + b, c);
    case MPSCNNNeuronTypeExponential:
      return c == -1 ? std::exp(a * x + b) : std::pow(c, a * x + b);
    case MPSCNNNeuronTypeLogarithm: {
      const float l = std::log(a * x + b);
      return c == -1 ? l : l / std::log(c);
    }
    case MPSCNNNeuronTypeGeLU:
      return 0.5f * x * (1 + std::erf(x * static_cast<float>(M_SQRT1_2)));
    default:
      return x;
  }
}
float Neuron::derivative(float x, long channel) const {
  switch (type) {
    case MPSCNNNeuronTypeReLU:
      return x >= 0 ? 1 : a;
    case MPSCNNNeuronTypeLinear:
      return a;
    case MPSCNNNeuronTypeSigmoid: {
      const float s = value(x, channel);
      return s * (1 - s);
    }
    case MPSCNNNeuronTypeHardSigmoid:
      return a * x + b >= 0 && a * x + b <= 1 ? a : 0;
    case MPSCNNNeuronTypeTanH: {
      const float t = std::tanh(b * x);
      return a * b * (1 - t * t);
    }
    case MPSCNNNeuronTypeAbsolute:
      return x > 0 ? 1 : x < 0 ? -1 : 0;
    case MPSCNNNeuronTypeSoftPlus:
      return a * b / (1 + std::exp(-b * x));
    case MPSCNNNeuronTypeSoftSign: {
      const float t = 1 + std::fabs(x);
      return 1 / (t * t);
    }
    case MPSCNNNeuronTypeELU:
      return x >= 0 ? 1 : a * std::exp(x);
    case MPSCNNNeuronTypePReLU:
      return x >= 0 ? 1 : slopes[static_cast<size_t>(channel)];
    case MPSCNNNeuronTypeReLUN:
      return x < 0 ? a : x < b ? 1 : 0;  // experiment 8
    case MPSCNNNeuronTypePower:
      return a * c * std::pow(a * x + b, c - 1);
    case MPSCNNNeuronTypeExponential:
      return a * (c == -1 ? 1 : std::log(c)) * value(x, channel);
    case MPSCNNNeuronTypeLogarithm:
      return a / ((c == -1 ? 1 : std::log(c)) * (a * x + b));
    case MPSCNNNeuronTypeGeLU:
      return 0.5f * (1 + std::erf(x * static_cast<float>(M_SQRT1_2))) +
             x * std::exp(-0.5f * x * x) * 0.3989422804f;
    default:
      return 1;
  }
}
Neuron neuron_of(MPSNNNeuronDescriptor* d) {
  Neuron n;
  n.type = d.neuronType;
  n.a = d.a;
  n.b = d.b;
  n.c = d.c;
  const auto* p = static_cast<const float*>(d.data.bytes);
  if (p) n.slopes.assign(p, p + d.data.length / 4);
  return n;
}
}  // namespace apple_sim

@implementation MPSNNNeuronDescriptor
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)type
                                                    a:(float)a
                                                    b:(float)b
                                                    c:(float)c {
  MPSNNNeuronDescriptor* d = [[self alloc] initPrivate];
  d.neuronType = type;
  d.a = a;
  d.b = b;
  d.c = c;
  return d;
}
- (instancetype)initPrivate {
  return [super init];
}
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)type {
  return [self cnnNeuronDescriptorWithType:type a:0 b:0 c:0];
}
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)type a:(float)a {
  return [self cnnNeuronDescriptorWithType:type a:a b:0 c:0];
}
+ (MPSNNNeuronDescriptor*)cnnNeuronDescriptorWithType:(MPSCNNNeuronType)type a:(float)a b:(float)b {
  return [self cnnNeuronDescriptorWithType:type a:a b:b c:0];
}
+ (MPSNNNeuronDescriptor*)cnnNeuronPReLUDescriptorWithData:(NSData*)data noCopy:(bool)no_copy {
  (void)no_copy;
  MPSNNNeuronDescriptor* d = [self cnnNeuronDescriptorWithType:MPSCNNNeuronTypePReLU];
  d.data = data;
  return d;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MPSNNNeuronDescriptor* d = [MPSNNNeuronDescriptor cnnNeuronDescriptorWithType:_neuronType
                                                                              a:_a
                                                                              b:_b
                                                                              c:_c];
  d.data = _data;
  return d;
}
@end

// The geometry of a gradient kernel that works pixel by pixel.
static Geometry secondary_geometry(MPSCNNBinaryKernel* k) {
  Geometry g;
  g.x.o = k.secondaryOffset.x;
  g.y.o = k.secondaryOffset.y;
  return g;
}
static Geometry primary_geometry(MPSCNNBinaryKernel* k) {
  Geometry g;
  g.x.o = k.primaryOffset.x;
  g.y.o = k.primaryOffset.y;
  return g;
}

@implementation MPSCNNNeuron {
  Neuron _simNeuron;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
              neuronDescriptor:(MPSNNNeuronDescriptor*)descriptor {
  if ((self = [super initWithDevice:device])) _simNeuron = neuron_of(descriptor);
  return self;
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [n = _simNeuron, g = [self simGeometry]](const Tensor& x, Tensor& y, long) {
    const Tensor s = crop(x, g, y.h, y.w);
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = n.value(s.v[i], static_cast<long>(i) % y.c);
  };
}
@end
@implementation MPSCNNNeuronGradient {
  Neuron _simNeuron;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
              neuronDescriptor:(MPSNNNeuronDescriptor*)descriptor {
  if ((self = [super initWithDevice:device])) _simNeuron = neuron_of(descriptor);
  return self;
}
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  return [n = _simNeuron, a = primary_geometry(self), b = secondary_geometry(self)](
             const Tensor& dy, const Tensor& x, Tensor& dx, long) {
    const Tensor q = crop(dy, a, dx.h, dx.w), s = crop(x, b, dx.h, dx.w);
    for (size_t i = 0; i < dx.v.size(); ++i)
      dx.v[i] = q.v[i] * n.derivative(s.v[i], static_cast<long>(i) % dx.c);
  };
}
@end

static void softmax(const Tensor& x, Tensor& y, bool logarithm) {
  for (long p = 0; p < y.h * y.w; ++p) {
    const float* in = x.v.data() + p * y.c;
    float *out = y.v.data() + p * y.c, top = -INFINITY, sum = 0;
    for (long c = 0; c < y.c; ++c) top = std::max(top, in[c]);
    for (long c = 0; c < y.c; ++c) sum += std::exp(in[c] - top);
    const float l = std::log(sum);
    for (long c = 0; c < y.c; ++c)
      out[c] = logarithm ? in[c] - top - l : std::exp(in[c] - top) / sum;
  }
}
@implementation MPSCNNSoftMax
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [g = [self simGeometry]](const Tensor& x, Tensor& y, long) {
    softmax(crop(x, g, y.h, y.w), y, false);
  };
}
@end
@implementation MPSCNNLogSoftMax
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [g = [self simGeometry]](const Tensor& x, Tensor& y, long) {
    softmax(crop(x, g, y.h, y.w), y, true);
  };
}
@end
static void softmax_gradient(const Tensor& q, const Tensor& y, Tensor& dx, bool logarithm) {
  for (long p = 0; p < dx.h * dx.w; ++p) {
    const float *g = q.v.data() + p * dx.c, *o = y.v.data() + p * dx.c;
    float *out = dx.v.data() + p * dx.c, sum = 0;
    for (long c = 0; c < dx.c; ++c) sum += logarithm ? g[c] : g[c] * o[c];
    for (long c = 0; c < dx.c; ++c)
      out[c] = logarithm ? g[c] - std::exp(o[c]) * sum : o[c] * (g[c] - sum);
  }
}
@implementation MPSCNNSoftMaxGradient
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  return [a = primary_geometry(self), b = secondary_geometry(self)](
             const Tensor& dy, const Tensor& y, Tensor& dx, long) {
    softmax_gradient(crop(dy, a, dx.h, dx.w), crop(y, b, dx.h, dx.w), dx, false);
  };
}
@end
@implementation MPSCNNLogSoftMaxGradient
- (Binary)simBinary:(MPSStateBatch*)states {
  (void)states;
  return [a = primary_geometry(self), b = secondary_geometry(self)](
             const Tensor& dy, const Tensor& y, Tensor& dx, long) {
    softmax_gradient(crop(dy, a, dx.h, dx.w), crop(y, b, dx.h, dx.w), dx, true);
  };
}
@end

// The generator is not documented (experiment 13). Here the mask is a function of the seed, the
// image's place in the batch and the element.
static bool keeps(uint64_t seed, long image, size_t element, float keep) {
  uint64_t z =
      seed * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(image) * 0xbf58476d1ce4e5b9 + element;
  for (int i = 0; i < 2; ++i) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
  }
  return static_cast<double>(z >> 11) * 0x1p-53 < static_cast<double>(keep);
}
@implementation MPSCNNDropoutGradientState
- (NSData*)maskData {
  id<MTLBuffer> b = (id<MTLBuffer>)_resources[0];
  return [NSData dataWithBytes:b.contents length:b.length];
}
@end
static void check_keep(id kernel, float keep) {
  if (!(keep > 0 && keep < 1))
    violate("%s: keepProbability %g", name_of(kernel), static_cast<double>(keep));
}
@implementation MPSCNNDropout
- (instancetype)initWithDevice:(id<MTLDevice>)device
               keepProbability:(float)keep
                          seed:(NSUInteger)seed
            maskStrideInPixels:(MTLSize)stride {
  if ((self = [super initWithDevice:device])) {
    check_keep(self, keep);
    _keepProbability = keep;
    _seed = seed;
    _maskStrideInPixels = stride;
  }
  return self;
}
- (MPSState*)simStateOn:(id<MTLCommandBuffer>)cb source:(MPSImage*)source {
  MPSCNNDropoutGradientState* s = [[MPSCNNDropoutGradientState alloc] initWithSimDevice:self.device
                                                                          commandBuffer:cb];
  [s simAddBuffer:source.width * source.height * source.featureChannels * 4];
  return s;
}
- (Unary)simUnary:(MPSStateBatch*)states {
  const Stores masks = [self simWrites:states];
  if (masks.empty()) violate("%s: encoded without destination states", name_of(self));
  return [=, keep = _keepProbability, seed = _seed, stride = _maskStrideInPixels,
          g = [self simGeometry]](const Tensor& x, Tensor& y, long image) {
    const Tensor s = crop(x, g, y.h, y.w);
    float* mask = masks.empty() ? nullptr : masks[static_cast<size_t>(image)]->floats();
    for (long i = 0; i < y.h; ++i)
      for (long j = 0; j < y.w; ++j)
        for (long c = 0; c < y.c; ++c) {
          const long my = stride.height ? i : 0, mx = stride.width ? j : 0,
                     mc = stride.depth ? c : 0;
          const auto at = static_cast<size_t>((i * y.w + j) * y.c + c);
          const bool kept =
              keeps(seed, image, static_cast<size_t>((my * y.w + mx) * y.c + mc), keep);
          if (mask) mask[at] = kept;
          y.v[at] = kept ? s.v[at] / keep : 0;
        }
  };
}
@end
@implementation MPSCNNDropoutGradient
- (instancetype)initWithDevice:(id<MTLDevice>)device
               keepProbability:(float)keep
                          seed:(NSUInteger)seed
            maskStrideInPixels:(MTLSize)stride {
  if ((self = [super initWithDevice:device])) {
    check_keep(self, keep);
    _keepProbability = keep;
    _seed = seed;
    _maskStrideInPixels = stride;
  }
  return self;
}
- (Binary)simBinary:(MPSStateBatch*)states {
  Stores masks;
  for (MPSState* s in states) masks.push_back(store_of(s->_resources.firstObject));
  return [=, keep = _keepProbability](const Tensor& dy, const Tensor&, Tensor& dx, long image) {
    const float* mask = masks[static_cast<size_t>(image)]->floats();
    for (size_t i = 0; i < dx.v.size(); ++i) dx.v[i] = mask[i] > 0 ? dy.v[i] / keep : 0;
  };
}
@end
