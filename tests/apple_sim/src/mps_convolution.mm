// Convolution, fully connected layers and their gradients (mps-reference 3). Weights are OHWI; a
// kernel holds its own copy, rounded to half unless the data source asks for float32.
#include <cstring>
#include <mutex>

#import "mps.h"

using namespace apple_sim;

namespace {
struct Weights {
  long in = 0, out = 0, groups = 1, kw = 1, kh = 1;  // in and out: of all groups
  bool depthwise = false, half = true, has_bias = false;
  std::vector<float> w, b, by_input;  // by_input: [tap][i][o] of each group
  Neuron neuron;
  StorePtr token;  // stands for the memory in the lists of what commands read and write
  long in_group() const { return depthwise ? 1 : in / groups; }
  // Not the vectors' sizes: a reload by an earlier command buffer may be replacing them.
  size_t count() const { return static_cast<size_t>(out * kw * kh * in_group()); }
  size_t biases() const { return static_cast<size_t>(out); }
  void arrange() {
    if (half)
      for (float& x : w) x = round_half(x);
    if (depthwise) return;
    const long ig = in_group(), og = out / groups, taps = kw * kh;
    by_input.resize(w.size());
    for (long g = 0; g < groups; ++g)
      for (long o = 0; o < og; ++o)
        for (long t = 0; t < taps; ++t)
          for (long i = 0; i < ig; ++i)
            by_input[static_cast<size_t>(((g * taps + t) * ig + i) * og + o)] =
                w[static_cast<size_t>(((g * og + o) * taps + t) * ig + i)];
  }
};
using WeightsPtr = std::shared_ptr<Weights>;

float read_weight(id<MPSCNNConvolutionDataSource> source, MPSDataType type, const void* p,
                  size_t i) {
  (void)source;
  if (type == MPSDataTypeFloat16) return half_to_float(static_cast<const uint16_t*>(p)[i]);
  return static_cast<const float*>(p)[i];
}

void fill(Weights& k, id<MPSCNNConvolutionDataSource> source) {
  if (![source load]) {
    violate("a convolution's data source could not load");
    return;
  }
  const MPSDataType type = [source dataType];
  if (type != MPSDataTypeFloat32 && type != MPSDataTypeFloat16)
    [NSException raise:NSInvalidArgumentException format:@"stand-in: weights of type %x", type];
  const void* w = [source weights];
  const float* b = [source biasTerms];
  const size_t n = k.count();
  k.w.resize(n);
  for (size_t i = 0; i < n; ++i) k.w[i] = read_weight(source, type, w, i);
  k.has_bias = b != nullptr;
  k.b.assign(k.biases(), 0);
  if (b) k.b.assign(b, b + k.out);
  [source purge];
  k.arrange();
}

WeightsPtr make_weights(id<MPSCNNConvolutionDataSource> source) {
  auto k = std::make_shared<Weights>();
  MPSCNNConvolutionDescriptor* d = [source descriptor];
  k->in = static_cast<long>(d.inputFeatureChannels);
  k->out = static_cast<long>(d.outputFeatureChannels);
  k->groups = static_cast<long>(d.groups);
  k->kw = static_cast<long>(d.kernelWidth);
  k->kh = static_cast<long>(d.kernelHeight);
  k->depthwise = [d isKindOfClass:[MPSCNNDepthWiseConvolutionDescriptor class]];
  if (k->groups < 1 || k->in % k->groups || k->out % k->groups ||
      (k->groups > 1 && ((k->in / k->groups) % 4 || (k->out / k->groups) % 4)))
    violate("convolution: %ld groups of %ld to %ld channels", k->groups, k->in, k->out);
  if (k->depthwise && k->in != k->out)
    violate("depthwise convolution: only channel multiplier 1 is supported");
  if ([source respondsToSelector:@selector(kernelWeightsDataType)])
    k->half = [source kernelWeightsDataType] != MPSDataTypeFloat32;
  if (d.fusedNeuronDescriptor) k->neuron = neuron_of(d.fusedNeuronDescriptor);
  k->token = std::make_shared<Store>(MTLStorageModePrivate, 4);
  fill(*k, source);
  return k;
}

void check_accumulator(id kernel, const Weights& k, NSUInteger option) {
  if (!k.half && option != MPSNNConvolutionAccumulatorPrecisionOptionFloat)
    violate("%s: float32 kernel weights need the float accumulator", name_of(kernel));
}

// Adds, or adds and rounds: what a half accumulator does.
template <bool kHalf>
inline void add(float& sum, float x) {
  sum = kHalf ? round_half(sum + x) : sum + x;
}

// Every tap inside the source: f(oy, ox, sy, sx, tap).
template <class F>
void taps(const Geometry& g, const Weights& k, long oh, long ow, long sh, long sw, F f) {
  for (long y = 0; y < oh; ++y)
    for (long x = 0; x < ow; ++x)
      for (long v = 0; v < k.kh; ++v) {
        long yy = g.y.start(y) + g.y.d * v;
        if (g.clamp) yy = std::min(std::max(yy, 0L), sh - 1);
        if (yy < 0 || yy >= sh) continue;
        for (long u = 0; u < k.kw; ++u) {
          long xx = g.x.start(x) + g.x.d * u;
          if (g.clamp) xx = std::min(std::max(xx, 0L), sw - 1);
          if (xx >= 0 && xx < sw) f(y, x, yy, xx, v * k.kw + u);
        }
      }
}

template <bool kHalf>
void forward(const Geometry& g, const Weights& k, const Tensor& x, Tensor& y) {
  const long og = k.out / k.groups, ig = k.in_group(), n = k.kw * k.kh;
  for (long i = 0; i < y.h; ++i)
    for (long j = 0; j < y.w; ++j) std::copy(k.b.begin(), k.b.end(), y.at(i, j));
  taps(g, k, y.h, y.w, x.h, x.w, [&](long oy, long ox, long sy, long sx, long t) {
    float* out = y.at(oy, ox);
    const float* in = x.at(sy, sx);
    if (k.depthwise) {
      for (long c = 0; c < k.out; ++c)
        add<kHalf>(out[c], in[c] * k.w[static_cast<size_t>(c * n + t)]);
      return;
    }
    for (long q = 0; q < k.groups; ++q)
      for (long c = 0; c < ig; ++c) {
        const float value = in[q * ig + c];
        const float* w = k.by_input.data() + ((q * n + t) * ig + c) * og;
        for (long o = 0; o < og; ++o) add<kHalf>(out[q * og + o], value * w[o]);
      }
  });
  if (k.neuron.type)
    for (size_t i = 0; i < y.v.size(); ++i)
      y.v[i] = k.neuron.value(y.v[i], static_cast<long>(i) % k.out);
}

void data_gradient(const Geometry& g, const Weights& k, const Tensor& dy, Tensor& dx) {
  const long og = k.out / k.groups, ig = k.in_group(), n = k.kw * k.kh;
  taps(g, k, dy.h, dy.w, dx.h, dx.w, [&](long oy, long ox, long sy, long sx, long t) {
    const float* q = dy.at(oy, ox);
    float* out = dx.at(sy, sx);
    for (long o = 0; o < k.out; ++o) {
      const float* w = k.w.data() + (o * n + t) * ig;
      float* to = out + (k.depthwise ? o : o / og * ig);
      for (long c = 0; c < ig; ++c) to[c] += q[o] * w[c];
    }
  });
}

void weight_gradient(const Geometry& g, const Weights& k, const Tensor& dy, const Tensor& x,
                     float* dw, float* db) {
  const long og = k.out / k.groups, ig = k.in_group(), n = k.kw * k.kh;
  for (long i = 0; i < dy.h * dy.w; ++i)
    for (long o = 0; o < k.out; ++o) db[o] += dy.v[static_cast<size_t>(i * k.out + o)];
  taps(g, k, dy.h, dy.w, x.h, x.w, [&](long oy, long ox, long sy, long sx, long t) {
    const float *q = dy.at(oy, ox), *in = x.at(sy, sx);
    for (long o = 0; o < k.out; ++o) {
      float* to = dw + (o * n + t) * ig;
      const float* from = in + (k.depthwise ? o : o / og * ig);
      for (long c = 0; c < ig; ++c) to[c] += q[o] * from[c];
    }
  });
}

void reload(id kernel, const WeightsPtr& k, id<MTLCommandBuffer> cb,
            MPSCNNConvolutionWeightsAndBiasesState* state) {
  check_states(kernel, cb, @[ state ], "read");
  const StorePtr w = store_of(state.weights), b = store_of(state.biases);
  const size_t wo = state.weightsOffset, bo = state.biasesOffset;
  if (!w || w->size() < wo + k->count() * 4 || (b && b->size() < bo + k->biases() * 4)) {
    violate("%s: reload from buffers that are too small", name_of(kernel));
    return;
  }
  Stores reads = {w};
  if (b) reads.push_back(b);
  encode(
      cb, name_of(kernel), [kernel label], reads, { k->token },
      [=] {
        k->w = copy_floats(w, wo, k->count());
        k->b = b ? copy_floats(b, bo, k->biases()) : std::vector<float>(k->biases(), 0);
        k->arrange();
      });
  consume_states(cb, @[ state ]);
}
void reload_from_source(const WeightsPtr& k, id<MPSCNNConvolutionDataSource> source) {
  if (k->token->in_flight > 0 || k->token->writers > 0)
    violate("reloadWeightsAndBiasesFromDataSource while a command buffer uses the kernel");
  fill(*k, source);
}
}  // namespace

namespace apple_sim {
std::vector<float> copy_floats(const StorePtr& s, size_t offset, size_t count) {
  std::vector<float> v(count);
  std::memcpy(v.data(), s->gpu.data() + offset, count * 4);
  return v;
}
}  // namespace apple_sim

@implementation MPSCNNConvolutionDescriptor
- (instancetype)init {
  if ((self = [super init])) {
    _kernelWidth = _kernelHeight = 3;
    _strideInPixelsX = _strideInPixelsY = _dilationRateX = _dilationRateY = _groups = 1;
  }
  return self;
}
+ (instancetype)cnnConvolutionDescriptorWithKernelWidth:(NSUInteger)kw
                                           kernelHeight:(NSUInteger)kh
                                   inputFeatureChannels:(NSUInteger)in
                                  outputFeatureChannels:(NSUInteger)out {
  MPSCNNConvolutionDescriptor* d = [[self alloc] init];
  d.kernelWidth = kw;
  d.kernelHeight = kh;
  d.inputFeatureChannels = in;
  d.outputFeatureChannels = out;
  return d;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MPSCNNConvolutionDescriptor* d =
      [[self class] cnnConvolutionDescriptorWithKernelWidth:_kernelWidth
                                               kernelHeight:_kernelHeight
                                       inputFeatureChannels:_inputFeatureChannels
                                      outputFeatureChannels:_outputFeatureChannels];
  d.strideInPixelsX = _strideInPixelsX;
  d.strideInPixelsY = _strideInPixelsY;
  d.dilationRateX = _dilationRateX;
  d.dilationRateY = _dilationRateY;
  d.groups = _groups;
  d.fusedNeuronDescriptor = _fusedNeuronDescriptor;
  return d;
}
@end
@implementation MPSCNNDepthWiseConvolutionDescriptor
- (NSUInteger)channelMultiplier {
  return self.outputFeatureChannels / self.inputFeatureChannels;
}
@end

@interface MPSCNNConvolutionGradientState () {
 @public
  MPSCNNConvolution* _owner;
}
@end
@implementation MPSCNNConvolutionGradientState
- (id<MTLBuffer>)gradientForWeights {
  return (id<MTLBuffer>)_resources[0];
}
- (id<MTLBuffer>)gradientForBiases {
  return (id<MTLBuffer>)_resources[1];
}
- (MPSCNNConvolution*)convolution {
  return _owner;
}
- (NSUInteger)sourceWidth {
  return static_cast<NSUInteger>(_forward.width);
}
- (NSUInteger)sourceHeight {
  return static_cast<NSUInteger>(_forward.height);
}
@end

@implementation MPSCNNConvolutionWeightsAndBiasesState
- (instancetype)initWithWeights:(id<MTLBuffer>)weights biases:(id<MTLBuffer>)biases {
  if ((self = [self initWithResources:biases ? @[ weights, biases ] : @[ weights ]])) {
    _weights = weights;
    _biases = biases;
  }
  return self;
}
- (instancetype)initWithWeights:(id<MTLBuffer>)weights
                  weightsOffset:(NSUInteger)weightsOffset
                         biases:(id<MTLBuffer>)biases
                   biasesOffset:(NSUInteger)biasesOffset
       cnnConvolutionDescriptor:(MPSCNNConvolutionDescriptor*)descriptor {
  (void)descriptor;
  if (weightsOffset % 4 || biasesOffset % 4) violate("weights state: offsets are multiples of 4");
  if ((self = [self initWithWeights:weights biases:biases])) {
    _weightsOffset = weightsOffset;
    _biasesOffset = biasesOffset;
  }
  return self;
}
@end

@implementation MPSCNNConvolution {
  WeightsPtr _weights;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)source {
  if ((self = [super initWithDevice:device])) {
    MPSCNNConvolutionDescriptor* d = [source descriptor];
    _dataSource = source;
    _weights = make_weights(source);
    _accumulatorPrecisionOption = MPSNNConvolutionAccumulatorPrecisionOptionFloat;
    [self simSetKernelWidth:d.kernelWidth
                     height:d.kernelHeight
                    strideX:d.strideInPixelsX
                    strideY:d.strideInPixelsY
                  dilationX:d.dilationRateX
                  dilationY:d.dilationRateY];
  }
  return self;
}
- (NSUInteger)inputFeatureChannels {
  return static_cast<NSUInteger>(_weights->in);
}
- (NSUInteger)outputFeatureChannels {
  return static_cast<NSUInteger>(_weights->out);
}
- (NSUInteger)groups {
  return static_cast<NSUInteger>(_weights->groups);
}
- (NSUInteger)channelMultiplier {
  return _weights->depthwise ? 1 : 0;
}
- (BOOL)isResultStateReusedAcrossBatch {
  return YES;
}
- (NSUInteger)simChannelsFor:(NSUInteger)channels {
  if (static_cast<long>(channels) < _weights->in)
    violate("%s: %lu source channels for a kernel of %ld", name_of(self), channels, _weights->in);
  return static_cast<NSUInteger>(_weights->out);
}
- (Stores)simWrites:(MPSStateBatch*)states {
  (void)states;
  return {};  // the gradients are written by the gradient kernel
}
- (MPSState*)simStateOn:(id<MTLCommandBuffer>)cb source:(MPSImage*)source {
  (void)source;
  MPSCNNConvolutionGradientState* s =
      [[MPSCNNConvolutionGradientState alloc] initWithSimDevice:self.device commandBuffer:cb];
  s->_owner = self;
  [s simAddBuffer:_weights->count() * 4];
  [s simAddBuffer:_weights->biases() * 4];
  return s;
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  check_accumulator(self, *_weights, _accumulatorPrecisionOption);
  if (_weights->token->size() == 0) return nullptr;
  const bool half = _accumulatorPrecisionOption == MPSNNConvolutionAccumulatorPrecisionOptionHalf;
  return [k = _weights, g = [self simGeometry], half](const Tensor& x, Tensor& y, long) {
    if (x.c < k->in || y.c < k->out) return;
    half ? forward<true>(g, *k, x, y) : forward<false>(g, *k, x, y);
    if (const float error = convolution_error(); error != 0)
      for (float& value : y.v) value += error;
  };
}
- (void)reloadWeightsAndBiasesFromDataSource {
  reload_from_source(_weights, _dataSource);
}
- (void)reloadWeightsAndBiasesWithCommandBuffer:(id<MTLCommandBuffer>)cb
                                          state:(MPSCNNConvolutionWeightsAndBiasesState*)state {
  KernelUse use(_busy, name_of(self));
  reload(self, _weights, cb, state);
}
@end

@implementation MPSCNNFullyConnected
- (Geometry)simGeometry {
  Geometry g = [super simGeometry];
  g.x.o = g.x.k / 2;  // offset is ignored: the kernel covers the source
  g.y.o = g.y.k / 2;
  return g;
}
- (MPSImageDescriptor*)destinationImageDescriptorForSourceImages:(NSArray<MPSImage*>*)sources
                                                    sourceStates:(NSArray<MPSState*>*)states {
  (void)states;
  return [MPSImageDescriptor imageDescriptorWithChannelFormat:[sources[0] featureChannelFormat]
                                                        width:1
                                                       height:1
                                              featureChannels:self.outputFeatureChannels];
}
@end

@implementation MPSCNNConvolutionGradient {
  WeightsPtr _weights;
  NSUInteger _sim_stride[2], _sim_dilation[2];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                       weights:(id<MPSCNNConvolutionDataSource>)source {
  if ((self = [super initWithDevice:device])) {
    MPSCNNConvolutionDescriptor* d = [source descriptor];
    _dataSource = source;
    _weights = make_weights(source);
    if (_weights->neuron.type) violate("%s: a fused neuron is not differentiated", name_of(self));
    _gradientOption = MPSCNNConvolutionGradientOptionAll;
    _sim_stride[0] = d.strideInPixelsX;
    _sim_stride[1] = d.strideInPixelsY;
    _sim_dilation[0] = d.dilationRateX;
    _sim_dilation[1] = d.dilationRateY;
  }
  return self;
}
- (NSUInteger)sourceGradientFeatureChannels {
  return static_cast<NSUInteger>(_weights->out);
}
- (NSUInteger)sourceImageFeatureChannels {
  return static_cast<NSUInteger>(_weights->in);
}
- (NSUInteger)groups {
  return static_cast<NSUInteger>(_weights->groups);
}
- (bool)simWritesDestination {
  return _gradientOption & MPSCNNConvolutionGradientOptionGradientWithData;
}
- (NSUInteger)simChannelsFor:(NSUInteger)a secondary:(NSUInteger)b {
  if (static_cast<long>(a) < _weights->out || static_cast<long>(b) < _weights->in)
    violate("%s: %lu and %lu channels for a kernel of %ld and %ld", name_of(self), a, b,
            _weights->out, _weights->in);
  return static_cast<NSUInteger>(_weights->in);
}
- (Window)simWindow:(int)axis offset:(long)offset {
  const long k = axis ? _weights->kh : _weights->kw;
  return {k, static_cast<long>(_sim_stride[axis]), static_cast<long>(_sim_dilation[axis]), offset};
}
- (void)simAdopt:(MPSState*)state {
  const Geometry g = ((MPSNNGradientState*)state)->_forward.geometry;
  self.primaryOffset = {0, 0, 0};
  self.kernelOffsetX = -g.x.o + (g.x.dilated() % 2 == 0);
  self.kernelOffsetY = -g.y.o + (g.y.dilated() % 2 == 0);
  self.secondaryOffset = {g.x.o - g.x.dilated() / 2, g.y.o - g.y.dilated() / 2, 0};
}
- (Stores)simWrites:(MPSStateBatch*)states {
  if (!(_gradientOption & MPSCNNConvolutionGradientOptionGradientWithWeightsAndBias)) return {};
  MPSCNNConvolutionGradientState* s = (MPSCNNConvolutionGradientState*)states.firstObject;
  return {store_of(s.gradientForWeights), store_of(s.gradientForBiases)};
}
- (Binary)simBinary:(MPSStateBatch*)states {
  for (MPSState* s in states)
    if (s != states[0]) violate("%s: the states of a batch are not one state", name_of(self));
  const NSUInteger option = _gradientOption;
  Geometry data, weight;
  const auto window = [&](int axis, long secondary, long kernel, long primary, Window& d,
                          Window& w) {
    w = [self simWindow:axis offset:0];
    w.o = secondary + w.dilated() / 2;
    d = w;
    d.o = (w.dilated() % 2 == 0) - kernel - primary * w.s;
  };
  window(0, self.secondaryOffset.x, self.kernelOffsetX, self.primaryOffset.x, data.x, weight.x);
  window(1, self.secondaryOffset.y, self.kernelOffsetY, self.primaryOffset.y, data.y, weight.y);
  const Stores out = [self simWrites:states];
  return [=, k = _weights](const Tensor& dy, const Tensor& x, Tensor& dx, long image) {
    if (dy.c < k->out || x.c < k->in) return;
    if (!out.empty()) {
      if (image == 0)
        for (const auto& s : out) std::memset(s->gpu.data(), 0, s->size());
      weight_gradient(weight, *k, dy, x, out[0]->floats(), out[1]->floats());
    }
    if (option & MPSCNNConvolutionGradientOptionGradientWithData) data_gradient(data, *k, dy, dx);
  };
}
- (void)reloadWeightsAndBiasesFromDataSource {
  reload_from_source(_weights, _dataSource);
}
- (void)reloadWeightsAndBiasesWithCommandBuffer:(id<MTLCommandBuffer>)cb
                                          state:(MPSCNNConvolutionWeightsAndBiasesState*)state {
  KernelUse use(_busy, name_of(self));
  reload(self, _weights, cb, state);
}
@end
@implementation MPSCNNFullyConnectedGradient
@end
