// Batch normalisation (mps-reference 4.4): statistics, application and both gradients share a
// state.
#include <cstring>

#import "mps.h"

using namespace apple_sim;

namespace {
struct Parameters {  // of one kernel; token stands for them in the lists of commands
  std::vector<float> gamma, beta, mean, variance;
  float epsilon = FLT_MIN;
  StorePtr token = std::make_shared<Store>(MTLStorageModePrivate, 4);
};
struct BatchState {  // what the four kernels say to each other on the GPU's time line
  StorePtr gamma, beta, mean, variance, dgamma, dbeta;
  std::vector<double> sum, squares;
  double count = 0;
  float epsilon = FLT_MIN;
};
void put(const StorePtr& s, const std::vector<float>& v) {
  std::memcpy(s->gpu.data(), v.data(), v.size() * 4);
}
}  // namespace

@interface MPSCNNBatchNormalizationState () {
 @public
  std::shared_ptr<BatchState> _batch;
  MPSCNNBatchNormalization* _owner;
  bool _statistics, _gradients;
}
@end
@implementation MPSCNNBatchNormalizationState
- (MPSCNNBatchNormalization*)batchNormalization {
  return _owner;
}
- (void)reset {
  auto b = _batch;
  if (b->mean->in_flight > 0) violate("-[%s reset] while a command buffer uses it", name_of(self));
  b->count = 0;
}
- (id<MTLBuffer>)gamma {
  return (id<MTLBuffer>)_resources[0];
}
- (id<MTLBuffer>)beta {
  return (id<MTLBuffer>)_resources[1];
}
- (id<MTLBuffer>)mean {
  return (id<MTLBuffer>)_resources[2];
}
- (id<MTLBuffer>)variance {
  return (id<MTLBuffer>)_resources[3];
}
- (id<MTLBuffer>)gradientForGamma {
  return _gradients ? (id<MTLBuffer>)_resources[4] : nil;
}
- (id<MTLBuffer>)gradientForBeta {
  return _gradients ? (id<MTLBuffer>)_resources[5] : nil;
}
@end

@implementation MPSCNNNormalizationGammaAndBetaState
- (instancetype)initWithGamma:(id<MTLBuffer>)gamma beta:(id<MTLBuffer>)beta {
  if ((self = [self initWithResources:@[ gamma, beta ]])) {
    _gamma = gamma;
    _beta = beta;
  }
  return self;
}
@end
@implementation MPSCNNNormalizationMeanAndVarianceState
- (instancetype)initWithMean:(id<MTLBuffer>)mean variance:(id<MTLBuffer>)variance {
  if ((self = [self initWithResources:@[ mean, variance ]])) {
    _mean = mean;
    _variance = variance;
  }
  return self;
}
@end

@implementation MPSCNNBatchNormalization {
  std::shared_ptr<Parameters> _parameters;
  Neuron _neuron;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataSource:(id<MPSCNNBatchNormalizationDataSource>)source {
  return [self initWithDevice:device dataSource:source fusedNeuronDescriptor:nil];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    dataSource:(id<MPSCNNBatchNormalizationDataSource>)source
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor*)neuron {
  if ((self = [super initWithDevice:device])) {
    _dataSource = source;
    _numberOfFeatureChannels = [source numberOfFeatureChannels];
    _parameters = std::make_shared<Parameters>();
    if (neuron) _neuron = neuron_of(neuron);
    if ([source respondsToSelector:@selector(epsilon)]) _parameters->epsilon = [source epsilon];
    _epsilon = _parameters->epsilon;
    [self simLoad:true statistics:true];
  }
  return self;
}
- (void)simLoad:(bool)scale statistics:(bool)statistics {
  Parameters& p = *_parameters;
  if (p.token->in_flight > 0 || p.token->writers > 0)
    violate("%s: reload from the data source while in use", name_of(self));
  if (![_dataSource load]) {
    violate("%s: the data source could not load", name_of(self));
    return;
  }
  const size_t n = _numberOfFeatureChannels;
  const auto take = [&](std::vector<float>& v, const float* from, float otherwise) {
    v.assign(n, otherwise);
    if (from) v.assign(from, from + n);
  };
  if (scale) {
    take(p.gamma, [_dataSource gamma], 1);
    take(p.beta, [_dataSource beta], 0);
  }
  if (statistics) {
    take(p.mean, [_dataSource mean], NAN);
    take(p.variance, [_dataSource variance], NAN);
  }
  [_dataSource purge];
}
- (void)reloadGammaAndBetaFromDataSource {
  [self simLoad:true statistics:false];
}
- (void)reloadMeanAndVarianceFromDataSource {
  [self simLoad:false statistics:true];
}
- (void)simReload:(id<MTLCommandBuffer>)cb
            state:(MPSState*)state
                a:(StorePtr)a
                b:(StorePtr)b
               to:(std::vector<float> Parameters::*)x
              and:(std::vector<float> Parameters::*)y {
  KernelUse use(_busy, name_of(self));
  check_states(self, cb, @[ state ], "read");
  const size_t n = _numberOfFeatureChannels;
  if (!a || !b || a->size() < n * 4 || b->size() < n * 4) {
    violate("%s: reload from buffers that are too small", name_of(self));
    return;
  }
  encode(cb, name_of(self), self.label, {a, b}, {_parameters->token}, [=, p = _parameters] {
    (*p).*x = copy_floats(a, 0, n);
    (*p).*y = copy_floats(b, 0, n);
  });
  consume_states(cb, @[ state ]);
}
- (void)reloadGammaAndBetaWithCommandBuffer:(id<MTLCommandBuffer>)cb
                          gammaAndBetaState:(MPSCNNNormalizationGammaAndBetaState*)state {
  [self simReload:cb
            state:state
                a:store_of(state.gamma)
                b:store_of(state.beta)
               to:&Parameters::gamma
              and:&Parameters::beta];
}
- (void)reloadMeanAndVarianceWithCommandBuffer:(id<MTLCommandBuffer>)cb
                          meanAndVarianceState:(MPSCNNNormalizationMeanAndVarianceState*)state {
  [self simReload:cb
            state:state
                a:store_of(state.mean)
                b:store_of(state.variance)
               to:&Parameters::mean
              and:&Parameters::variance];
}
- (BOOL)isResultStateReusedAcrossBatch {
  return YES;
}
- (MPSState*)simStateOn:(id<MTLCommandBuffer>)cb source:(MPSImage*)source {
  if (source.featureChannels != _numberOfFeatureChannels)
    violate("%s: %lu channels for %lu", name_of(self), source.featureChannels,
            _numberOfFeatureChannels);
  MPSCNNBatchNormalizationState* s =
      [[MPSCNNBatchNormalizationState alloc] initWithSimDevice:self.device commandBuffer:cb];
  s->_owner = self;
  auto b = std::make_shared<BatchState>();
  for (StorePtr* p : {&b->gamma, &b->beta, &b->mean, &b->variance, &b->dgamma, &b->dbeta})
    *p = [s simAddBuffer:_numberOfFeatureChannels * 4];
  s->_batch = b;
  return s;
}
static void normalize(const Tensor& x, Tensor& y, const float* mean, const float* variance,
                      const float* gamma, const float* beta, float epsilon, const Neuron& neuron) {
  for (size_t i = 0; i < y.v.size(); ++i) {
    const size_t c = i % static_cast<size_t>(y.c);
    const float v = (x.v[i] - mean[c]) * gamma[c] / std::sqrt(variance[c] + epsilon) + beta[c];
    y.v[i] = neuron.value(v, static_cast<long>(c));
  }
}
- (Unary)simUnary:(MPSStateBatch*)states {
  (void)states;
  return [p = _parameters, e = _epsilon, n = _neuron, g = [self simGeometry]](const Tensor& x,
                                                                              Tensor& y, long) {
    normalize(crop(x, g, y.h, y.w), y, p->mean.data(), p->variance.data(), p->gamma.data(),
              p->beta.data(), e, n);
  };
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
           batchNormalizationState:(MPSCNNBatchNormalizationState*)state
                 destinationImages:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_batch(self, sources, "sources");
  check_batch(self, destinations, "destinations");
  check_read(self, cb, sources);
  check_write(self, cb, destinations);
  check_states(self, cb, @[ state ], "read");
  if (!state->_statistics) violate("%s: no statistics were encoded into the state", name_of(self));
  if (sources.count != destinations.count) {
    violate("%s: %lu sources, %lu destinations", name_of(self), sources.count, destinations.count);
    return;
  }
  const auto b = state->_batch;
  Stores writes = stores(destinations);
  writes.insert(writes.end(), {b->gamma, b->beta});
  const long to = static_cast<long>(self.destinationFeatureChannelOffset);
  encode(cb, name_of(self), self.label, stores(sources), writes,
         [=, p = _parameters, e = _epsilon, n = _neuron, from = refs(sources),
          into = refs(destinations)] {
           put(b->gamma, p->gamma);
           put(b->beta, p->beta);
           b->epsilon = e;
           b->count = 0;  // what comes next is a new batch
           for (size_t i = 0; i < from.size(); ++i) {
             const Tensor x = load(from[i]);
             Tensor y(x.h, x.w, x.c);
             normalize(x, y, b->mean->floats(), b->variance->floats(), b->gamma->floats(),
                       b->beta->floats(), e, n);
             store(into[i], y, 0, 0, to);
           }
         });
  consume_images(cb, sources);
  consume_states(cb, @[ state ]);
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                  sourceImage:(MPSImage*)source
      batchNormalizationState:(MPSCNNBatchNormalizationState*)state
             destinationImage:(MPSImage*)destination {
  [self encodeBatchToCommandBuffer:cb
                      sourceImages:@[ source ]
           batchNormalizationState:state
                 destinationImages:@[ destination ]];
}
@end

@implementation MPSCNNBatchNormalizationStatistics
- (BOOL)appendBatchBarrier {
  return YES;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
           batchNormalizationState:(MPSCNNBatchNormalizationState*)state {
  KernelUse use(_busy, name_of(self));
  check_batch(self, sources, "sources");
  check_read(self, cb, sources);
  check_states(self, cb, @[ state ], "written");
  state->_statistics = true;
  const auto b = state->_batch;
  encode(cb, name_of(self), self.label, stores(sources), {b->mean, b->variance},
         [=, from = refs(sources)] {
           const size_t c = b->mean->size() / 4;
           if (b->count == 0) {
             b->sum.assign(c, 0);
             b->squares.assign(c, 0);
           }
           // Two passes over what is there; further sub-batches are merged in.
           for (const ImageRef& r : from) {
             const Tensor x = load(r);
             for (size_t i = 0; i < x.v.size(); ++i) {
               b->sum[i % c] += static_cast<double>(x.v[i]);
               b->squares[i % c] += static_cast<double>(x.v[i]) * static_cast<double>(x.v[i]);
             }
             b->count += static_cast<double>(x.h * x.w);
           }
           for (size_t k = 0; k < c; ++k) {
             const double mean = b->sum[k] / b->count;
             b->mean->floats()[k] = static_cast<float>(mean);
             b->variance->floats()[k] =
                 static_cast<float>(std::max(0.0, b->squares[k] / b->count - mean * mean));
           }
         });
  consume_images(cb, sources);
  consume_states(cb, @[ state ]);
}
@end

namespace {
// g times the fused neuron's derivative, and the normalised x, one element at a time.
template <class F>
void each(const BatchState& b, const Neuron& neuron, float epsilon, const Tensor& dy,
          const Tensor& x, F f) {
  for (size_t i = 0; i < x.v.size(); ++i) {
    const size_t c = i % static_cast<size_t>(x.c);
    const float hat = (x.v[i] - b.mean->floats()[c]) / std::sqrt(b.variance->floats()[c] + epsilon);
    const float z = hat * b.gamma->floats()[c] + b.beta->floats()[c];
    f(i, c, dy.v[i] * neuron.derivative(z, static_cast<long>(c)), hat);
  }
}
void check_gradient(id kernel, id<MTLCommandBuffer> cb, MPSImageBatch* gradients,
                    MPSImageBatch* images, MPSCNNBatchNormalizationState* state) {
  check_batch(kernel, gradients, "gradients");
  check_batch(kernel, images, "images");
  check_read(kernel, cb, gradients);
  check_read(kernel, cb, images);
  check_states(kernel, cb, @[ state ], "read");
  if (gradients.count != images.count)
    violate("%s: %lu gradients, %lu images", name_of(kernel), gradients.count, images.count);
}
void consume_gradient(id<MTLCommandBuffer> cb, MPSImageBatch* gradients, MPSImageBatch* images,
                      MPSCNNBatchNormalizationState* state) {
  consume_images(cb, gradients);
  consume_images(cb, images);
  consume_states(cb, @[ state ]);
}
Stores reads_of(MPSImageBatch* a, MPSImageBatch* b) {
  Stores r = stores(a);
  for (const auto& s : stores(b)) r.push_back(s);
  return r;
}
}  // namespace

@implementation MPSCNNBatchNormalizationStatisticsGradient {
  Neuron _neuron;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor*)neuron {
  if ((self = [super initWithDevice:device]) && neuron) _neuron = neuron_of(neuron);
  return self;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                   sourceGradients:(MPSImageBatch*)gradients
                      sourceImages:(MPSImageBatch*)images
           batchNormalizationState:(MPSCNNBatchNormalizationState*)state {
  KernelUse use(_busy, name_of(self));
  check_gradient(self, cb, gradients, images, state);
  state->_gradients = true;
  const auto b = state->_batch;
  encode(cb, name_of(self), self.label, reads_of(gradients, images), {b->dgamma, b->dbeta},
         [=, n = _neuron, qs = refs(gradients), xs = refs(images)] {
           std::memset(b->dgamma->gpu.data(), 0, b->dgamma->size());
           std::memset(b->dbeta->gpu.data(), 0, b->dbeta->size());
           for (size_t k = 0; k < xs.size(); ++k)
             each(*b, n, b->epsilon, load(qs[k]), load(xs[k]),
                  [&](size_t, size_t c, float g, float hat) {
                    b->dgamma->floats()[c] += g * hat;
                    b->dbeta->floats()[c] += g;
                  });
         });
  consume_gradient(cb, gradients, images, state);
}
@end

@implementation MPSCNNBatchNormalizationGradient {
  Neuron _neuron;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
         fusedNeuronDescriptor:(MPSNNNeuronDescriptor*)neuron {
  if ((self = [super initWithDevice:device]) && neuron) _neuron = neuron_of(neuron);
  return self;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                   sourceGradients:(MPSImageBatch*)gradients
                      sourceImages:(MPSImageBatch*)images
           batchNormalizationState:(MPSCNNBatchNormalizationState*)state
              destinationGradients:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_gradient(self, cb, gradients, images, state);
  check_batch(self, destinations, "destinations");
  check_write(self, cb, destinations);
  if (!state->_gradients)
    violate("%s: no gradient statistics were encoded into the state", name_of(self));
  const auto b = state->_batch;
  encode(cb, name_of(self), self.label, reads_of(gradients, images), stores(destinations),
         [=, n = _neuron, qs = refs(gradients), xs = refs(images), into = refs(destinations)] {
           const float m =
               static_cast<float>(xs.size()) * static_cast<float>(xs[0].width * xs[0].height);
           for (size_t k = 0; k < xs.size(); ++k) {
             const Tensor x = load(xs[k]);
             Tensor dx(x.h, x.w, x.c);
             each(*b, n, b->epsilon, load(qs[k]), x, [&](size_t i, size_t c, float g, float hat) {
               const float scale =
                   b->gamma->floats()[c] / std::sqrt(b->variance->floats()[c] + b->epsilon);
               dx.v[i] = scale * (g - b->dbeta->floats()[c] / m - hat * b->dgamma->floats()[c] / m);
             });
             store(into[k], dx);
           }
         });
  consume_gradient(cb, gradients, images, state);
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                             sourceGradients:(MPSImageBatch*)gradients
                                sourceImages:(MPSImageBatch*)images
                     batchNormalizationState:(MPSCNNBatchNormalizationState*)state {
  MPSImageBatch* out = [self simAllocate:cb
                                    like:images[0]
                                channels:[images[0] featureChannels]
                                   count:images.count];
  [self encodeBatchToCommandBuffer:cb
                   sourceGradients:gradients
                      sourceImages:images
           batchNormalizationState:state
              destinationGradients:out];
  return out;
}
@end
