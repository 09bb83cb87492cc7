// Losses and labels (mps-reference 5). The loss lies in the labels' image, the result is the
// gradient; the reduction does not scale the gradient (experiment 5).
#import "mps.h"

using namespace apple_sim;

@implementation MPSCNNLossDescriptor
+ (MPSCNNLossDescriptor*)cnnLossDescriptorWithType:(MPSCNNLossType)type
                                     reductionType:(MPSCNNReductionType)reduction {
  MPSCNNLossDescriptor* d = [[self alloc] initPrivate];
  d.lossType = type;
  d.reductionType = reduction;
  return d;
}
- (instancetype)initPrivate {
  if ((self = [super init])) {
    _weight = 1;
    _numberOfClasses = 1;
    _epsilon = 1e-7f;
    _delta = 1;
  }
  return self;
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  MPSCNNLossDescriptor* d = [MPSCNNLossDescriptor cnnLossDescriptorWithType:_lossType
                                                              reductionType:_reductionType];
  d.weight = _weight;
  d.labelSmoothing = _labelSmoothing;
  d.numberOfClasses = _numberOfClasses;
  d.epsilon = _epsilon;
  d.delta = _delta;
  return d;
}
@end

@interface MPSCNNLossDataDescriptor () {
 @public
  NSData* _data;
}
@end
@implementation MPSCNNLossDataDescriptor
+ (MPSCNNLossDataDescriptor*)cnnLossDataDescriptorWithData:(NSData*)data
                                                    layout:(MPSDataLayout)layout
                                                      size:(MTLSize)size {
  if (data.length < size.width * size.height * size.depth * 4) {
    violate("MPSCNNLossDataDescriptor: %lu bytes for %lux%lux%lu floats", data.length, size.width,
            size.height, size.depth);
    return nil;
  }
  MPSCNNLossDataDescriptor* d = [[self alloc] initPrivate];
  d->_data = data;
  d->_layout = layout;
  d->_size = size;
  return d;
}
- (instancetype)initPrivate {
  return [super init];
}
@end

@interface MPSCNNLossLabels () {
 @public
  MPSImage *_labels, *_weights, *_loss;
}
@end
@implementation MPSCNNLossLabels
static MPSImage* image_of(id<MTLDevice> device, MPSCNNLossDataDescriptor* d) {
  if (!d) return nil;
  MPSImage* i = [[MPSImage alloc]
       initWithDevice:device
      imageDescriptor:[MPSImageDescriptor
                          imageDescriptorWithChannelFormat:MPSImageFeatureChannelFormatFloat32
                                                     width:d.size.width
                                                    height:d.size.height
                                           featureChannels:d.size.depth]];
  [i writeBytes:d->_data.bytes dataLayout:d.layout imageIndex:0];
  return i;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
              labelsDescriptor:(MPSCNNLossDataDescriptor*)labels {
  return [self initWithDevice:device
                lossImageSize:MTLSizeMake(1, 1, 1)
             labelsDescriptor:labels
            weightsDescriptor:nil];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 lossImageSize:(MTLSize)size
              labelsDescriptor:(MPSCNNLossDataDescriptor*)labels
             weightsDescriptor:(MPSCNNLossDataDescriptor*)weights {
  return [self initWithDevice:device
                lossImageSize:size
                  labelsImage:image_of(device, labels)
                 weightsImage:image_of(device, weights)];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 lossImageSize:(MTLSize)size
                   labelsImage:(MPSImage*)labels
                  weightsImage:(MPSImage*)weights {
  if ((self = [self initWithSimDevice:device commandBuffer:nil])) {
    _labels = labels;
    _weights = weights;
    MPSImageDescriptor* d =
        [MPSImageDescriptor imageDescriptorWithChannelFormat:MPSImageFeatureChannelFormatFloat32
                                                       width:size.width
                                                      height:size.height
                                             featureChannels:size.depth];
    _loss = [[MPSImage alloc] initWithDevice:device imageDescriptor:d];
    if (!_loss || !labels) return nil;
    if (weights && (weights.width != labels.width || weights.height != labels.height ||
                    weights.featureChannels != labels.featureChannels))
      violate("MPSCNNLossLabels: labels and weights differ in size");
  }
  return self;
}
- (MPSImage*)lossImage {
  return _loss;
}
- (MPSImage*)labelsImage {
  return _labels;
}
- (MPSImage*)weightsImage {
  return _weights;
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)cb {
  [_loss synchronizeOnCommandBuffer:cb];
}
@end

namespace {
struct Loss {
  int type;
  float weight, smoothing, classes, epsilon, delta;
};
// Loss and derivative of one element; softmax cross-entropy is handled a pixel at a time.
void element(const Loss& l, float y, float t, float* loss, float* gradient) {
  const float e = y - t;
  switch (l.type) {
    case MPSCNNLossTypeMeanAbsoluteError:
      *loss = std::fabs(e);
      *gradient = static_cast<float>((e > 0) - (e < 0));
      break;
    case MPSCNNLossTypeMeanSquaredError:
      *loss = e * e;
      *gradient = 2 * e;
      break;
    case MPSCNNLossTypeSigmoidCrossEntropy:
      *loss = std::max(y, 0.f) - y * t + std::log1p(std::exp(-std::fabs(y)));
      *gradient = 1 / (1 + std::exp(-y)) - t;
      break;
    case MPSCNNLossTypeCategoricalCrossEntropy:
      *loss = -t * std::log(y);
      *gradient = -t / y;
      break;
    case MPSCNNLossTypeHinge: {
      const float s = 2 * t - 1;
      *loss = std::max(1 - s * y, 0.f);
      *gradient = 1 - s * y > 0 ? -s : 0;
      break;
    }
    case MPSCNNLossTypeHuber: {
      const float a = std::fabs(e);
      *loss = a <= l.delta ? 0.5f * e * e : 0.5f * l.delta * l.delta + l.delta * (a - l.delta);
      *gradient = a <= l.delta ? e : e > 0 ? l.delta : -l.delta;
      break;
    }
    case MPSCNNLossTypeCosineDistance:
      *loss = -y * t;
      *gradient = -t;
      break;
    case MPSCNNLossTypeLog: {
      const float p = l.epsilon;
      *loss = -t * std::log(y + p) - (1 - t) * std::log(1 - y + p);
      *gradient = (-2 * p * t - t + y + p) / (y * (1 - y) + p * (p + 1));
      break;
    }
    default:
      *loss = t > 0 ? t * (std::log(t) - y) : 0;
      *gradient = -t;
  }
}
}  // namespace

@implementation MPSCNNLoss {
  MPSCNNLossDescriptor* _descriptor;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                lossDescriptor:(MPSCNNLossDescriptor*)descriptor {
  if ((self = [super initWithDevice:device])) {
    _descriptor = [descriptor copy];
    if (descriptor.lossType == MPSCNNLossTypeCosineDistance &&
        descriptor.reductionType != MPSCNNReductionTypeSum)
      violate("MPSCNNLoss: the cosine distance is defined for the sum only");
  }
  return self;
}
- (MPSCNNLossType)lossType {
  return _descriptor.lossType;
}
- (MPSCNNReductionType)reductionType {
  return _descriptor.reductionType;
}
- (float)weight {
  return _descriptor.weight;
}
- (float)labelSmoothing {
  return _descriptor.labelSmoothing;
}
- (NSUInteger)numberOfClasses {
  return _descriptor.numberOfClasses;
}
- (float)epsilon {
  return _descriptor.epsilon;
}
- (float)delta {
  return _descriptor.delta;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
                            labels:(MPSCNNLossLabelsBatch*)labels
                 destinationImages:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_batch(self, sources, "sources");
  check_batch(self, destinations, "destinations");
  check_read(self, cb, sources);
  check_write(self, cb, destinations);
  if (sources.count != labels.count || sources.count != destinations.count) {
    violate("%s: %lu sources, %lu labels, %lu destinations", name_of(self), sources.count,
            labels.count, destinations.count);
    return;
  }
  const int reduction = _descriptor.reductionType;
  Loss l{static_cast<int>(_descriptor.lossType),
         _descriptor.weight,
         _descriptor.labelSmoothing,
         static_cast<float>(_descriptor.numberOfClasses),
         _descriptor.epsilon,
         _descriptor.delta};
  MPSImage* s = sources[0];
  std::vector<ImageRef> ts, ws, ls;
  Stores reads = stores(sources), writes = stores(destinations);
  for (MPSCNNLossLabels* label in labels) {
    MPSImage *t = label->_labels, *w = label->_weights, *loss = label->_loss;
    if (t.width != s.width || t.height != s.height || t.featureChannels != s.featureChannels)
      violate("%s: labels and prediction differ in size", name_of(self));
    const bool scalar = loss.width * loss.height * loss.featureChannels == 1;
    const bool full = loss.width == s.width && loss.height == s.height &&
                      loss.featureChannels == s.featureChannels;
    if (reduction == MPSCNNReductionTypeNone ? !full : !scalar)
      violate("%s: the loss image's size does not fit the reduction", name_of(self));
    ts.push_back([t simRef]);
    ws.push_back(w ? [w simRef] : ImageRef());
    ls.push_back([loss simRef]);
    reads.push_back(ts.back().store);
    if (w) reads.push_back(ws.back().store);
    writes.push_back(ls.back().store);
  }
  encode(cb, name_of(self), self.label, reads, writes,
         [=, from = refs(sources), into = refs(destinations)] {
           for (size_t k = 0; k < from.size(); ++k) {
             const Tensor y = load(from[k]), t = load(ts[k]);
             const Tensor w = ws[k].store ? load(ws[k]) : Tensor();
             Tensor g(y.h, y.w, y.c), losses(y.h, y.w, y.c);
             for (long p = 0; p < y.h * y.w; ++p) {
               const auto at = static_cast<size_t>(p * y.c);
               float top = -INFINITY, sum = 0;
               if (l.type == MPSCNNLossTypeSoftMaxCrossEntropy) {
                 for (long c = 0; c < y.c; ++c)
                   top = std::max(top, y.v[at + static_cast<size_t>(c)]);
                 for (long c = 0; c < y.c; ++c)
                   sum += std::exp(y.v[at + static_cast<size_t>(c)] - top);
               }
               for (long c = 0; c < y.c; ++c) {
                 const size_t i = at + static_cast<size_t>(c);
                 const float scale = l.weight * (w.v.empty() ? 1 : w.v[i]);
                 float target = t.v[i], loss, gradient;
                 if (l.type == MPSCNNLossTypeSoftMaxCrossEntropy) {
                   target = target * (1 - l.smoothing) + l.smoothing / l.classes;
                   const float log_p = y.v[i] - top - std::log(sum);
                   loss = -target * log_p;
                   gradient = std::exp(log_p) - target;
                 } else {
                   if (l.type == MPSCNNLossTypeSigmoidCrossEntropy)
                     target = target * (1 - l.smoothing) + 0.5f * l.smoothing;
                   element(l, y.v[i], target, &loss, &gradient);
                 }
                 losses.v[i] = loss * scale;
                 g.v[i] = gradient * scale;
               }
             }
             store(into[k], g);
             if (reduction == MPSCNNReductionTypeNone) {
               store(ls[k], losses);
               continue;
             }
             double total =
                 l.type == MPSCNNLossTypeCosineDistance ? static_cast<double>(l.weight) : 0;
             for (float x : losses.v) total += static_cast<double>(x);
             double count = 1;
             if (reduction == MPSCNNReductionTypeMean)
               count = static_cast<double>(y.h * y.w *
                                           (l.type == MPSCNNLossTypeSoftMaxCrossEntropy ? 1 : y.c));
             if (reduction == MPSCNNReductionTypeSumByNonZeroWeights) {
               count = w.v.empty() ? static_cast<double>(y.v.size()) : 0;
               for (float x : w.v) count += x != 0;
             }
             Tensor one(1, 1, 1);
             one.v[0] = static_cast<float>(total / count);
             store(ls[k], one);
           }
         });
  consume_images(cb, sources);
}
- (MPSImageBatch*)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                                sourceImages:(MPSImageBatch*)sources
                                      labels:(MPSCNNLossLabelsBatch*)labels {
  MPSImage* s = sources[0];
  MPSImageDescriptor* d =
      [MPSImageDescriptor imageDescriptorWithChannelFormat:s.featureChannelFormat
                                                     width:s.width
                                                    height:s.height
                                           featureChannels:s.featureChannels];
  NSMutableArray* out = [NSMutableArray array];
  for (NSUInteger i = 0; i < sources.count; ++i)
    [out addObject:[self.destinationImageAllocator imageForCommandBuffer:cb
                                                         imageDescriptor:d
                                                                  kernel:self]];
  [self encodeBatchToCommandBuffer:cb sourceImages:sources labels:labels destinationImages:out];
  return [NSArray arrayWithArray:out];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                  sourceImage:(MPSImage*)source
                       labels:(MPSCNNLossLabels*)labels
             destinationImage:(MPSImage*)destination {
  [self encodeBatchToCommandBuffer:cb
                      sourceImages:@[ source ]
                            labels:@[ labels ]
                 destinationImages:@[ destination ]];
}
- (MPSImage*)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                       sourceImage:(MPSImage*)source
                            labels:(MPSCNNLossLabels*)labels {
  return [self encodeBatchToCommandBuffer:cb sourceImages:@[ source ] labels:@[ labels ]][0];
}
@end
