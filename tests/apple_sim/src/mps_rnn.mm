// The training layer of recurrent cells on sequences of matrices (mps-reference 7). What Apple
// keeps opaque is so here, too: a gate's bias, memory, recurrent and input weights lie side by side
// in one matrix, in that order.
#import "mps_rnn.h"

#include <algorithm>

using namespace apple_sim;

namespace {
struct Place {
  size_t gate;
  Part part;
};
// What a MPSRNNMatrixId names; false if it is one of another cell.
bool place_of(const Cell& cell, NSUInteger id, Place& place) {
  constexpr Part kThree[] = {kInput, kRecurrent, kBias},
                 kFour[] = {kInput, kRecurrent, kMemory, kBias};
  if (id < 3) {
    place = {0, kThree[id]};
    return cell.kind == Kind::single;
  }
  if (id < 19) {
    place = {(id - 3) / 4, kFour[(id - 3) % 4]};
    return cell.kind == Kind::lstm;
  }
  place = id < 25 ? Place{(id - 19) / 3, kThree[(id - 19) % 3]} : Place{2, kFour[id - 25]};
  return id < 29 && cell.kind == Kind::gru;
}

Sequence sequence(id layer, NSArray<MPSMatrix*>* matrices, const NSUInteger* offsets, long columns,
                  const char* what) {
  Sequence s;
  for (NSUInteger i = 0; i < matrices.count; ++i) {
    MPSMatrix* m = matrices[i];
    s.views.push_back(view(m));
    if (offsets) s.views.back().base += offsets[i];
    s.rows.push_back(static_cast<long>(m.rows));
    s.stores.push_back(s.views.back().store);
    const MatrixView& v = s.views.back();
    const size_t end = v.base + (m.rows - 1) * v.row_bytes +
                       static_cast<size_t>(columns) * element_size(m.dataType);
    if (static_cast<long>(m.columns) < columns || (i > 0 && s.rows[i] > s.rows[i - 1]) ||
        end > v.store->size()) {
      violate("%s: %s %lu has %lu columns, not %ld, more rows than the one before, or passes the "
              "end of its buffer",
              name_of(layer), what, i, m.columns, columns);
      s.fits = false;
    }
  }
  return s;
}
void check_overlap(id layer, const Sequence& from, long in, const Sequence& to, long out) {
  const auto u = [](long v) { return static_cast<size_t>(v); };
  for (size_t i = 0; i < std::min(from.views.size(), to.views.size()); ++i)
    if (from.views[i].meets(u(from.rows[i]), u(in), to.views[i], u(to.rows[i]), u(out))) {
      violate("%s: a destination lies in a source", name_of(layer));
      return;
    }
}
// Matrices of both may lie in one buffer: then it counts as written.
Stores without(const Stores& reads, const Stores& writes) {
  Stores left;
  for (const auto& r : reads)
    if (std::find(writes.begin(), writes.end(), r) == writes.end()) left.push_back(r);
  return left;
}
}  // namespace

// A matrix of a layer's weights, or of gradients by them.
@interface SimGateMatrix : MPSMatrix {
 @public
  CellPtr _cell;
  bool _gradient;
  std::shared_ptr<std::atomic<long>> _changes;  // copies into it that have been encoded
}
@end
@implementation SimGateMatrix
@end
static long changes_of(NSArray<MPSMatrix*>* weights) {
  long sum = 0;
  for (MPSMatrix* m in weights) sum += *static_cast<SimGateMatrix*>(m)->_changes;
  return sum;
}

@implementation MPSRNNDescriptor
@end
@implementation MPSRNNSingleGateDescriptor
+ (instancetype)createRNNSingleGateDescriptorWithInputFeatureChannels:(NSUInteger)in
                                                outputFeatureChannels:(NSUInteger)out {
  MPSRNNSingleGateDescriptor* d = [[self alloc] init];
  d.inputFeatureChannels = in;
  d.outputFeatureChannels = out;
  return d;
}
@end
@implementation MPSGRUDescriptor
+ (instancetype)createGRUDescriptorWithInputFeatureChannels:(NSUInteger)in
                                      outputFeatureChannels:(NSUInteger)out {
  MPSGRUDescriptor* d = [[self alloc] init];
  d.inputFeatureChannels = in;
  d.outputFeatureChannels = out;
  d.gatePnormValue = 1;
  return d;
}
@end
@implementation MPSLSTMDescriptor
+ (instancetype)createLSTMDescriptorWithInputFeatureChannels:(NSUInteger)in
                                       outputFeatureChannels:(NSUInteger)out {
  MPSLSTMDescriptor* d = [[self alloc] init];
  d.inputFeatureChannels = in;
  d.outputFeatureChannels = out;
  d.cellToOutputNeuronType = MPSCNNNeuronTypeTanH;
  d.cellToOutputNeuronParamA = d.cellToOutputNeuronParamB = d.cellToOutputNeuronParamC = 1;
  return d;
}
@end

@implementation MPSRNNMatrixTrainingState {
 @public
  CellPtr _cell;
  const void* _weights;
  long _changes, _rows;
  size_t _time;
}
@end

@implementation MPSRNNMatrixTrainingLayer {
  std::shared_ptr<Cell> _cell;
}
// Reads a source into its part of the gate's matrix; that of input weights has a bias besides.
- (void)simFill:(MPSMatrix*)matrix
           gate:(const Gate&)gate
           part:(Part)part
           from:(id<MPSCNNConvolutionDataSource>)source {
  if (!source) return;
  MPSCNNConvolutionDescriptor* d = [source descriptor];
  const long columns = gate.at[part + 1] - gate.at[part], out = _cell->out;
  const bool diagonal = part == kMemory && gate.diagonal;
  if (d.kernelWidth != 1 || d.kernelHeight != 1 ||
      static_cast<long>(d.outputFeatureChannels) != out ||
      (!diagonal && static_cast<long>(d.inputFeatureChannels) != columns))
    violate("%s: a source of %lu to %lu channels, not %ld to %ld", name_of(self),
            d.inputFeatureChannels, d.outputFeatureChannels, columns, out);
  if (![source load] || [source dataType] != MPSDataTypeFloat32) {
    violate("%s: a data source could not load", name_of(self));
    return;
  }
  const auto* w = static_cast<const float*>([source weights]);
  const float* bias = part == kInput ? [source biasTerms] : nullptr;
  const MatrixView to = view(matrix);
  for (long r = 0; r < out; ++r) {
    const auto row = static_cast<size_t>(r);
    for (long c = 0; c < columns; ++c)
      to.set(row, static_cast<size_t>(gate.at[part] + c), w[r * columns + c]);
    if (bias) to.set(row, 0, bias[r]);
  }
  [source purge];
}
- (void)simGate:(id<MPSCNNConvolutionDataSource>)input
      recurrent:(id<MPSCNNConvolutionDataSource>)recurrent
         memory:(id<MPSCNNConvolutionDataSource>)memory
       diagonal:(bool)diagonal
        weights:(NSMutableArray<MPSMatrix*>*)weights {
  Gate g;
  g.diagonal = diagonal;
  g.has[kInput] = g.has[kBias] = input != nil;
  g.has[kRecurrent] = recurrent != nil;
  g.has[kMemory] = memory != nil;
  const long columns[] = {1, diagonal ? 1 : _cell->out, _cell->out, _cell->in};
  for (int p = 0; p < kParts; ++p) g.at[p + 1] = g.at[p] + columns[p];
  if (MPSNNNeuronDescriptor* n = [input descriptor].fusedNeuronDescriptor) g.neuron = neuron_of(n);
  _cell->gates.push_back(g);
  [weights addObject:[self simMatrix:g type:[self simType] gradient:false]];
  [self simFill:weights.lastObject gate:g part:kInput from:input];
  [self simFill:weights.lastObject gate:g part:kRecurrent from:recurrent];
  [self simFill:weights.lastObject gate:g part:kMemory from:memory];
}
- (MPSDataType)simType {
  return _cell->half ? MPSDataTypeFloat16 : MPSDataTypeFloat32;
}
- (MPSMatrix*)simMatrix:(const Gate&)gate type:(MPSDataType)type gradient:(bool)gradient {
  const auto columns = static_cast<NSUInteger>(gate.at[kParts]);
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor
      matrixDescriptorWithRows:static_cast<NSUInteger>(_cell->out)
                       columns:columns
                      rowBytes:[MPSMatrixDescriptor rowBytesForColumns:columns dataType:type]
                      dataType:type];
  SimGateMatrix* m = [[SimGateMatrix alloc] initWithDevice:self.device descriptor:d];
  m->_cell = _cell;
  m->_gradient = gradient;
  m->_changes = std::make_shared<std::atomic<long>>(0);
  const StorePtr store = store_of(m.data);
  std::fill(store->gpu.begin(), store->gpu.end(), uint8_t{0});
  std::fill(store->cpu.begin(), store->cpu.end(), uint8_t{0});
  return m;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 rnnDescriptor:(const MPSRNNDescriptor*)descriptor
              trainableWeights:(NSMutableArray<MPSMatrix*>*)weights {
  if (!(self = [super initWithDevice:device])) return nil;
  auto* d = (MPSRNNDescriptor*)descriptor;
  _inputFeatureChannels = d.inputFeatureChannels;
  _outputFeatureChannels = d.outputFeatureChannels;
  _cell = std::make_shared<Cell>();
  _cell->in = static_cast<long>(d.inputFeatureChannels);
  _cell->out = static_cast<long>(d.outputFeatureChannels);
  _cell->half = !d.useFloat32Weights;
  if (d.useLayerInputUnitTransformMode)
    [NSException raise:NSInvalidArgumentException format:@"stand-in: no unit transform"];
  if (weights.count) violate("%s: the array for the weights is not empty", name_of(self));
  if ([d isKindOfClass:[MPSLSTMDescriptor class]]) {
    auto* l = (MPSLSTMDescriptor*)d;
    const bool diagonal = l.memoryWeightsAreDiagonal;
    _cell->kind = Kind::lstm;
    _cell->to_output.type = l.cellToOutputNeuronType;
    _cell->to_output.a = l.cellToOutputNeuronParamA;
    _cell->to_output.b = l.cellToOutputNeuronParamB;
    _cell->to_output.c = l.cellToOutputNeuronParamC;
    [self simGate:l.inputGateInputWeights
        recurrent:l.inputGateRecurrentWeights
           memory:l.inputGateMemoryWeights
         diagonal:diagonal
          weights:weights];
    [self simGate:l.forgetGateInputWeights
        recurrent:l.forgetGateRecurrentWeights
           memory:l.forgetGateMemoryWeights
         diagonal:diagonal
          weights:weights];
    [self simGate:l.cellGateInputWeights
        recurrent:l.cellGateRecurrentWeights
           memory:l.cellGateMemoryWeights
         diagonal:diagonal
          weights:weights];
    [self simGate:l.outputGateInputWeights
        recurrent:l.outputGateRecurrentWeights
           memory:l.outputGateMemoryWeights
         diagonal:diagonal
          weights:weights];
  } else if ([d isKindOfClass:[MPSGRUDescriptor class]]) {
    auto* g = (MPSGRUDescriptor*)d;
    _cell->kind = Kind::gru;
    _cell->flip = g.flipOutputGates;
    if (g.gatePnormValue != 1)
      [NSException raise:NSInvalidArgumentException format:@"stand-in: no gatePnormValue"];
    [self simGate:g.inputGateInputWeights
        recurrent:g.inputGateRecurrentWeights
           memory:nil
         diagonal:false
          weights:weights];
    [self simGate:g.recurrentGateInputWeights
        recurrent:g.recurrentGateRecurrentWeights
           memory:nil
         diagonal:false
          weights:weights];
    [self simGate:g.outputGateInputWeights
        recurrent:g.outputGateRecurrentWeights
           memory:g.outputGateInputGateWeights
         diagonal:false
          weights:weights];
  } else {
    auto* s = (MPSRNNSingleGateDescriptor*)d;
    [self simGate:s.inputWeights
        recurrent:s.recurrentWeights
           memory:nil
         diagonal:false
          weights:weights];
  }
  return self;
}
- (void)createWeightMatrices:(NSMutableArray<MPSMatrix*>*)matrices {
  for (const Gate& g : _cell->gates)
    [matrices addObject:[self simMatrix:g type:[self simType] gradient:false]];
}
- (void)createWeightGradientMatrices:(NSMutableArray<MPSMatrix*>*)matrices
                            dataType:(MPSDataType)type {
  for (const Gate& g : _cell->gates)
    [matrices addObject:[self simMatrix:g type:type gradient:true]];
}
- (bool)simOwns:(NSArray<MPSMatrix*>*)matrices as:(const char*)what {
  bool owns = matrices.count == _cell->gates.size();
  for (MPSMatrix* m in matrices)
    owns = owns && [m isKindOfClass:[SimGateMatrix class]] &&
           static_cast<SimGateMatrix*>(m)->_cell == _cell;
  if (!owns) violate("%s: %s that this layer has not made", name_of(self), what);
  return owns;
}
- (bool)simTakes:(NSArray<MPSMatrix*>*)weights {
  if (![self simOwns:weights as:"weights"]) return false;
  for (MPSMatrix* m in weights)
    if (static_cast<SimGateMatrix*>(m)->_gradient) {
      violate("%s: matrices for gradients used as weights", name_of(self));
      return false;
    }
  return true;
}

- (void)encodeCopyWeightsToCommandBuffer:(id<MTLCommandBuffer>)cb
                                 weights:(NSArray<MPSMatrix*>*)weights
                                matrixId:(MPSRNNMatrixId)matrixId
                                  matrix:(MPSMatrix*)matrix
                 copyFromWeightsToMatrix:(BOOL)out
                            matrixOffset:(MTLOrigin)offset {
  KernelUse use(_busy, name_of(self));
  Place place{};
  if (![self simOwns:weights as:"weights"]) return;
  if (!place_of(*_cell, matrixId, place) || !_cell->gates[place.gate].has[place.part]) {
    violate("%s: matrix id %lu, which its descriptor has no source for", name_of(self), matrixId);
    return;
  }
  const Gate& gate = _cell->gates[place.gate];
  const auto first = static_cast<size_t>(gate.at[place.part]);
  const auto rows = static_cast<size_t>(_cell->out);
  const auto columns = static_cast<size_t>(gate.at[place.part + 1]) - first;
  // Biases and diagonals are rows there.
  const bool row = place.part == kBias || (place.part == kMemory && gate.diagonal);
  if (offset.x + (row ? 1 : rows) > matrix.rows ||
      offset.y + (row ? rows : columns) > matrix.columns) {
    violate("%s: matrix id %lu does not fit a matrix of %lux%lu", name_of(self), matrixId,
            matrix.rows, matrix.columns);
    return;
  }
  auto* own = static_cast<SimGateMatrix*>(weights[place.gate]);
  if (!out) ++*own->_changes;
  const MatrixView packed = view(own), plain = view(matrix, offset);
  const MatrixView &from = out ? packed : plain, &to = out ? plain : packed;
  encode(cb, name_of(self), self.label, {from.store}, {to.store}, [=] {
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c) {
        const size_t y = row ? 0 : r, x = row ? r : c;
        if (out)
          plain.set(y, x, packed.get(r, first + c));
        else
          packed.set(r, first + c, plain.get(y, x));
      }
  });
}

- (void)encodeForwardSequenceToCommandBuffer:(id<MTLCommandBuffer>)cb
                              sourceMatrices:(NSArray<MPSMatrix*>*)sources
                         destinationMatrices:(NSArray<MPSMatrix*>*)destinations
                              trainingStates:(NSMutableArray<MPSRNNMatrixTrainingState*>*)states
                                     weights:(NSArray<MPSMatrix*>*)weights {
  [self encodeForwardSequenceToCommandBuffer:cb
                              sourceMatrices:sources
                               sourceOffsets:nullptr
                         destinationMatrices:destinations
                          destinationOffsets:nullptr
                              trainingStates:states
                         recurrentInputState:nil
                       recurrentOutputStates:nil
                                     weights:weights];
}
- (void)encodeForwardSequenceToCommandBuffer:(id<MTLCommandBuffer>)cb
                              sourceMatrices:(NSArray<MPSMatrix*>*)sources
                               sourceOffsets:(NSUInteger*)sourceOffsets
                         destinationMatrices:(NSArray<MPSMatrix*>*)destinations
                          destinationOffsets:(NSUInteger*)destinationOffsets
                              trainingStates:(NSMutableArray<MPSRNNMatrixTrainingState*>*)states
                         recurrentInputState:(MPSRNNRecurrentMatrixState*)before
                       recurrentOutputStates:(NSMutableArray<MPSRNNRecurrentMatrixState*>*)after
                                     weights:(NSArray<MPSMatrix*>*)weights {
  KernelUse use(_busy, name_of(self));
  if (before || after)
    [NSException raise:NSInvalidArgumentException format:@"stand-in: no recurrent states"];
  const Cell& cell = *_cell;
  if (![self simTakes:weights]) return;
  const Sequence x = sequence(self, sources, sourceOffsets, cell.in, "source");
  const Sequence y = sequence(self, destinations, destinationOffsets, cell.out, "destination");
  if (!x.fits || !y.fits) return;
  if (x.rows != y.rows || x.rows.empty()) {
    violate("%s: %lu sources and %lu destinations, or their rows, do not match", name_of(self),
            x.rows.size(), y.rows.size());
    return;
  }
  check_overlap(self, x, cell.in, y, cell.out);
  Stores kept;
  for (size_t t = 0; t < x.rows.size(); ++t) {
    MPSRNNMatrixTrainingState* s =
        [[MPSRNNMatrixTrainingState alloc] initWithSimDevice:self.device
                                               commandBuffer:_trainingStateIsTemporary ? cb : nil];
    s->_cell = _cell;
    s->_weights = (__bridge const void*)weights[0];
    s->_changes = changes_of(weights);
    s->_time = t;
    s->_rows = x.rows[t];
    kept.push_back([s simAddBuffer:static_cast<size_t>(cell.states() * x.rows[t] * cell.out) * 4]);
    [states addObject:s];
  }
  std::vector<MatrixView> packed;
  Stores reads = x.stores, writes = y.stores;
  for (MPSMatrix* m in weights) {
    packed.push_back(view(m));
    reads.push_back(packed.back().store);
  }
  writes.insert(writes.end(), kept.begin(), kept.end());
  encode(cb, name_of(self), self.label, without(reads, writes), writes,
         [=, held = _cell] { run_forward(*held, packed, x, y, kept); });
}

- (void)encodeGradientSequenceToCommandBuffer:(id<MTLCommandBuffer>)cb
                               forwardSources:(NSArray<MPSMatrix*>*)sources
                              sourceGradients:(NSArray<MPSMatrix*>*)gradients
                         destinationGradients:(NSArray<MPSMatrix*>*)destinations
                              weightGradients:(NSArray<MPSMatrix*>*)weightGradients
                               trainingStates:(NSArray<MPSRNNMatrixTrainingState*>*)states
                                      weights:(NSArray<MPSMatrix*>*)weights {
  [self encodeGradientSequenceToCommandBuffer:cb
                               forwardSources:sources
                         forwardSourceOffsets:nullptr
                              sourceGradients:gradients
                        sourceGradientOffsets:nullptr
                         destinationGradients:destinations
                           destinationOffsets:nullptr
                              weightGradients:weightGradients
                               trainingStates:states
                          recurrentInputState:nil
                        recurrentOutputStates:nil
                                      weights:weights];
}
- (void)encodeGradientSequenceToCommandBuffer:(id<MTLCommandBuffer>)cb
                               forwardSources:(NSArray<MPSMatrix*>*)sources
                         forwardSourceOffsets:(NSUInteger*)sourceOffsets
                              sourceGradients:(NSArray<MPSMatrix*>*)gradients
                        sourceGradientOffsets:(NSUInteger*)gradientOffsets
                         destinationGradients:(NSArray<MPSMatrix*>*)destinations
                           destinationOffsets:(NSUInteger*)destinationOffsets
                              weightGradients:(NSArray<MPSMatrix*>*)weightGradients
                               trainingStates:(NSArray<MPSRNNMatrixTrainingState*>*)states
                          recurrentInputState:(MPSRNNRecurrentMatrixState*)after
                        recurrentOutputStates:(NSMutableArray<MPSRNNRecurrentMatrixState*>*)before
                                      weights:(NSArray<MPSMatrix*>*)weights {
  KernelUse use(_busy, name_of(self));
  if (before || after)
    [NSException raise:NSInvalidArgumentException format:@"stand-in: no recurrent states"];
  const Cell& cell = *_cell;
  if (![self simTakes:weights]) return;
  if (weightGradients && ![self simOwns:weightGradients as:"weight gradients"]) return;
  const Sequence x = sequence(self, sources, sourceOffsets, cell.in, "source");
  const Sequence dy = sequence(self, gradients, gradientOffsets, cell.out, "source gradient");
  const Sequence dx = sequence(self, destinations, destinationOffsets, cell.in, "destination");
  if (!x.fits || !dy.fits || !dx.fits) return;
  if (x.rows != dy.rows || (destinations && x.rows != dx.rows) || states.count != x.rows.size()) {
    violate("%s: %lu sources, %lu source gradients, %lu destinations and %lu training states, or "
            "their rows, do not match",
            name_of(self), x.rows.size(), dy.rows.size(), dx.rows.size(), states.count);
    return;
  }
  for (size_t t = 0; t < x.rows.size(); ++t) {
    MPSRNNMatrixTrainingState* s = states[t];
    if (s->_cell != _cell || s->_time != t || s->_rows != x.rows[t] ||
        s->_weights != (__bridge const void*)weights[0] || s->_changes != changes_of(weights)) {
      violate("%s: training state %lu is of another layer, step or weights", name_of(self), t);
      return;
    }
  }
  check_states(self, cb, states, "read");
  check_overlap(self, x, cell.in, dx, cell.in);
  check_overlap(self, dy, cell.out, dx, cell.in);
  Stores kept;
  for (MPSState* s in states) kept.push_back(store_of(s->_resources.firstObject));
  std::vector<MatrixView> packed, by_weights;
  Stores reads = x.stores, writes = dx.stores;
  reads.insert(reads.end(), dy.stores.begin(), dy.stores.end());
  reads.insert(reads.end(), kept.begin(), kept.end());
  for (MPSMatrix* m in weights) {
    packed.push_back(view(m));
    reads.push_back(packed.back().store);
  }
  for (MPSMatrix* m in weightGradients) {
    by_weights.push_back(view(m));
    writes.push_back(by_weights.back().store);
  }
  encode(cb, name_of(self), self.label, without(reads, writes), writes,
         [=, held = _cell, adds = _accumulateWeightGradients] {
           run_gradient(*held, packed, x, dy, kept, dx, by_weights, adds);
         });
  consume_states(cb, states);
}
@end
